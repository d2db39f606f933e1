package route

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() { caddy.RegisterModule(Leaving{}) }

// LeavingName is how a configuration names the handler Leaving.
const LeavingName = "skep_leaving"

// Leaving tells clients of servers that are shut down to come back on another
// connection: one that asks again on this may lose its request. It stands before
// all routes of a server.
type Leaving struct{}

// CaddyModule says what Caddy calls it.
func (Leaving) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers." + LeavingName, New: func() caddy.Module { return new(Leaving) }}
}

func (Leaving) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if leaving(r) {
		w.Header().Set("Connection", "close")
	}
	return next.ServeHTTP(w, r)
}

// leaving says whether a request's connection is closed soon, and the client may
// be told so: HTTP/3 has no such header (RFC 9114, 4.2), and an upgrade has its
// own.
func leaving(r *http.Request) bool {
	if r.ProtoMajor > 2 || r.Header.Get("Upgrade") != "" {
		return false
	}
	closing, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Get("http.shutting_down")
	return closing == true
}

var _ caddyhttp.MiddlewareHandler = (*Leaving)(nil)
