package importer

import (
	"bytes"
	"cmp"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
)

// read returns a file beside the Compose file, nil if there is none that
// Compose would take.
func (im *importer) read(name string) []byte {
	if im.Beside == nil || !fs.ValidPath(name) {
		return nil
	}
	f, err := im.Beside.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > MaxFileSize {
		return nil
	}
	content, err := io.ReadAll(io.LimitReader(f, MaxFileSize))
	if err != nil {
		return nil
	}
	return content
}

// readEnv reads the .env beside the Compose file. A file that Compose cannot
// read sets nothing here; the loader speaks of it.
func (im *importer) readEnv() map[string]string {
	return parseEnv(im.read(".env"))
}

func parseEnv(content []byte) map[string]string {
	env, err := dotenv.ParseWithLookup(bytes.NewReader(content), func(string) (string, bool) { return "", false })
	if err != nil {
		return nil
	}
	return env
}

// interpolation is a variable in a Compose file.
// https://docs.docker.com/reference/compose-file/interpolation/
var interpolation = regexp.MustCompile(`\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(?:(:?[-?+])([^}]*))?\}|\$([A-Za-z_][A-Za-z0-9_]*)`)

// resolve fills in the variables that .env sets or that have a default; the
// others stay.
func (im *importer) resolve(s string) string {
	if !strings.Contains(s, "$") {
		return s
	}
	return interpolation.ReplaceAllStringFunc(s, func(v string) string {
		if v == "$$" {
			return "$"
		}
		m := interpolation.FindStringSubmatch(v)
		value, ok := im.env[cmp.Or(m[1], m[4])]
		switch {
		case ok && (value != "" || !strings.HasPrefix(m[2], ":")):
			return value
		case strings.HasSuffix(m[2], "-"):
			return m[3]
		}
		return v
	})
}

// variable is a variable of the service's environment, resolved.
func (im *importer) variable(s *service, name string) string {
	for _, e := range environment(s.def) {
		if e.key == name {
			return im.resolve(text(e.value))
		}
	}
	return ""
}

// environment is a service's environment in either form.
func environment(def *mapping) []entry {
	switch env := def.get("environment").(type) {
	case *mapping:
		return env.entries
	case []any:
		var out []entry
		for _, item := range env {
			key, value, ok := strings.Cut(text(item), "=")
			e := entry{key: key}
			if ok {
				e.value = value
			}
			out = append(out, e)
		}
		return out
	}
	return nil
}

// setEnvironment changes, adds or, with nil, removes a variable.
func setEnvironment(def *mapping, name string, value any) {
	switch env := def.get("environment").(type) {
	case *mapping:
		if value == nil {
			env.delete(name)
		} else {
			env.set(name, value)
		}
		def.setOrDelete("environment", env)
	case []any:
		i := slices.IndexFunc(env, func(item any) bool {
			key, _, _ := strings.Cut(text(item), "=")
			return key == name
		})
		env = slices.Clone(env)
		switch {
		case i >= 0 && value == nil:
			env = slices.Delete(env, i, i+1)
		case i >= 0:
			env[i] = name + "=" + text(value)
		case value != nil:
			env = append(env, name+"="+text(value))
		}
		def.setOrDelete("environment", env)
	default:
		if value != nil {
			m := &mapping{}
			m.set(name, value)
			def.set("environment", m)
		}
	}
}

// environmentAt is where a variable stands.
func (im *importer) environmentAt(s *service, name string) []string {
	if items, ok := s.def.get("environment").([]any); ok {
		for i, item := range items {
			if key, _, _ := strings.Cut(text(item), "="); key == name {
				return []string{"environment", itoa(i)}
			}
		}
	}
	return []string{"environment", name}
}
