package frame

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"skep/services/ingress/label"
	"skep/services/ingress/route"
)

// Options are what the ingress adds to every configuration.
type Options struct {
	App       json.RawMessage // the settings of the ingress's own app, if it is one
	NotFound  string          // the page for a host that nobody has
	AccessLog bool
	Metrics   bool
	Admin     string        // the address of Caddy's admin API; off if empty
	Network   string        // what servers listen on instead of Caddy's "tcp"
	Handover  time.Duration // how long servers finish what they accepted once others listen
	Held      []label.Host  // are unavailable, whichever wildcard covers them
}

// Frame is a whole configuration of Caddy.
type Frame struct{ JSON []byte }

// Assemble makes one configuration of all parts, in their order.
func Assemble(globals string, parts []*Part, o Options) (*Frame, error) {
	blocks, err := read(globals)
	if err != nil {
		return nil, fmt.Errorf("global options: %w", Plain(err))
	}
	seen := map[string]bool{}
	for _, p := range parts {
		for _, b := range p.blocks {
			// Two sites that are kept whole may bring the same named route.
			if b.IsNamedRoute && seen[b.GetKeysText()[0]] {
				continue
			}
			if b.IsNamedRoute {
				seen[b.GetKeysText()[0]] = true
			}
			blocks = append(blocks, b)
		}
	}
	if len(parts) == 0 {
		if blocks, err = withNobody(blocks); err != nil {
			return nil, err
		}
	}
	d, err := safeSetup(blocks)
	if err != nil {
		return nil, Plain(err)
	}
	if len(parts) == 0 {
		for _, server := range d.servers() {
			delete(server.(object), "routes")
		}
	}
	d.complete(parts, o)
	return &Frame{encode(d.tree)}, nil
}

// withNobody adds a site that nobody asks for: without any, Caddy forgets what
// the global options say of servers.
func withNobody(blocks []caddyfile.ServerBlock) ([]caddyfile.ServerBlock, error) {
	nobody, err := read("http://nobody.invalid {\n}\n")
	return append(blocks, nobody...), err
}

func safeSetup(blocks []caddyfile.ServerBlock) (d *document, err error) {
	defer func() {
		if r := recover(); r != nil {
			d, err = nil, fmt.Errorf("panic in Caddy's adapter: %v", r)
		}
	}()
	return setup(blocks)
}

// complete adds what labels do not say.
func (d *document) complete(parts []*Part, o Options) {
	if d.tree["admin"] == nil {
		// It is off unless somebody trusted opens it: any site could proxy to it.
		d.tree["admin"] = object{"disabled": o.Admin == "", "listen": o.Admin, "config": object{"persist": false}}
	}
	apps := child(d.tree, "apps")
	if apps == nil {
		apps = object{}
		d.tree["apps"] = apps
	}
	if o.App != nil {
		apps["skep"] = o.App
	}
	http := child(apps, "http")
	if http == nil {
		http = object{}
		apps["http"] = http
	}
	if http["servers"] == nil {
		http["servers"] = object{}
	}
	named := map[string]map[string]json.RawMessage{}
	for _, p := range parts {
		if len(p.named) > 0 && !p.whole {
			named[string(p.ID)] = p.named
		}
	}
	servers := child(http, "servers")
	for _, name := range sorted(servers) {
		server := child(servers, name)
		holdHosts(server, o.Held)
		errorRoutes(server)
		namedRoutes(server, named)
	}
	unknown(http, o.NotFound)
	leaving(servers)
	if o.Network != "" {
		listenOn(servers, o.Network)
	}
	if o.Handover > 0 && http["shutdown_delay"] == nil {
		http["shutdown_delay"] = o.Handover
	}
	for _, name := range sorted(servers) {
		if server := child(servers, name); o.AccessLog && server["logs"] == nil {
			server["logs"] = object{}
		}
	}
	if o.Metrics && http["metrics"] == nil {
		http["metrics"] = object{}
	}
}

