package ingress

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"skep/services/ingress/frame"
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
		return nil, nil, frame.Plain(err)
	}
	for _, w := range warned {
		if w.Message == unformatted {
			continue
		}
		warnings = append(warnings, frame.Plain(errors.New(w.Message)).Error())
	}
	return config, warnings, nil
}

// unformatted is a warning about white space, which is not the reader's doing.
const unformatted = "Caddyfile input is not formatted; run 'caddy fmt --overwrite' to fix inconsistencies"
