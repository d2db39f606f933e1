package importer

import (
	"path"
	"slices"
	"strings"
)

// companions collects what the stack file needs beside it: the files that it
// names, and the variables of .env that it still uses.
func (im *importer) companions() {
	im.result.Files = map[string][]byte{}
	add := func(name string) {
		name = path.Clean(im.resolve(name))
		content := im.rewritten[name]
		if content == nil {
			content = im.read(name)
		}
		if content != nil && name != ".env" {
			im.result.Files[name] = content
		}
	}
	for _, s := range im.live() {
		files, _ := s.def.get("x-files").([]any)
		for _, f := range files {
			if source, _, ok := strings.Cut(text(f), ":"); ok {
				add(source)
			}
			add(text(sub(f, "source")))
		}
		for _, f := range envFileNames(s.def) {
			add(f)
		}
		if extends, ok := s.def.get("extends").(*mapping); ok {
			add(text(extends.get("file")))
		}
	}
	configs, _ := im.values.get("configs").(*mapping)
	for _, e := range configs.all() {
		add(text(sub(e.value, "file")))
	}
	for _, f := range strs(im.values.get("include")) {
		add(f)
	}
	im.dotEnv()
}

// dotEnv keeps the lines of .env whose variables the stack file uses.
func (im *importer) dotEnv() {
	used := variables(string(im.result.Stack))
	var keep []string
	for line := range strings.Lines(string(im.read(".env"))) {
		name, _, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		if ok && slices.Contains(used, strings.TrimSpace(name)) {
			keep = append(keep, strings.TrimRight(line, "\r\n"))
		}
	}
	if len(keep) == 0 {
		return
	}
	content := []byte(strings.Join(keep, "\n") + "\n")
	again := parseEnv(content)
	if slices.ContainsFunc(used, func(name string) bool { return again[name] != im.env[name] }) {
		content = im.read(".env") // values of several lines, or made of each other
	}
	im.result.Files[".env"] = content
}

// envFileNames are the files of env_file, in any of its forms.
func envFileNames(def *mapping) []string {
	var out []string
	for _, f := range asList(def.get("env_file")) {
		if m, ok := f.(*mapping); ok {
			f = m.get("path")
		}
		out = append(out, text(f))
	}
	return out
}
