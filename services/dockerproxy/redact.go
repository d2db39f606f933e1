package dockerproxy

import (
	"encoding/base64"
	"encoding/json"
	"regexp"
	"strings"
	"unicode"
)

// Show says which values of Docker's answers a consumer may see. The zero Show
// hides them.
type Show struct {
	ConfigData  bool // of Swarm configs
	EnvValues   bool // of environment variables
	JoinTokens  bool // of the Swarm, with its unlock key
	LabelValues bool // of labels and options that look like secrets
}

// all reports whether answers need no rewriting.
func (s Show) all() bool { return s == Show{true, true, true, true} }

// mask stands in the place of a value.
const mask = "[redacted]"

// maskedData is what the data of a config decodes from.
var maskedData = base64.StdEncoding.EncodeToString([]byte(mask))

// place is what the position of a value in an answer makes of it.
type place int

const (
	plain    place = iota
	variable       // a string "NAME=value", or an object with Name and Value
	setting        // an entry of labels or options: its name decides
	hidden         // whatever it is
	data           // content in base64
	step           // a line of an image's history
	config         // an object that may have data
)

// inside is the place of what an array or an object holds. Keys are Docker's,
// at whatever depth: a service has its variables three levels down, twice.
func (s Show) inside(outer place, key string, kind string) place {
	switch {
	case outer == variable, outer == hidden:
		return outer
	case key == "Env":
		return s.unless(s.EnvValues, variable)
	case key == "JoinTokens":
		return s.unless(s.JoinTokens, hidden)
	case key == "Labels", key == "Options", key == "DriverOpts", key == "Config", key == "Attributes":
		return s.unless(s.LabelValues, setting)
	case key == "Spec" && kind == "configs":
		return s.unless(s.ConfigData, config)
	}
	return plain
}

// of is the place of a string in an object or an array.
func (s Show) of(outer place, key string) place {
	switch {
	case outer == hidden, outer == setting:
		return outer
	case outer == variable && key != "Name" && key != "Description":
		return variable
	case key == "Data" && outer == config:
		return data
	case key == "UnlockKey":
		return s.unless(s.JoinTokens, hidden)
	case key == "CreatedBy":
		return s.unless(s.EnvValues, step)
	}
	return plain
}

func (Show) unless(shown bool, p place) place {
	if shown {
		return plain
	}
	return p
}

// replace returns what a consumer sees of a string; key is that of its object,
// and empty in an array. A string too long to look at is whole only where its
// start decides.
func (p place) replace(key, value string, whole bool) string {
	switch p {
	case variable:
		if key != "" {
			return mask
		}
		name, _, ok := strings.Cut(value, "=")
		switch {
		case ok:
			return name + "=" + mask
		case !whole:
			return mask
		}
	case setting:
		if !whole || secretName(key) || holdsSecret(value) {
			return mask
		}
	case hidden:
		return mask
	case data:
		return maskedData
	case step:
		// Values of build arguments come first, those of ENV after it.
		if !whole || strings.HasPrefix(value, "|") || strings.Contains(value, "ENV ") {
			return mask
		}
	}
	return value
}

var (
	secretWords = map[string]bool{
		"apikey": true, "basicauth": true, "bearer": true, "credential": true, "credentials": true, "pass": true, "passphrase": true,
		"passwd": true, "password": true, "pwd": true, "secret": true, "secrets": true, "token": true, "tokens": true,
	}
	secretParts = []string{"apikey", "credential", "passphrase", "passwd", "password", "secret", "token"}
)

// secretName reports whether a label or option of this name is likely to hold
// a secret: "homepage.widget.key", "DB_PASSWORD", "splunk-token".
func secretName(name string) bool {
	if !mayBeSecret(name) {
		return false
	}
	last := ""
	for _, word := range words(name) {
		if secretWords[word] {
			return true
		}
		for _, part := range secretParts {
			if strings.Contains(word, part) {
				return true
			}
		}
		if last == "basic" && word == "auth" {
			return true
		}
		last = word
	}
	return last == "key"
}

// mayBeSecret is quick, and true for all names that secretName looks for.
func mayBeSecret(name string) bool {
	for i := range len(name) - 2 {
		for _, hint := range hints[name[i]|0x20] {
			if name[i+1]|0x20 == hint[1] && len(name)-i >= len(hint) && strings.EqualFold(name[i:i+len(hint)], hint) {
				return true
			}
		}
	}
	return false
}

// hints stand under their first letter.
var hints = [256][]string{
	'a': {"auth"}, 'b': {"bearer"}, 'c': {"credential"}, 'k': {"key"}, 'p': {"pass", "pwd"}, 's': {"secret"}, 't': {"token"},
}

// words are the parts of a name in lower case, split at punctuation and where
// camelCase begins a word.
func words(name string) []string {
	var b strings.Builder
	previous := ' '
	for _, r := range name {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			r = ' '
		case unicode.IsUpper(r) && unicode.IsLower(previous):
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToLower(r))
		previous = r
	}
	return strings.Fields(b.String())
}

var (
	userInfo = regexp.MustCompile(`://[^/@\s:]*:[^/@\s]+@`)
	// mountPassword is an entry of a mount's options, "username=a,password=b".
	mountPassword = regexp.MustCompile(`(?i)(^|[\s,;&?])(pass|passwd|password|pwd|secret|token)=[^\s,]`)
)

func holdsSecret(value string) bool {
	// Hardly a value gets as far as the expressions, which are slow.
	return strings.Contains(value, "@") && userInfo.MatchString(value) || strings.Contains(value, "=") && mountPassword.MatchString(value)
}

// quote is a JSON string without the escapes that HTML needs.
func quote(s string) []byte {
	if isSimple(s) {
		return []byte(`"` + s + `"`)
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return []byte(`"` + mask + `"`)
	}
	return []byte(strings.TrimSuffix(b.String(), "\n"))
}

// isSimple: a JSON string of s has no escapes.
func isSimple(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