// leaving stands before all that a server answers, the 404 page and sites that
// are kept whole included.
func leaving(servers object) {
	for _, name := range sorted(servers) {
		server := child(servers, name)
		first := object{"handle": []any{object{"handler": route.LeavingName}}}
		server["routes"] = append([]any{first}, items(server, "routes")...)
	}
}

// listenOn puts another network in the place of TCP.
func listenOn(servers object, network string) {
	for _, name := range sorted(servers) {
		addresses := items(child(servers, name), "listen")
		for i, text := range addresses {
			if address, err := caddy.ParseNetworkAddress(text.(string)); err == nil && address.Network == "tcp" {
				address.Network = network
				addresses[i] = address.String()
			}
		}
	}
}

// heldSite has no routes, so that who asks for it is told to come back.
const heldSite = "{held}"

// holdHosts answers for hosts before a site with a wildcard does. A host that
// is back has a site of its own, and is held no more.
func holdHosts(server object, hosts []label.Host) {
	if len(hosts) == 0 || len(items(server, "routes")) == 0 {
		return
	}
	names := make([]any, len(hosts))
	for i, h := range hosts {
		names[i] = string(h)
	}
	held := object{
		"match":    []any{object{"host": names}},
		"handle":   []any{object{"handler": route.Directive, "site": heldSite}},
		"terminal": true,
	}
	server["routes"] = append([]any{held}, items(server, "routes")...)
}

// errorRoutes gives every site its error routes, ahead of those of sites that
// are kept whole.
func errorRoutes(server object) {
	var out []any
	for _, r := range items(server, "routes") {
		r := r.(object)
		site := siteOf(r)
		if site == "" {
			continue
		}
		handler := object{"handler": route.Directive, "site": site, "errors": true}
		e := object{"handle": []any{handler}, "terminal": true}
		if r["match"] != nil {
			e["match"] = r["match"]
		}
		out = append(out, e)
	}
	if len(out) == 0 {
		return
	}
	errors := child(server, "errors")
	if errors == nil {
		errors = object{}
		server["errors"] = errors
	}
	errors["routes"] = append(out, items(errors, "routes")...)
}

// siteOf is the site that a route stands for.
func siteOf(r object) string {
	for _, h := range items(r, "handle") {
		h, _ := h.(object)
		if h["handler"] == route.Directive {
			site, _ := h["site"].(string)
			return site
		}
		for _, inner := range items(h, "routes") {
			if inner, ok := inner.(object); ok {
				if site := siteOf(inner); site != "" {
					return site
				}
			}
		}
	}
	return ""
}

func namedRoutes(server object, named map[string]map[string]json.RawMessage) {
	if len(named) == 0 {
		return
	}
	for _, r := range items(server, "routes") {
		for name, body := range named[siteOf(r.(object))] {
			if server["named_routes"] == nil {
				server["named_routes"] = object{}
			}
			child(server, "named_routes")[name] = body
		}
	}
}

// maxHandover is the longest shutdown_delay: Caddy loads nothing else while one
// passes, so that no new host is served.
const maxHandover = time.Minute

// CheckGlobals reports whether Caddy understands global options, and the ingress
// can work with them.
func CheckGlobals(globals string) error {
	blocks, err := read(globals)
	if err != nil {
		return err
	}
	if blocks, err = withNobody(blocks); err != nil {
		return err
	}
	d, err := safeSetup(blocks)
	if err != nil {
		return err
	}
	number, ok := child(child(d.tree, "apps"), "http")["shutdown_delay"].(json.Number)
	if !ok {
		return nil
	}
	delay, err := number.Int64()
	if err != nil || delay < 0 || delay > int64(maxHandover) {
		return fmt.Errorf("shutdown_delay %v: between 0s and %v, for nothing else changes meanwhile", time.Duration(delay), maxHandover)
	}
	return nil
}
