package importer

import (
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"skep/secrets"
)

// injection is one run of `op inject`.
type injection struct {
	template string // beside the Compose file
	content  []byte
	output   place
}

// place is a path on the node, or in a named volume.
type place struct{ volume, path string }

// within returns the rest of p below other.
func (p place) within(other place) (string, bool) {
	if p.volume != other.volume {
		return "", false
	}
	if p.path == other.path {
		return "", true
	}
	base := strings.TrimSuffix(other.path, "/") + "/"
	if other.path == "" {
		base = ""
	}
	return strings.CutPrefix(p.path, base)
}

// opInject puts references where jobs that run `op inject` put values.
func (im *importer) opInject() {
	for _, s := range im.services {
		if runsOp(s) {
			im.opJob(s)
		}
	}
	// Templates that a script turns into .env before the deploy.
	for _, name := range im.envFiles() {
		im.readTemplate(im.read(name))
	}
	for _, s := range im.live() {
		im.replaceVariables(s)
	}
}

func runsOp(s *service) bool {
	image := text(s.def.get("image"))
	command := strings.Join(append(strs(s.def.get("entrypoint")), strs(s.def.get("command"))...), " ")
	return strings.Contains(command, "inject") && (strings.Contains(image, "1password/op") || strings.Contains(command, "op inject"))
}

// envFiles are the .env and its templates.
func (im *importer) envFiles() []string {
	if im.Beside == nil {
		return nil
	}
	names, _ := fs.Glob(im.Beside, ".env*") // the pattern is sound
	return names
}

// readTemplate notes which variables a template for .env sets to references.
func (im *importer) readTemplate(content []byte) {
	for _, e := range envLines(content) {
		if value := text(e.value); secrets.HasReference(value) {
			im.references[e.key] = value
		}
	}
}

var (
	injectFlag  = regexp.MustCompile(`(?:^|\s)(-i|--in-file|-o|--out-file)[= ]\s*("[^"]*"|'[^']*'|[^\s;&|]+)`)
	injectStart = regexp.MustCompile(`\binject\b`)
)

// injections reads the commands of a job; why says what keeps them from being
// read.
func (im *importer) injections(s *service) (out []injection, why string) {
	command := strings.Join(append(strs(s.def.get("entrypoint")), strs(s.def.get("command"))...), " ")
	starts := injectStart.FindAllStringIndex(command, -1)
	for i, at := range starts {
		end := len(command)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		var in, to string
		for _, m := range injectFlag.FindAllStringSubmatch(command[at[1]:end], -1) {
			value := strings.Trim(m[2], `"'`)
			if strings.HasPrefix(m[1], "-i") || m[1] == "--in-file" {
				in = value
			} else {
				to = value
			}
		}
		if in == "" || to == "" {
			return nil, "its command does not name a template (-i) and an output (-o)"
		}
		template, ok := im.placeOf(s, in)
		if !ok || template.volume != "" {
			return nil, "its template " + in + " is no file beside the Compose file"
		}
		content := im.read(template.path)
		if content == nil {
			return nil, "there is no template " + template.path + " beside the Compose file"
		}
		if _, err := secrets.ParseTemplate(string(content)); err != nil {
			return nil, "its template " + template.path + " holds a reference that cannot be read: " + err.Error()
		}
		output, ok := im.placeOf(s, to)
		if !ok {
			return nil, "its output " + to + " stays in its own container"
		}
		out = append(out, injection{template.path, content, output})
	}
	if len(out) == 0 {
		return nil, "its command is not understood"
	}
	return out, ""
}

// placeOf finds where a path of the container is on the node.
func (im *importer) placeOf(s *service, inside string) (place, bool) {
	if dir := text(s.def.get("working_dir")); !path.IsAbs(inside) && dir != "" {
		inside = path.Join(dir, inside)
	}
	inside = path.Clean("/" + inside)
	configs, _ := s.def.get("configs").([]any)
	for _, c := range configs {
		source, target := text(c), ""
		if m, ok := c.(*mapping); ok {
			source, target = text(m.get("source")), text(m.get("target"))
		}
		if target == "" {
			target = "/" + source
		}
		if file := text(sub(im.values, "configs", source, "file")); file != "" && path.Clean(target) == inside {
			return nodePlace(file)
		}
	}
	mounts, _ := s.def.get("volumes").([]any)
	var best place
	length := -1
	for _, m := range mounts {
		source, target, _ := splitMount(m)
		target = path.Clean("/" + target)
		rest, ok := place{path: inside}.within(place{path: target})
		if target == "/" {
			rest, ok = strings.TrimPrefix(inside, "/"), true
		}
		if !ok || source == "" || len(target) <= length {
			continue
		}
		at, ok := nodePlace(im.resolve(source))
		if !ok {
			continue
		}
		at.path = path.Join(at.path, rest)
		best, length = at, len(target)
	}
	return best, length >= 0
}

// nodePlace reads the source of a mount.
func nodePlace(source string) (place, bool) {
	switch {
	case source == "" || strings.Contains(source, "$"):
		return place{}, false
	case strings.HasPrefix(source, "/"):
		return place{path: path.Clean(source)}, true
	case strings.HasPrefix(source, "."):
		clean := path.Clean(source)
		if clean == "." {
			clean = ""
		}
		return place{path: clean}, true
	case strings.Contains(source, "/"):
		return place{path: path.Clean(source)}, true
	}
	return place{volume: source}, true
}

