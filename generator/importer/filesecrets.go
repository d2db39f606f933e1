package importer

import (
	"path"
	"slices"
	"strings"
)

// fileSecrets puts references in the place of Swarm secrets whose values come
// from this machine: in the variable that names the secret's file, else as a
// file of the service.
func (im *importer) fileSecrets(s *service) {
	uses, ok := s.def.get("secrets").([]any)
	if !ok {
		return
	}
	var keep []any
	for i, u := range uses {
		use, _ := u.(*mapping)
		source := text(u)
		if use != nil {
			source = text(use.get("source"))
		}
		if !im.isFileSecret(source) {
			keep = append(keep, u)
			continue
		}
		target := text(use.get("target"))
		if target == "" {
			target = source
		}
		target = inSecrets(target)
		ref := im.placeholder("", source)
		at := im.at(s, "secrets", itoa(i))
		to := "environment"
		if name, ok := im.namesFile(s, target); ok {
			setEnvironment(s.def, name, ref)
		} else {
			to = "x-files"
			m := &mapping{}
			m.set("content", "{{ "+ref+" }}")
			m.set("target", target)
			permissions(m, use)
			s.def.set("x-files", append(asList(s.def.get("x-files")), m))
		}
		im.lift(at, s.name, "secret "+source, to)
		im.noteOnce(im.doc.at("secrets", source), "secret "+source, "its value comes from this machine and was not copied", "store it as "+ref+", or write the reference of the item that has it")
	}
	s.def.setOrDelete("secrets", keep)
}

// inSecrets is where Swarm puts a secret.
func inSecrets(target string) string {
	if path.IsAbs(target) {
		return target
	}
	return "/run/secrets/" + target
}

func (im *importer) isFileSecret(name string) bool {
	def, _ := sub(im.values, "secrets", name).(*mapping)
	return def != nil && (def.get("external") == nil || def.get("external") == false) && !def.has("driver") && !def.has("template_driver")
}

// namesFile finds the variable that names a secret's file, in a way that Skep
// gives a path to.
func (im *importer) namesFile(s *service, target string) (string, bool) {
	for _, e := range environment(s.def) {
		asks := strings.HasSuffix(e.key, "_FILE") || strings.HasPrefix(e.key, "FILE__") || strings.HasSuffix(e.key, "__FILE")
		if asks && path.Clean(im.resolve(text(e.value))) == target {
			return e.key, true
		}
	}
	return "", false
}

// topSecrets takes out the secrets that have references now.
func (im *importer) topSecrets() {
	declared, ok := im.values.get("secrets").(*mapping)
	if !ok {
		return
	}
	for _, e := range slices.Clone(declared.entries) {
		if im.isFileSecret(e.key) {
			declared.delete(e.key)
		}
	}
	im.values.setOrDelete("secrets", declared)
}
