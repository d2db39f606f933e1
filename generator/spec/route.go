package spec

import (
	"strings"
	"time"

	"skep/generator/stack"
)

const defaultInterval = time.Minute

func (d duration) or(otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return time.Duration(d)
}

// route completes a route with its zone and the cluster's defaults.
func (c *converter) route(in ingress, path []string) (stack.Route, bool) {
	at := func(keys ...string) []string { return append(path[:len(path):len(path)], keys...) }
	r := stack.Route{
		Port: in.Port, Scheme: or(in.Scheme, "http"), Listen: in.Listen, Paths: in.Paths, Strip: in.Strip,
		Body: int64(in.Body), Stream: in.Stream, Caddy: in.Caddy, Pos: c.positions.At(path...),
	}
	zone, ok := c.zoneOf(in, at)
	if !ok {
		return r, false
	}
	r.Zone = zone
	r.Host, ok = c.host(in.Host, zone, at("host"))
	for i, p := range r.Paths {
		if !strings.HasPrefix(p, "/") {
			pr := c.fail(ruleValue, at("paths", itoa(i)), "path %q does not start with a slash", p)
			*pr = pr.WithRemedy("did you mean %q?", "/"+p)
		}
	}
	if r.Strip != "" && !strings.HasPrefix(r.Strip, "/") {
		c.fail(ruleValue, at("strip"), "prefix %q does not start with a slash", r.Strip)
	}
	c.access(&r, in, at)

	r.TLS = zone.TLS
	if in.TLS != "" && stack.TLSMode(in.TLS) != zone.TLS.Mode {
		r.TLS = stack.TLS{Mode: stack.TLSMode(in.TLS)}
		switch r.TLS.Mode {
		case stack.TLSACMEDNS, stack.TLSOrigin, stack.TLSCustom:
			p := c.fail(ruleValue, at("tls"), "tls %s takes its secrets from the zone, and zone %q is not set up for it", in.TLS, zone.Name)
			*p = p.WithRemedy("set ingress.tls.%s in %s", zone.Name, ClusterFile)
		}
	}
	if in.Rate != nil {
		r.Rate = &stack.Rate{Events: in.Rate.Events, Window: time.Duration(in.Rate.Window)}
		if r.Rate.Events < 1 || r.Rate.Window <= 0 {
			p := c.fail(ruleValue, at("rate"), "a rate needs at least one request per window")
			*p = p.WithRemedy("for example 100/1m")
		}
	}
	if h := in.Health; h != nil {
		r.Health = &stack.Health{Path: h.Path, Interval: h.Interval.or(30 * time.Second), Timeout: h.Timeout.or(5 * time.Second)}
	}
	r.Headers.Security = c.cluster.Ingress.Default.Security
	if h := in.Headers; h != nil {
		r.Headers.Request, r.Headers.Response = h.Request, h.Response
		if h.Security != nil {
			r.Headers.Security = *h.Security
		}
	}
	m := in.Maintenance
	if m == nil && c.cluster.Ingress.Default.Maintenance {
		m = &maintenance{}
	}
	if m != nil && !m.Off {
		r.Maintenance = &stack.Maintenance{RetryAfter: m.RetryAfter.or(30 * time.Second), Message: or(m.Message, "Back in a moment.")}
	}
	return r, ok
}

// zoneOf finds the zone of a route: the one it names, the one that its full
// host name lies in, or the default.
func (c *converter) zoneOf(in ingress, at func(...string) []string) (*stack.Zone, bool) {
	var names []string
	var longest *stack.Zone
	for _, z := range c.cluster.Zones {
		names = append(names, z.Name)
		if within(in.Host, z.Domain) && (longest == nil || len(z.Domain) > len(longest.Domain)) {
			longest = z
		}
	}
	name := in.Zone
	if name == "" {
		if strings.Contains(in.Host, ".") && longest != nil {
			return longest, true
		}
		name = c.cluster.Ingress.Default.Zone
	}
	if name == "" {
		p := c.fail(ruleValue, at(), "the route names no zone and the cluster file has no default")
		*p = p.WithRemedy("add `zone:` here, or ingress.default.zone to %s", ClusterFile)
		return nil, false
	}
	z, ok := c.cluster.Zone(name)
	if !ok {
		c.unknown(at("zone"), "zone", name, names)
	}
	return z, ok
}

// within reports whether a full name is the domain or below it.
func within(host string, domain stack.Host) bool {
	return domain != "" && (strings.EqualFold(host, string(domain)) || strings.HasSuffix(strings.ToLower(host), "."+string(domain)))
}

// host completes a short name by the zone's domain.
func (c *converter) host(name string, z *stack.Zone, path []string) (stack.Host, bool) {
	full := name
	switch {
	case name == "", z.Domain == "":
		return "", false // reported as missing
	case name == "@":
		full = string(z.Domain)
	case !strings.Contains(name, "."), name == "*":
		full = name + "." + string(z.Domain)
	case !within(name, z.Domain):
		p := c.fail(ruleValue, path, "host %q is not in zone %q (%s)", name, z.Name, z.Domain)
		*p = p.WithRemedy("name another zone, or use a short name: %s", strings.SplitN(name, ".", 2)[0])
		return "", false
	}
	h, err := stack.ParseHost(full)
	if err != nil {
		p := c.fail(ruleValue, path, "%s", err)
		*p = p.WithRemedy("a host is letters, digits and dashes, such as my-app")
		return "", false
	}
	return h, true
}

// access fills in who may pass.
func (c *converter) access(r *stack.Route, in ingress, at func(...string) []string) {
	r.Auth.SSO = c.cluster.Ingress.Default.SSO
	if in.Auth != nil {
		r.Auth = stack.Auth{SSO: in.Auth.SSO, Bypass: in.Auth.Bypass, Reason: in.Auth.Reason}
		if !c.positions.Has(at("auth", "sso")...) && c.positions.Has(at("auth", "bypass")...) {
			r.Auth.SSO = true
		}
	}
	if r.Auth.SSO && c.cluster.SSO == nil {
		p := c.fail(ruleValue, at("auth"), "the route asks for SSO and the cluster has none")
		*p = p.WithRemedy("add `sso:` to %s", ClusterFile)
	}
	for i, p := range r.Auth.Bypass {
		if !strings.HasPrefix(p, "/") {
			c.fail(ruleValue, at("auth", "bypass", itoa(i)), "path %q does not start with a slash", p)
		}
	}
	r.Allow = r.Zone.Allow
	if len(in.Allow) > 0 {
		r.Allow = c.prefixes(in.Allow, at("allow")...)
	}
}
