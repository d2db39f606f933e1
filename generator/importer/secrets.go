package importer

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"skep/generator/check"
	"skep/secrets"
)

// literal is what a value says besides its variables; a default counts.
func (im *importer) literal(value string) string {
	return interpolation.ReplaceAllStringFunc(value, func(v string) string {
		m := interpolation.FindStringSubmatch(v)
		if v == "$$" {
			return "$"
		}
		if strings.HasSuffix(m[2], "-") {
			return m[3]
		}
		return ""
	})
}

// environmentSecrets keeps secrets out of the stack file, and out of the
// bundle those that .env holds.
func (im *importer) environmentSecrets(s *service) {
	for _, e := range slices.Clone(environment(s.def)) {
		value := text(e.value)
		if secrets.HasReference(value) {
			continue
		}
		at := im.at(s, im.environmentAt(s, e.key)...)
		if check.LooksSecret(e.key, im.literal(value)) {
			ref := im.referenceFor(s, e.key, im.literal(value))
			setEnvironment(s.def, e.key, ref)
			im.note(at, s.name, "variable "+e.key, "its value looks like a secret and was not copied", "store it as "+ref+", or write the reference of the item that has it")
			continue
		}
		for _, name := range variables(value) {
			whole := slices.Contains([]string{"$" + name, "${" + name + "}"}, interpolation.ReplaceAllString(value, "$${$1$4}"))
			if !im.secretVariable(name, name) && (!whole || !im.secretVariable(e.key, name)) {
				continue
			}
			ref := im.placeholder("", name)
			value = im.substitute(value, name, ref)
			im.note(at, s.name, "variable "+e.key, "the variable "+name+" looks like a secret, and a bundle would hold it in clear", "store it as "+ref+", or write the reference of the item that has it")
		}
		if value != text(e.value) {
			setEnvironment(s.def, e.key, value)
		}
	}
	for _, key := range []string{"command", "entrypoint"} {
		for _, arg := range strs(s.def.get(key)) {
			if m := secretFlag.FindStringSubmatch(arg); m != nil && check.LooksSecret(m[1], im.literal(m[2])) {
				im.note(im.at(s, key), s.name, "flag "+m[1], "its value looks like a secret, and a command line has no references", "give it in a variable or a file, with an op:// reference")
			}
		}
	}
}

// secretVariable reports whether a variable of .env is a secret, by the name
// that it is used under. One that is set elsewhere is known by its name alone.
func (im *importer) secretVariable(as, name string) bool {
	if value, ok := im.env[name]; ok {
		return check.LooksSecret(as, value)
	}
	return check.IsSecretName(as)
}

var secretFlag = regexp.MustCompile(`--?([A-Za-z][A-Za-z0-9_.-]*)[= ]([^\s]+)`)

// variables are the names that a value interpolates.
func variables(value string) []string {
	var out []string
	for _, m := range interpolation.FindAllStringSubmatch(value, -1) {
		if name := cmp.Or(m[1], m[4]); name != "" {
			out = append(out, name)
		}
	}
	return out
}

// placeholder is a reference for a value that somebody has to store. Without
// a service it belongs to the whole stack.
func (im *importer) placeholder(service, name string) string {
	fit := func(v string) string {
		return cmp.Or(strings.Trim(regexp.MustCompile(`[^a-z0-9_.-]+`).ReplaceAllString(strings.ToLower(v), "-"), "-."), "value")
	}
	return "op://" + im.vault() + "/" + fit(strings.TrimSuffix(string(im.result.Name)+"-"+service, "-")) + "/" + fit(name)
}

var vaultOf = regexp.MustCompile(`op://([A-Za-z0-9_.-]+)/`)

// vault is the vault that the file or the cluster names already.
func (im *importer) vault() string {
	for _, line := range im.doc.lines {
		if m := vaultOf.FindStringSubmatch(line); m != nil {
			return strings.ToLower(m[1])
		}
	}
	for _, name := range im.envFiles() {
		if m := vaultOf.FindSubmatch(im.read(name)); m != nil {
			return strings.ToLower(string(m[1]))
		}
	}
	if im.Cluster != nil {
		for _, z := range im.Cluster.Zones {
			if z.TLS.Token != nil {
				return z.TLS.Token.Vault
			}
		}
	}
	return "homelab"
}

