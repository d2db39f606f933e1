package dockerproxy

import (
	"encoding/base64"
	"encoding/json"
	"math/bits"
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
func (s Show) inside(outer place, key []byte, kind string) place {
	switch {
	case outer == variable, outer == hidden:
		return outer
	}
	switch string(key) {
	case "Env":
		return s.unless(s.EnvValues, variable)
	case "JoinTokens":
		return s.unless(s.JoinTokens, hidden)
	case "Labels", "Options", "DriverOpts", "Config", "Attributes":
		return s.unless(s.LabelValues, setting)
	case "Spec":
		return s.unless(s.ConfigData || kind != "configs", config)
	}
	return plain
}

// of is the place of a string in an object or an array.
func (s Show) of(outer place, key []byte) place {
	switch {
	case outer == hidden, outer == setting:
		return outer
	case outer == variable && string(key) != "Name" && string(key) != "Description":
		return variable
	case string(key) == "Data" && outer == config:
		return data
	case string(key) == "UnlockKey":
		return s.unless(s.JoinTokens, hidden)
	case string(key) == "CreatedBy":
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
		// The labels of an engine are a list of "name=value".
		if name, _, ok := strings.Cut(value, "="); key == "" && ok && secretName(name) && !holdsSecret(name) {
			return name + "=" + mask
		}
		if !whole || secretName(key) || holdsSecret(value) {
			return mask
		}
	case hidden:
		return mask
	case data:
		return maskedData
	case step:
		// Values of build arguments come first, those of ENV and ARG after it.
		if !whole || strings.HasPrefix(value, "|") || strings.HasPrefix(value, "RUN |") ||
			strings.Contains(value, "ENV ") || strings.Contains(value, "ARG ") || strings.Contains(value, "LABEL ") && mayBeSecret(value) {
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
	var one, two uint8 // the hints of which one or two letters have come
	for i := range len(name) {
		b := name[i]
		begun := two & letters[2][b]
		one, two = letters[0][b], one&letters[1][b]
		for ; begun != 0; begun &= begun - 1 {
			hint := hints[bits.TrailingZeros8(begun)]
			if rest := name[i-2:]; len(rest) >= len(hint) && strings.EqualFold(rest[:len(hint)], hint) {
				return true
			}
		}
	}
	return false
}

// hints are in every name that secretName looks for.
var hints = []string{"auth", "bearer", "credential", "key", "pass", "pwd", "secret", "token"}

// letters have the hints, a bit for each, whose first, second and third letter
// is the index.
var letters = func() (at [3][256]uint8) {
	for i, hint := range hints {
		for n := range at {
			at[n][hint[n]] |= 1 << i
			at[n][hint[n]-'a'+'A'] |= 1 << i
		}
	}
	return at
}()

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
	return mayHoldSecret(value) && (userInfo.MatchString(value) || mountPassword.MatchString(value))
}

// mayHoldSecret is quick, and true for all values that holdsSecret looks for:
// hardly one gets as far as the expressions, which are slow.
func mayHoldSecret(value string) bool {
	for i := 1; i < len(value); i++ {
		if value[i] == '=' && endsSecret[value[i-1]] {
			return true
		}
	}
	_, after, ok := strings.Cut(value, "://")
	return ok && strings.Contains(after, "@")
}

// endsSecret are the bytes that stand before "=" in what mountPassword matches.
// A letter beyond ASCII may be one of its letters in another case.
var endsSecret = func() (ends [256]bool) {
	for _, b := range []byte("sdtnSDTN") {
		ends[b] = true
	}
	for b := 0x80; b < len(ends); b++ {
		ends[b] = true
	}
	return ends
}()

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
