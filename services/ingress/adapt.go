package ingress

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	_ "skep/services/ingress/modules" // the Caddyfile adapter and every directive
)

// caddyMu serialises what touches Caddy's process-wide state: its default
// logger, its certificate cache and its storage.
var caddyMu sync.Mutex

// hushCaddy keeps Caddy's default logger from writing to stderr.
var hushCaddy = sync.OnceFunc(func() { caddy.BufferedLog() })

// Adapt turns a Caddyfile into Caddy's JSON, indented, with Caddy's warnings.
func Adapt(caddyfile []byte) (config []byte, warnings []string, err error) {
	caddyMu.Lock()
	defer caddyMu.Unlock()

	compact, warnings, err := adapt(caddyfile)
	if err != nil {
		return nil, nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, compact, "", "  "); err != nil {
		return nil, nil, fmt.Errorf("indent Caddy's configuration: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), warnings, nil
}

func adapt(caddyfile []byte) (config []byte, warnings []string, err error) {
	hushCaddy()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic in Caddy's adapter: %v", r)
		}
	}()
	config, warned, err := caddyconfig.GetAdapter("caddyfile").Adapt(caddyfile, nil)
	if err != nil {
		return nil, nil, plain(err)
	}
	for _, w := range warned {
		if w.Message == unformatted {
			continue
		}
		warnings = append(warnings, plain(errors.New(w.Message)).Error())
	}
	return config, warnings, nil
}

// unformatted is a warning about white space, which is not the reader's doing.
const unformatted = "Caddyfile input is not formatted; run 'caddy fmt --overwrite' to fix inconsistencies"

// places are positions in a Caddyfile that nobody sees.
var places = regexp.MustCompile(`(,? at Caddyfile:\d+)|(Caddyfile:\d+(?: \(import [^)]*\))?(?:: | - ))|( import chain:? \[[^\]]*\])`)

// steps are the levels of Caddy's JSON that an error went through.
var steps = regexp.MustCompile(`^(?:loading [^:]*|setting up [^:]*|server \w+|route \d+|position \d+|module(?: name)? '[^']*'|provision (?:http|tls)|provision http\.handlers\.subroute|provisioning automation policy \d+|parsing caddyfile tokens for '[^']*'): `)

// plain leaves out of Caddy's error what speaks of files and levels that
// nobody has seen.
func plain(err error) error {
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
