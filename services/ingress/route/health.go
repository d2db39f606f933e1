package route

import (
	"cmp"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// Upstream is an address that a site proxies to.
type Upstream struct {
	Address string `json:"address"`
	Healthy bool   `json:"healthy"`
}

// Upstreams are those of a site's present routes.
func (t *Table) Upstreams(site string) []Upstream {
	t.mu.RLock()
	e := t.entries[site]
	if e == nil || e.serving == nil {
		t.mu.RUnlock()
		return nil
	}
	v := e.serving
	v.refs.Add(1)
	t.mu.RUnlock()
	defer v.release()
	found := map[string]bool{}
	collect(v.routes, found)
	out := make([]Upstream, 0, len(found))
	for address, healthy := range found {
		out = append(out, Upstream{address, healthy})
	}
	slices.SortFunc(out, func(a, b Upstream) int { return cmp.Compare(a.Address, b.Address) })
	return out
}

func collect(routes caddyhttp.RouteList, found map[string]bool) {
	for _, r := range routes {
		for _, h := range r.Handlers {
			switch h := h.(type) {
			case *caddyhttp.Subroute:
				collect(h.Routes, found)
			case *reverseproxy.Handler:
				for _, u := range h.Upstreams {
					found[u.Dial] = u.Healthy()
				}
			}
		}
	}
}