// opJob lifts one job.
func (im *importer) opJob(s *service) {
	runs, why := im.injections(s)
	if why == "" && len(im.live()) == 1 {
		why = "it is all that the file has"
	}
	if why != "" {
		im.note(im.at(s), s.name, "op inject job "+s.name, why, "write the op:// references into environment or x-files of the services that read its output, and remove it")
		return
	}
	unread := ""
	for _, r := range runs {
		used := false
		if r.output == (place{path: ".env"}) {
			im.readTemplate(r.content)
			used = true
		}
		for _, o := range im.live() {
			if o != s {
				used = im.consume(o, r) || used
			}
		}
		if !used && unread == "" {
			unread = r.output.path
		}
	}
	if unread != "" {
		im.note(im.at(s), s.name, "op inject job "+s.name, "no service of the file reads its output "+unread, "write the op:// references where they are read, and remove it")
		return
	}
	s.gone = true
	im.lift(im.at(s), s.name, "op inject job "+s.name, "op:// references")
}

// consume gives a service that reads the output what the template says.
func (im *importer) consume(s *service, r injection) bool {
	found := im.consumeEnvFile(s, r)
	mounts, ok := s.def.get("volumes").([]any)
	if !ok {
		return found
	}
	var keep []any
	for i, m := range mounts {
		source, target, _ := splitMount(m)
		at, ok := nodePlace(im.resolve(source))
		rest, inside := r.output.within(at)
		if !ok || !inside {
			keep = append(keep, m)
			continue
		}
		target = path.Join(target, rest)
		files, _ := s.def.get("x-files").([]any)
		if !slices.Contains(files, any(r.template+":"+target)) {
			s.def.set("x-files", append(slices.Clone(files), r.template+":"+target))
		}
		im.lift(im.at(s, "volumes", itoa(i)), s.name, "output of op inject", "x-files")
		found = true
		if rest != "" { // a folder or a volume may hold more
			keep = append(keep, m)
			im.note(im.at(s, "volumes", itoa(i)), s.name, "mount of "+source, "it may hold other files than the output of op inject; it stays", "remove it if not")
		}
	}
	if found {
		s.def.setOrDelete("volumes", keep)
	}
	return found
}

// consumeEnvFile turns an env_file that op inject wrote into variables.
func (im *importer) consumeEnvFile(s *service, r injection) bool {
	entries, isList := s.def.get("env_file").([]any)
	if one, ok := s.def.get("env_file").(string); ok {
		entries, isList = []any{one}, false
	}
	var keep []any
	found := false
	for _, e := range entries {
		name := text(e)
		if m, ok := e.(*mapping); ok {
			name = text(m.get("path"))
		}
		name = im.resolve(name)
		if !strings.HasPrefix(name, "/") && !strings.HasPrefix(name, ".") {
			name = "./" + name
		}
		if at, ok := nodePlace(name); !ok || at != r.output {
			keep = append(keep, e)
			continue
		}
		found = true
		im.lift(im.at(s, "env_file"), s.name, "env_file of op inject", "environment")
		set := environment(s.def)
		for _, line := range envLines(r.content) {
			if !slices.ContainsFunc(set, func(e entry) bool { return e.key == line.key }) {
				setEnvironment(s.def, line.key, line.value)
			}
		}
	}
	if !found {
		return false
	}
	if len(keep) == 1 && !isList {
		s.def.set("env_file", keep[0])
	} else {
		s.def.setOrDelete("env_file", keep)
	}
	return true
}

// envLines reads the variables of a template for an env file.
func envLines(content []byte) []entry {
	var out []entry
	for line := range strings.Lines(string(content)) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "export ")
		key, value, ok := strings.Cut(line, "=")
		key = strings.TrimSpace(key)
		if !ok || !variableName.MatchString(key) {
			continue
		}
		value = strings.TrimSpace(value)
		if n := len(value); n > 1 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		if inner, ok := strings.CutPrefix(value, "{{"); ok {
			if inner, ok := strings.CutSuffix(inner, "}}"); ok && !strings.Contains(inner, "{{") {
				if _, err := secrets.ParseReference(strings.TrimSpace(inner)); err == nil {
					value = strings.TrimSpace(inner)
				}
			}
		}
		out = append(out, entry{key, value})
	}
	return out
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// replaceVariables writes references in place of variables that a template for
// .env gives them.
func (im *importer) replaceVariables(s *service) {
	if len(im.references) == 0 {
		return
	}
	for _, e := range slices.Clone(environment(s.def)) {
		value := text(e.value)
		if !strings.Contains(value, "$") {
			continue
		}
		replaced := value
		for _, name := range variables(value) {
			if ref, ok := im.references[name]; ok {
				replaced = im.substitute(replaced, name, ref)
			}
		}
		if replaced != value {
			at := im.at(s, im.environmentAt(s, e.key)...)
			setEnvironment(s.def, e.key, replaced)
			im.lift(at, s.name, "variable "+e.key, "op:// reference")
		}
	}
}

// substitute puts a reference in a variable's place: alone, or as a part of a
// template.
func (im *importer) substitute(value, variable, ref string) string {
	return interpolation.ReplaceAllStringFunc(value, func(v string) string {
		m := interpolation.FindStringSubmatch(v)
		switch {
		case v == "$$" || m[1]+m[4] != variable:
			return v
		case v != value && strings.HasPrefix(ref, "op://"):
			return "{{ " + ref + " }}"
		}
		return ref
	})
}
