package importer

import (
	"maps"
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

// dotEnv keeps of .env what the stack file uses: variables in its text, and all
// but the secrets where a service has it as env_file.
func (im *importer) dotEnv() {
	names := variables(string(im.result.Stack))
	source := im.read(".env")
	whole := slices.ContainsFunc(im.live(), func(s *service) bool {
		return slices.ContainsFunc(envFileNames(s.def), func(f string) bool { return path.Clean(im.resolve(f)) == ".env" })
	})
	if whole {
		if kept, ok := im.rewritten[".env"]; ok {
			source = kept
		}
		names = slices.AppendSeq(names, maps.Keys(parseEnv(source)))
	}
	names = slices.DeleteFunc(names, func(name string) bool { _, ok := im.env[name]; return !ok })
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 {
		return
	}
	var lines []string
	for line := range strings.Lines(string(im.read(".env"))) {
		name, _, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		if ok && slices.Contains(names, strings.TrimSpace(name)) {
			lines = append(lines, strings.TrimRight(line, "\r\n"))
		}
	}
	again := parseEnv([]byte(strings.Join(lines, "\n")))
	if slices.ContainsFunc(names, func(name string) bool { return again[name] != im.env[name] }) {
		// Values of several lines, or made of others.
		lines = lines[:0]
		for _, name := range names {
			lines = append(lines, name+"="+quoteEnv(im.env[name]))
		}
	}
	im.result.Files[".env"] = []byte(strings.Join(lines, "\n") + "\n")
}

// quoteEnv writes a value so that .env holds it as it is.
func quoteEnv(value string) string {
	if !strings.Contains(value, "'") {
		return "'" + value + "'"
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "\n", `\n`, "\r", `\r`).Replace(value) + `"`
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
