// Package route serves sites whose handlers change while Caddy runs. Caddy's
// configuration holds a handler that only names a site; the site's own routes
// are provisioned in a context of their own and swapped behind a pointer.
package route

import (
	"context"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Directive is the Caddyfile directive that stands for a site's handlers.
const Directive = "skep_site"

func init() {
	caddy.RegisterModule(Handler{})
	httpcaddyfile.RegisterHandlerDirective(Directive, parse)
	httpcaddyfile.RegisterDirectiveOrder(Directive, httpcaddyfile.Before, "respond")
}

// Handler passes requests to the routes that a site has at that moment.
type Handler struct {
	Site string `json:"site"`
	// Errors makes it the site's error routes.
	Errors bool `json:"errors,omitempty"`

	table *Table
}

// CaddyModule says what Caddy calls it.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers." + Directive, New: func() caddy.Module { return new(Handler) }}
}

func parse(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h.Next()
	var name string
	if !h.Args(&name) {
		return nil, h.ArgErr()
	}
	return &Handler{Site: name}, nil
}

// Provision finds the table.
func (h *Handler) Provision(caddy.Context) error {
	h.table = Sites
	return nil
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	v, err := h.table.acquire(r.Context(), h.Site)
	if err != nil {
		if h.Errors {
			return maintenance{h.table.page(), next}.ServeHTTP(w, r)
		}
		return caddyhttp.Error(http.StatusServiceUnavailable, err)
	}
	defer v.release()
	if h.Errors {
		return v.errors.Compile(maintenance{h.table.page(), next}).ServeHTTP(w, r)
	}
	return v.routes.Compile(next).ServeHTTP(w, r)
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)

// acquire returns the site's version of the moment, to be released. Until the
// table is served for the first time it waits.
func (t *Table) acquire(ctx context.Context, site string) (*version, error) {
	select {
	case <-t.served:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	e := t.entries[site]
	if e == nil || e.serving == nil {
		return nil, errAbsent
	}
	// The table's own reference keeps it alive while the lock is held.
	e.serving.refs.Add(1)
	return e.serving, nil
}
