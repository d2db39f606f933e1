package frame

import (
	"errors"
	"regexp"
	"strings"
)

// places are positions in a Caddyfile that nobody sees.
var places = regexp.MustCompile(`(,? at Caddyfile:\d+)|(Caddyfile:\d+(?: \(import [^)]*\))?(?:: | - ))|( import chain:? \[[^\]]*\])`)

// steps are the levels of Caddy's JSON that an error went through.
var steps = regexp.MustCompile(`^(?:loading [^:]*|setting up [^:]*|server \w+|route \d+|position \d+|module(?: name)? '[^']*'|provision (?:http|tls)|provision http\.handlers\.subroute|provisioning automation policy \d+|parsing caddyfile tokens for '[^']*'): `)

// Plain leaves out of Caddy's error what speaks of files and levels that
// nobody has seen.
func Plain(err error) error {
	text := places.ReplaceAllString(err.Error(), "")
	for {
		rest := steps.ReplaceAllString(text, "")
		if rest == text {
			break
		}
		text = rest
	}
	return errors.New(strings.TrimPrefix(text, "provision "))
}