// files turns configs that are files beside the stack file into x-files.
func (im *importer) files(s *service) {
	configs, ok := s.def.get("configs").([]any)
	if !ok {
		return
	}
	files, _ := s.def.get("x-files").([]any)
	files = slices.Clone(files)
	var keep []any
	for i, c := range configs {
		at := im.at(s, "configs", itoa(i))
		use, _ := c.(*mapping)
		source := text(c)
		if use != nil {
			source = text(use.get("source"))
		}
		def, _ := sub(im.values, "configs", source).(*mapping)
		file, why := im.configFile(source, def, use)
		if why != "" {
			keep = append(keep, c)
			im.note(at, s.name, "config "+source, why, "")
			continue
		}
		if file == nil {
			keep = append(keep, c)
			continue
		}
		files = append(files, file)
		im.lift(at, s.name, "config "+source, "x-files")
	}
	if len(files) > 0 {
		s.def.set("x-files", files)
	}
	s.def.setOrDelete("configs", keep)
}

// configFile is a config as x-files says it; nil leaves it as it is.
func (im *importer) configFile(source string, def, use *mapping) (any, string) {
	if def == nil || def.get("external") != nil {
		return nil, ""
	}
	if def.has("template_driver") || def.has("driver") {
		return nil, "Swarm fills it in as a template; it stays as a config"
	}
	target := text(use.get("target"))
	if target == "" {
		target = "/" + source
	}
	m := &mapping{}
	switch file := text(def.get("file")); {
	case file != "" && (path.IsAbs(file) || strings.HasPrefix(path.Clean(file), "..")):
		return nil, "its file is outside of the project; it stays as a config"
	case file != "":
		m.set("source", path.Clean(file))
	case text(def.get("content")) != "":
		m.set("content", def.get("content"))
	default:
		return nil, ""
	}
	if !path.IsAbs(target) {
		return nil, "its target is not an absolute path; it stays as a config"
	}
	m.set("target", target)
	permissions(m, use)
	if from := text(m.get("source")); m.len() == 2 && from != "" && !strings.Contains(from, ":") && !strings.Contains(from, "$") {
		return from + ":" + target, ""
	}
	return m, ""
}

// permissions takes over who may read a file.
func permissions(m, use *mapping) {
	for _, key := range []string{"mode", "uid", "gid"} {
		switch v := use.get(key).(type) {
		case nil:
		case int:
			if key == "mode" {
				m.set(key, fmt.Sprintf("%04o", v))
			} else {
				m.set(key, fmt.Sprint(v))
			}
		default:
			m.set(key, text(v))
		}
	}
}

// envFileSecrets puts references into the environment for the secrets of an
// env_file, and leaves them out of its copy.
func (im *importer) envFileSecrets(s *service) {
	for _, name := range envFileNames(s.def) {
		file := path.Clean(im.resolve(name))
		var keep strings.Builder
		found := false
		for line := range strings.Lines(string(im.read(file))) {
			set := envLines([]byte(line))
			if len(set) != 1 || secrets.HasReference(text(set[0].value)) || !check.LooksSecret(set[0].key, text(set[0].value)) {
				keep.WriteString(line)
				continue
			}
			found = true
			key := set[0].key
			ref := im.referenceFor(s, key, text(set[0].value))
			if !slices.ContainsFunc(environment(s.def), func(e entry) bool { return e.key == key }) {
				setEnvironment(s.def, key, ref)
			}
			im.note(im.at(s, "env_file"), s.name, "env_file "+name, key+" looks like a secret and was not copied", "store it as "+ref+", or write the reference of the item that has it")
		}
		if found {
			im.rewritten[file] = []byte(keep.String())
		}
	}
}

// referenceFor is a placeholder for a value; services that share a password
// share its item.
func (im *importer) referenceFor(s *service, name, value string) string {
	ref, ok := im.stored[value]
	if !ok {
		ref = im.placeholder(s.name, name)
		im.stored[value] = ref
	}
	return ref
}

// topConfigs takes out configs that nobody names now.
func (im *importer) topConfigs() {
	declared, ok := im.values.get("configs").(*mapping)
	if !ok {
		return
	}
	for _, e := range slices.Clone(declared.entries) {
		lifted := slices.ContainsFunc(im.result.Lifted, func(l Lift) bool { return l.From == "config "+e.key })
		if lifted && !slices.ContainsFunc(im.live(), func(s *service) bool { return s.namesConfig(e.key) }) {
			declared.delete(e.key)
		}
	}
	im.values.setOrDelete("configs", declared)
}

func (s *service) namesConfig(name string) bool {
	configs, _ := s.def.get("configs").([]any)
	return slices.ContainsFunc(configs, func(c any) bool {
		if m, ok := c.(*mapping); ok {
			return text(m.get("source")) == name
		}
		return text(c) == name
	})
}
