package check

import (
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
)

var (
	secretWord = regexp.MustCompile(`PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKENS?(_|$)|(API|APP|ACCESS|PRIVATE|ENCRYPTION|SIGNING|AUTH|MASTER|LICENSE)_?KEY|CREDENTIAL|(^|_)(PASS|PWD)$`)
	// aboutSecret ends names that speak of a secret and hold none.
	aboutSecret = regexp.MustCompile(`_(FILE|PATH|DIR|FOLDER|URL|URI|HOST|ENDPOINT|ISSUER|AUDIENCE|NAME|USER|USERNAME|ID|TYPE|HEADER|FIELD|PREFIX|PROVIDER|BACKEND|STORE|SOURCE|ALGORITHM|ALG|ENCRYPTION|POLICY|MODE|FORMAT|REGEX|LENGTH|SIZE|COUNT|LIMIT|AGE|TTL|LIFETIME|DURATION|TIMEOUT|INTERVAL|ENABLED|DISABLED|REQUIRED|EXPIR\w*)$`)
)

// LooksSecret reports whether plaintext-secret would find a value, by its shape
// or by the name that it has.
func LooksSecret(name, value string) bool {
	_, shaped := shapeOf(value)
	return shaped || IsSecretName(name) && judge(value, name) != harmless
}

// IsSecretName reports whether a variable is called like a secret.
func IsSecretName(name string) bool {
	name = strings.Map(func(r rune) rune {
		if r == '-' || r == '.' || r == ' ' {
			return '_'
		}
		return r
	}, strings.ToUpper(name))
	return !strings.HasPrefix(name, "FILE__") && secretWord.MatchString(name) && !aboutSecret.MatchString(name)
}

// verdict is what a value looks like that is called like a secret.
type verdict int

const (
	harmless verdict = iota
	suspicious
	random
	knownDefault
)

// defaults are passwords of examples and of documentation, as letters and
// digits alone.
var defaults = []string{
	"123456", "12345678", "123456789", "1234567890", "admin", "admin123", "adminadmin", "administrator", "default", "demo", "dev", "development",
	"example", "examplepassword", "grafana", "guest", "hunter2", "insecure", "letmein", "mariadb", "minio", "minioadmin", "minio123", "mongo",
	"mypassword", "mysecret", "mysecretpassword", "mysql", "pass", "passw0rd", "password", "password1", "password123", "postgres", "qwerty",
	"rabbitmq", "redis", "root", "secret", "secret123", "secretkey", "supersecret", "supersecretpassword", "test", "test123", "testing", "todo", "toor",
	"topsecret", "user", "verysecret", "welcome",
}

// placeholders stand anywhere in values that were to be replaced.
var placeholders = []string{"changeme", "changeit", "changethis", "replaceme", "replacethis", "yourpassword", "yoursecret", "yourtoken", "yourapikey", "insertyour"}

var (
	smallNumber = regexp.MustCompile(`^[+-]?\d{1,5}(\.\d+)?$`)
	boolean     = regexp.MustCompile(`^(?i:true|false|yes|no|on|off|none|null|nil|enabled?|disabled?|required|optional|never|always|auto)$`)
	longSpan    = regexp.MustCompile(`^\d+ ?(?i:d|w|y|days?|weeks?|months?|years?|hours?|minutes?|min|seconds?|sec)$`)
	url         = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`)
	hostName    = regexp.MustCompile(`^(?:[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?\.)+[a-z]{2,12}(?::\d{1,5})?$`)
	folder      = regexp.MustCompile(`^\.{0,2}(?:/[\w.@%-]{1,40})+/?$`)
)

// judge looks at the value of something that is called like a secret. names
// are words that make a poor password: the user's, the service's.
func judge(value string, names ...string) verdict {
	value = strings.TrimSpace(value)
	switch {
	case value == "", !isValue(value), smallNumber.MatchString(value), boolean.MatchString(value), longSpan.MatchString(value),
		url.MatchString(value), hostName.MatchString(value):
		return harmless
	case folder.MatchString(value) && (strings.Count(value, "/") > 1 || entropy(value) < 3.5):
		return harmless
	}
	if _, err := time.ParseDuration(value); err == nil {
		return harmless
	}
	plain := strings.Join(words(value), "")
	for _, name := range names {
		if plain == strings.Join(words(name), "") {
			return knownDefault
		}
	}
	if slices.Contains(defaults, plain) || slices.ContainsFunc(placeholders, func(s string) bool { return strings.Contains(plain, s) }) {
		return knownDefault
	}
	if isRandom(value) {
		return random
	}
	return suspicious
}

// isRandom tells generated values from words. Words of English have some 3
// bits a character at 20 characters and no digits; 32 random hexadecimal digits
// have 3.6 or more, 16 random letters and digits 3.5 or more.
func isRandom(s string) bool {
	bits := entropy(s)
	switch {
	case len(s) >= 20:
		return bits >= 3.0
	case len(s) >= 12:
		return bits >= 3.0 && hasDigit(s)
	}
	return len(s) >= 8 && bits >= 2.75 && hasDigit(s) && strings.ToLower(s) != s && strings.ToUpper(s) != s
}

// entropy is Shannon's, in bits a byte.
func entropy(s string) float64 {
	var count [256]int
	for i := range len(s) {
		count[s[i]]++
	}
	bits := 0.0
	for _, n := range count {
		if n > 0 {
			p := float64(n) / float64(len(s))
			bits -= p * math.Log2(p)
		}
	}
	return bits
}
