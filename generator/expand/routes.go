package expand

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"skep/generator/bundle"
	"skep/generator/stack"
)

// site is a route on its way to become a block of the ingress.
type site struct {
	service stack.ServiceRef
	route   stack.Route
}

// sitesOf collects the routes of the cluster by site address, in the order of
// the services.
func sitesOf(c *stack.Cluster) map[string][]site {
	sites := map[string][]site{}
	for _, s := range c.Services() {
		for _, r := range s.Routes {
			sites[r.Site()] = append(sites[r.Site()], site{s.Ref, r})
		}
	}
	return sites
}

// split reports whether a site is shared out by path, so that each route needs
// a `handle` of its own.
func (e *expansion) split(address string) bool {
	on := e.sites[address]
	return len(on) > 1 || slices.ContainsFunc(on, func(s site) bool { return len(s.route.Paths) > 0 })
}

// rooted reports whether some route of the site takes what the others leave.
func (e *expansion) rooted(address string) bool {
	return slices.ContainsFunc(e.sites[address], func(s site) bool { return s.route.Root() })
}

// routes writes the labels that bring requests to the service, in
// caddy-docker-proxy's convention: one block for a site, numbered from the
// second on.
func (b *builder) routes() {
	first := 0
	if b.e.cluster.Ingress.Service == b.service.Ref {
		first = len(b.snippets()) + 1 // behind the ingress's own blocks
	}
	var addresses []string
	for _, r := range b.service.Routes {
		if !slices.Contains(addresses, r.Site()) {
			addresses = append(addresses, r.Site())
		}
	}
	for i, address := range addresses {
		w := &labelWriter{builder: b, prefix: blockPrefix(first + i), used: map[string]int{}}
		for _, r := range b.service.Routes {
			if r.Site() == address {
				w.route(r)
			}
		}
	}
}

func blockPrefix(n int) string {
	if n == 0 {
		return "caddy"
	}
	return "caddy_" + itoa(n)
}

// labelWriter writes the labels of one block.
type labelWriter struct {
	*builder
	prefix string
	origin bundle.Origin
	// used counts the labels of a name, to number them: import, import_1, ...
	used map[string]int
	// maintained says that the site has its maintenance page.
	maintained bool
}

// set writes prefix.key: value.
func (w *labelWriter) set(key, value string) { w.label(w.origin, w.prefix+"."+key, value) }

// next numbers a directive that may stand several times in a block.
func (w *labelWriter) next(directive string) string {
	n := w.used[w.prefix+"."+directive]
	w.used[w.prefix+"."+directive]++
	if n == 0 {
		return directive
	}
	return directive + "_" + itoa(n)
}

// route writes one route. What belongs to the site as a whole stands at its
// top; everything else stands in the route's own scope, the site or a handle,
// because Caddy runs a site's handles before its `respond` and `reverse_proxy`.
func (w *labelWriter) route(r stack.Route) {
	w.origin = bundle.Origin{Pos: r.Pos, By: "x-ingress"}
	w.label(w.origin, w.prefix, r.Site())
	w.tls(r)
	if m := r.Maintenance; m != nil && !w.maintained {
		w.maintained = true
		w.set(w.next("import"), fmt.Sprintf("maintenance %d %s", int(m.RetryAfter.Seconds()), quote(m.Message)))
	}
	if !w.e.split(r.Site()) {
		w.scope(r)
		return
	}
	paths := r.Paths
	if len(paths) == 0 {
		paths = []string{"/*"}
	}
	block := w.prefix
	for _, p := range paths {
		w.prefix = block
		handle := w.next("handle")
		if p != "/*" {
			w.set(handle, p)
		}
		w.prefix = block + "." + handle
		w.scope(r)
	}
	w.prefix = block
	if !w.e.rooted(r.Site()) {
		w.set("respond", "404") // where Caddy would say an empty 200
	}
	if w.outpost(r) {
		handle := w.next("handle")
		w.set(handle, outpostPath)
		w.set(handle+".reverse_proxy", w.e.cluster.SSO.Upstream)
	}
}

