package importer

import (
	"fmt"
	"strings"
)

// writeRoutes writes x-ingress.
func (im *importer) writeRoutes(s *service) {
	var out []any
	for _, r := range s.routes {
		out = append(out, im.route(r))
	}
	if len(out) == 1 {
		s.def.set("x-ingress", out[0])
		return
	}
	s.def.set("x-ingress", out)
}

func (im *importer) route(r draft) *mapping {
	m := &mapping{}
	host, zone := im.shortHost(r.host)
	m.set("host", host)
	if zone != "" {
		m.set("zone", zone)
	}
	m.set("port", number(r.port))
	if r.scheme != "" && r.scheme != "http" {
		m.set("scheme", r.scheme)
	}
	if len(r.paths) > 0 {
		m.set("paths", list(r.paths))
	}
	if r.strip != "" {
		m.set("strip", r.strip)
	}
	login := im.Cluster != nil && im.Cluster.Ingress.Default.SSO
	switch {
	case !r.sso && im.needsReason(r):
		auth := &mapping{}
		auth.set("sso", false)
		auth.set("reason", "none before the import")
		m.set("auth", auth)
	case r.sso && len(r.bypass) > 0:
		auth := &mapping{}
		auth.set("sso", true)
		auth.set("bypass", list(r.bypass))
		m.set("auth", auth)
	case r.sso && !login:
		m.set("auth", "sso")
	case !r.sso && login:
		m.set("auth", "none")
	}
	if len(r.allow) > 0 {
		m.set("allow", list(r.allow))
	}
	if r.listen != "" {
		m.set("listen", number(r.listen))
	}
	if r.tls != "" && r.tls != "acme-dns" {
		m.set("tls", r.tls)
	}
	if r.rate != "" {
		m.set("rate", r.rate)
	}
	if r.body != "" {
		m.set("body", number(r.body))
	}
	if r.stream {
		m.set("stream", true)
	}
	im.setHealth(m, r)
	headers := &mapping{}
	for _, h := range []struct {
		key  string
		list []entry
	}{{"request", r.request}, {"response", r.response}} {
		if len(h.list) > 0 {
			headers.set(h.key, &mapping{entries: h.list})
		}
	}
	if headers.len() > 0 {
		m.set("headers", headers)
	}
	if r.ownErrors && (im.Cluster == nil || im.Cluster.Ingress.Default.Maintenance) {
		m.set("maintenance", false)
	}
	if len(r.raw) > 0 {
		caddy := &mapping{}
		for _, e := range r.raw {
			caddy.set(e.key, e.value)
		}
		m.set("caddy", caddy)
	}
	return m
}

// needsReason reports whether the rule missing-sso is an error for a route
// without a login: within a private zone.
func (im *importer) needsReason(r draft) bool {
	host := im.resolve(r.host)
	if im.Cluster == nil {
		return (im.across.sso || im.result.facts.asksSSO) && privateDomain(domainOf(host))
	}
	zone, ok := im.zone(host)
	return ok && zone.Private && im.Cluster.SSO != nil
}

func (im *importer) setHealth(m *mapping, r draft) {
	health := &mapping{}
	for _, key := range []string{"path", "interval", "timeout"} {
		for _, e := range r.health {
			if e.key == key {
				health.set(key, e.value)
			}
		}
	}
	switch health.len() {
	case 0:
	case 1:
		m.set("health", health.get("path"))
	default:
		m.set("health", health)
	}
}

// shortHost is a host as a stack file writes it, and its zone where the host
// alone does not say it.
func (im *importer) shortHost(host string) (short, zone string) {
	if im.Cluster == nil {
		return host, ""
	}
	full := strings.ToLower(im.resolve(host))
	z, ok := im.zone(full)
	if !ok {
		return host, ""
	}
	short = "@"
	if full != string(z.Domain) {
		short = strings.TrimSuffix(full, "."+string(z.Domain))
	}
	if strings.ContainsAny(short, ".*") {
		return host, ""
	}
	if z.Name != im.Cluster.Ingress.Default.Zone {
		zone = z.Name
	}
	return short, zone
}

func number(s string) any {
	if n, ok := index(s); ok && fmt.Sprint(n) == s {
		return n
	}
	return s
}
