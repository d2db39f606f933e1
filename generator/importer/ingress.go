package importer

import (
	"fmt"
	"slices"
	"strings"

	"skep/generator/stack"
)

// routes lifts every block of caddy labels that says what x-ingress can say.
func (im *importer) routes() {
	var sites []*site
	raw, global := map[*service][]*directive{}, map[*service][]*directive{}
	for _, s := range im.live() {
		blocks, faulty := s.directives()
		for _, i := range faulty {
			im.note(s.labels[i].pos, s.name, "label "+s.labels[i].key, "its key has an empty part; the ingress crashes on it", "remove the label")
		}
		if len(blocks) > 0 && s.def.has("x-ingress") {
			im.note(s.labels[blocks[0].labels[0]].pos, s.name, "label "+blocks[0].path, "the service has x-ingress already", "move what the label says there")
			continue
		}
		for _, b := range blocks {
			switch {
			case len(b.args) == 0 || strings.HasPrefix(b.arg(0), "("):
				global[s] = append(global[s], b)
			default:
				sites = append(sites, im.readSite(s, b))
			}
		}
	}
	im.joinHosts(sites)
	for _, site := range sites {
		if site.why == "" {
			im.liftSite(site)
		}
		if site.why != "" {
			raw[site.service] = append(raw[site.service], site.block)
			im.note(site.pos, site.service.name, "label "+site.block.path+": "+site.block.value, site.why,
				"say it with x-ingress by hand, or leave the labels as they are")
			if c, k := site.block.child("error"), kindsOf(site.block); c != nil && (k.handle || k.route) {
				l := site.service.labels[c.labels[0]]
				im.note(l.pos, site.service.name, labelText(l), refusesNow, "")
			}
		}
	}
	im.rawImports(raw)
	for _, s := range im.live() {
		for _, b := range global[s] {
			if im.shared(s, b) {
				raw[s] = append(raw[s], b)
			}
		}
	}
	facts := &im.result.facts
	facts.asksSSO = facts.sso != nil
	for _, s := range im.live() {
		facts.asksSSO = facts.asksSSO || slices.ContainsFunc(s.routes, func(r draft) bool { return r.sso })
	}
	for _, s := range im.live() {
		im.renumber(s, raw[s])
		if len(s.routes) > 0 {
			im.writeRoutes(s)
			for _, key := range []string{"caddy_ingress_network", "caddy_controlled_server"} {
				if i := s.find(key); i >= 0 {
					im.claim(s, i, "x-ingress")
				}
			}
		}
	}
}

// joinHosts gives the sites that several services share what holds for all of
// them: caddy-docker-proxy merges their blocks into one.
func (im *importer) joinHosts(sites []*site) {
	byAddress := map[string][]*site{}
	for _, s := range sites {
		for _, a := range s.addresses {
			key := fmt.Sprint(a)
			byAddress[key] = append(byAddress[key], s)
		}
	}
	for range sites { // what keeps one site raw may keep its neighbours raw
		changed := false
		for _, key := range sortedKeys(byAddress) {
			on := byAddress[key]
			if len(on) < 2 {
				continue
			}
			if why := joint(on); why != "" {
				for _, s := range on {
					if s.why == "" {
						s.why, changed = why, true
					}
				}
			}
		}
		if !changed {
			break
		}
	}
	for _, key := range sortedKeys(byAddress) {
		on := byAddress[key]
		if len(on) < 2 || on[0].why != "" {
			continue
		}
		var all draft
		for _, s := range on {
			p := s.props
			if p.sso {
				all.sso, all.bypass = true, p.bypass
			}
			if len(p.allow) > 0 {
				all.allow = p.allow
			}
			if p.tls != "" {
				all.tls = p.tls
			}
		}
		for _, s := range on {
			s.props.sso, s.props.bypass, s.props.allow, s.props.tls = all.sso, all.bypass, all.allow, all.tls
		}
	}
}

// joint reports why sites of one address cannot be lifted together.
func joint(on []*site) string {
	first := on[0]
	var paths []string
	var all kinds
	for _, s := range on {
		k := kindsOf(s.block)
		if all.handle, all.route = all.handle || k.handle, all.route || k.route; all.handle && all.route {
			return "route stands beside another service's handle, which Caddy runs first"
		}
		if s.why != "" {
			return "another block of the host cannot be lifted: " + s.why
		}
		if len(s.addresses) != 1 && !slices.Equal(s.addresses, first.addresses) {
			return "other services share some of its hosts"
		}
		a, b := s.props, first.props
		if len(a.ssoOnly) > 0 || a.sso && b.sso && !slices.Equal(a.bypass, b.bypass) || len(a.allow) > 0 && len(b.allow) > 0 && !slices.Equal(a.allow, b.allow) ||
			a.tls != "" && b.tls != "" && a.tls != b.tls {
			return "the services that share the host say different things of the whole host"
		}
		if a.strip != "" {
			return "uri takes a prefix off before the paths are told apart"
		}
		if len(a.raw) > 0 || a.rate != "" || a.body != "" {
			if !sameRaw(a, b) {
				return "one of the services that share the host says something of the whole host"
			}
			if name, ok := siteOnly(a.raw); ok {
				return name + " belongs to the site as a whole, and several services share it"
			}
		} else if len(b.raw) > 0 || b.strip != "" || b.rate != "" || b.body != "" {
			return "one of the services that share the host says something of the whole host"
		}
		for _, r := range s.routes {
			key := strings.Join(r.paths, " ")
			if slices.Contains(paths, key) {
				return "two services answer for the same paths of the host"
			}
			paths = append(paths, key)
		}
	}
	return ""
}

func sameRaw(a, b draft) bool {
	return slices.Equal(a.raw, b.raw) && a.strip == b.strip && a.rate == b.rate && a.body == b.body
}

