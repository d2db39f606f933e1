package deploy

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// shown is a value for people. What somebody filled by hand may hold a secret:
// what its name or its own form makes likely is not shown.
func shown(path, value string, exists bool) string {
	switch {
	case !exists:
		return ""
	case value == "":
		return `""`
	case secretName(settingName(path)) && !isSecretFile(value), holdsSecret(value):
		return redacted
	}
	return value
}

// isSecretFile reports whether a value says where a secret is mounted.
func isSecretFile(value string) bool { return strings.HasPrefix(value, "/run/secrets/") }

// settingName is the name of a variable, label or option, empty for other paths.
func settingName(path string) string {
	for _, kind := range []string{"TaskTemplate.ContainerSpec.Env[", "Labels[", ".Options[", ".DriverOpts["} {
		if i := strings.LastIndex(path, kind); i >= 0 {
			return strings.TrimSuffix(path[i+len(kind):], "]")
		}
	}
	return ""
}

var (
	// secretParts make a secret of any word that contains them, the others of
	// what they are or end: "DBPASS" and "APIKEY", and not "KEYWORD".
	secretParts = []string{"PASSWORD", "PASSWD", "PASSPHRASE", "PWD", "SECRET", "TOKEN", "CREDENTIAL"}
	secretEnds  = []string{"PASS", "KEY", "KEYS", "AUTH"}
	secretWords = []string{"AUTHORIZATION", "DSN", "JWT", "PRIVATE", "SALT", "WEBHOOK"}
	plainWords  = []string{"BYPASS", "COMPASS", "OAUTH"}
)

// secretName reports whether what has this name is likely to be a secret.
func secretName(name string) bool {
	before := ""
	for _, word := range words(name) {
		ends := slices.ContainsFunc(secretEnds, func(end string) bool { return strings.HasSuffix(word, end) }) &&
			!slices.Contains(plainWords, word) && !(before == "FORWARD" && word == "AUTH") // a Caddy directive without a secret
		if ends || slices.Contains(secretWords, word) || slices.ContainsFunc(secretParts, func(part string) bool { return strings.Contains(word, part) }) {
			return true
		}
		before = word
	}
	return false
}

// words are the parts of a name in capitals, split at punctuation and where
// camelCase begins a word.
func words(name string) []string {
	var out strings.Builder
	last := ' '
	for _, r := range name {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			r = ' '
		}
		if unicode.IsUpper(r) && unicode.IsLower(last) {
			out.WriteByte(' ')
		}
		out.WriteRune(unicode.ToUpper(r))
		last = r
	}
	return strings.Fields(out.String())
}

var (
	// secretForm is a URL or the address of a database with a password, a header
	// that authorizes, a private key or the hash of a password.
	secretForm = regexp.MustCompile(`://[^/\s@]*:[^/\s@]+@|[^\s:/@"]:[^\s/@"]+@(?:tcp|unix)\(|(?i:authorization\W+(?:basic|bearer)\b|\bbearer\s+\S{8})|PRIVATE KEY-----|\$2[aby]\$\d\d\$`)
	// options are names with a value: assigned, as among the options of a mount,
	// or as the next word of a command line, which JSON may list.
	options = []*regexp.Regexp{
		regexp.MustCompile(`([A-Za-z0-9_.-]+)=["']?([^\s"',;]+)`),
		regexp.MustCompile(`--?([A-Za-z0-9_.-]+)(?:","|\s+["']?)([^\s"',;-][^\s"',;]*)`),
	}
)

// holdsSecret reports whether there is a secret somewhere in a value.
func holdsSecret(value string) bool {
	return secretForm.MatchString(value) || slices.ContainsFunc(options, func(option *regexp.Regexp) bool {
		return slices.ContainsFunc(option.FindAllStringSubmatch(value, -1), func(match []string) bool {
			return secretName(match[1]) && !isSecretFile(match[2])
		})
	})
}