// outpost reports whether this route brings the SSO outpost's own paths to a
// split site: the first route of the site that asks for a login does.
func (w *labelWriter) outpost(r stack.Route) bool {
	for _, s := range w.e.sites[r.Site()] {
		if s.route.Auth.SSO {
			return s.service == w.service.Ref && s.route.Pos == r.Pos
		}
	}
	return false
}

func (w *labelWriter) tls(r stack.Route) {
	switch r.TLS.Mode {
	case stack.TLSACMEDNS:
		w.set("tls.dns", r.TLS.Provider+" {env."+tokenVariable(r.TLS.Provider)+"}")
	case stack.TLSOrigin, stack.TLSCustom:
		w.set("tls", certificatePath(r.TLS.Certificate)+" "+certificatePath(r.TLS.Key))
	case stack.TLSInternal:
		w.set("tls", "internal")
	}
}

// scope writes what happens to a request of the route.
func (w *labelWriter) scope(r stack.Route) {
	if len(r.Allow) > 0 {
		if slices.Equal(r.Allow, r.Zone.Allow) {
			w.set(w.next("import"), allowSnippet(r.Zone))
		} else {
			w.set("@denied.not", "client_ip "+joinPrefixes(r.Allow))
			w.set("error", "@denied 403")
		}
	}
	if r.Headers.Security {
		w.set(w.next("import"), "security")
	}
	if r.Rate != nil {
		zone := w.next("rate_limit") + ".zone"
		w.set(zone, slug(strings.ReplaceAll(w.service.Ref.String(), "/", "_")+"_"+hash([]byte(w.prefix))))
		w.set(zone+".key", "{client_ip}")
		w.set(zone+".events", itoa(r.Rate.Events))
		w.set(zone+".window", span(r.Rate.Window))
	}
	if r.Auth.SSO {
		w.set(w.next("import"), strings.Join(append([]string{"sso"}, r.Auth.Bypass...), " "))
	}
	if r.Body > 0 {
		w.set("request_body.max_size", itoa(int(r.Body)))
	}
	if r.Strip != "" {
		w.set("uri", "strip_prefix "+r.Strip)
	}
	upstreams := "{{upstreams " + itoa(int(r.Port)) + "}}"
	if r.Scheme != "http" {
		upstreams = "{{upstreams " + r.Scheme + " " + itoa(int(r.Port)) + "}}"
	}
	w.set("reverse_proxy", upstreams)
	if r.Stream {
		w.set("reverse_proxy.flush_interval", "-1")
	}
	if h := r.Health; h != nil {
		w.set("reverse_proxy.health_uri", h.Path)
		w.set("reverse_proxy.health_interval", span(h.Interval))
		w.set("reverse_proxy.health_timeout", span(h.Timeout))
	}
	w.headers("reverse_proxy.header_up", r.Headers.Request)
	w.headers("reverse_proxy.header_down", r.Headers.Response)
	for _, k := range slices.Sorted(maps.Keys(r.Caddy)) {
		w.set(k, r.Caddy[k])
	}
}

func (w *labelWriter) headers(directive string, set map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(set)) {
		value := name
		if !strings.HasPrefix(name, "-") {
			value += " " + quote(set[name])
		}
		w.set(w.next(directive), value)
	}
}

// quote makes one Caddyfile token of a text
// (https://caddyserver.com/docs/caddyfile/concepts#tokens-and-quotes). Labels
// are Go templates first, so a brace pair is written as one.
func quote(s string) string {
	if s == "" || strings.ContainsAny(s, " \t\n\"`\\#") {
		s = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
	}
	return strings.ReplaceAll(s, "{{", "{{`{{`}}")
}

func joinPrefixes(list []netip.Prefix) string {
	out := make([]string, len(list))
	for i, p := range list {
		out[i] = p.String()
	}
	return strings.Join(out, " ")
}