// liftSite makes the routes of a site; it sets why when it cannot.
func (im *importer) liftSite(s *site) {
	var routes []draft
	for _, r := range s.routes {
		r, err := combine(s.props, r)
		if err != nil {
			s.why = err.Error()
			return
		}
		if r.sso && len(r.paths) > 0 && !slices.ContainsFunc(r.paths, func(p string) bool { return !covered(p, r.bypass) }) {
			r.sso, r.bypass = false, nil
		}
		if len(r.ssoOnly) > 0 {
			guarded := r
			guarded.paths, guarded.sso = r.ssoOnly, true
			routes = append(routes, guarded)
		}
		routes = append(routes, r)
	}
	for i := range routes {
		routes[i].ssoOnly, routes[i].pos = nil, s.pos
	}
	routes = joinBypass(routes)
	var out []draft
	for _, a := range s.addresses {
		for _, r := range routes {
			r.host, r.listen = a.host, a.listen
			if a.plain {
				r.tls = "off"
			}
			if why := im.fits(&r); why != "" {
				s.why = why
				return
			}
			out = append(out, r)
		}
	}
	s.service.routes = append(s.service.routes, out...)
	im.result.Kept = append(im.result.Kept, s.notes...)
	for _, i := range s.block.labels {
		im.claim(s.service, i, "x-ingress")
	}
	for _, a := range s.addresses {
		im.result.facts.host(im.resolve(a.host), out[0].tls)
	}
	reported := map[string]bool{}
	for _, r := range out {
		for n, e := range r.raw {
			i := r.rawLabels[n]
			l := s.service.labels[i]
			first, _, _ := strings.Cut(e.key, ".")
			if reported[first] {
				continue // the directive was named
			}
			reported[first] = true
			im.note(l.pos, s.service.name, labelText(l), "no key says it; it stands under x-ingress.caddy as "+first, im.rawRemedy(e))
		}
	}
}

func labelText(l label) string {
	if l.value == "" {
		return "label " + l.key
	}
	return "label " + l.key + ": " + l.value
}

func (im *importer) rawRemedy(e entry) string {
	if name, ok := strings.CutPrefix(e.key, "import"); ok && (name == "" || name[0] == '_') {
		word, _, _ := strings.Cut(text(e.value), " ")
		if im.snippet(strings.TrimPrefix(word, "kept-")) == nil {
			return "the ingress's stack must define the snippet (" + word + ")"
		}
	}
	return ""
}

// covered reports whether requests of a path pattern all match the others.
func covered(path string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		prefix, wild := strings.CutSuffix(p, "*")
		return p == path || wild && strings.HasPrefix(path, prefix)
	})
}

// joinBypass makes one route of two to the same port that differ in the login
// alone: some paths without, all others with.
func joinBypass(routes []draft) []draft {
	if len(routes) != 2 {
		return routes
	}
	open, all := routes[0], routes[1]
	if len(open.paths) == 0 {
		open, all = all, open
	}
	if len(all.paths) > 0 || len(open.paths) == 0 || !all.sso || open.sso || len(all.bypass) > 0 {
		return routes
	}
	a, b := open, all
	for _, d := range []*draft{&a, &b} {
		d.paths, d.sso, d.bypass, d.rawLabels = nil, false, nil, nil
	}
	if fmt.Sprintf("%+v", a) != fmt.Sprintf("%+v", b) {
		return routes
	}
	all.bypass = open.paths
	return []draft{all}
}

// fits settles what depends on the cluster: the zone, certificates, logins.
func (im *importer) fits(r *draft) string {
	host := im.resolve(r.host)
	if !strings.Contains(host, "$") {
		if _, err := stack.ParseHost(host); err != nil {
			return err.Error()
		}
		if !strings.Contains(host, ".") {
			return "host " + host + " has no domain"
		}
	}
	c := im.Cluster
	dropDNS := func() {
		for i, e := range r.raw {
			if e.key == "tls.dns" {
				r.raw, r.rawLabels = slices.Delete(slices.Clone(r.raw), i, i+1), slices.Delete(slices.Clone(r.rawLabels), i, i+1)
				break
			}
		}
	}
	if c == nil {
		if r.tls == "acme-dns" {
			dropDNS() // the proposed zone says it
		}
		return ""
	}
	zone, ok := im.zone(host)
	if !ok {
		return "host " + host + " lies in no zone of the cluster"
	}
	if r.sso && c.SSO == nil {
		return "it asks for a login, and the cluster has no sso"
	}
	rawTLS := slices.ContainsFunc(r.raw, func(e entry) bool { return strings.HasPrefix(e.key, "tls_") })
	switch mode := string(zone.TLS.Mode); {
	case r.tls == mode:
		dropDNS()
		r.tls = ""
	case r.tls == "acme-dns" || rawTLS:
		// The raw directive speaks; the zone's must not.
		r.tls = ""
		if mode != string(stack.TLSACME) {
			r.tls = string(stack.TLSACME)
		}
	}
	if len(r.allow) == 0 && len(zone.Allow) > 0 {
		im.note(r.pos, "", "host "+host, "everybody reached it, and zone "+zone.Name+" lets some addresses pass only", "keep the zone's list, or say allow: [0.0.0.0/0, \"::/0\"]")
	}
	return ""
}

// zone is the zone that a full host name lies in.
func (im *importer) zone(host string) (*stack.Zone, bool) {
	var longest *stack.Zone
	for _, z := range im.Cluster.Zones {
		d := string(z.Domain)
		if d == "" || host != d && !strings.HasSuffix(strings.ToLower(host), "."+d) {
			continue
		}
		if longest == nil || len(d) > len(longest.Domain) {
			longest = z
		}
	}
	return longest, longest != nil
}
