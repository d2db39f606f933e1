package expand

import (
	"slices"
	"strings"

	"skep/generator/bundle"
	"skep/generator/stack"
	"skep/secrets"
)

// outpostPath is where an Authentik outpost answers on every protected host.
const outpostPath = "/outpost.goauthentik.io/*"

// pair is a label.
type pair struct{ key, value string }

// snippet is a named block that sites import, or the global options.
type snippet struct {
	origin bundle.Origin
	name   string // empty: global options
	labels []pair
}

// ingress writes what the service that runs Caddy gets beside its stack file:
// global options, the snippets that routes import, ports for their listeners,
// and the secrets of the certificates.
func (b *builder) ingress() {
	c := b.e.cluster
	origin := bundle.Origin{Pos: c.Ingress.Pos, By: "ingress"}
	for i, s := range b.snippets() {
		prefix := "caddy_" + itoa(i)
		if s.name != "" {
			b.label(s.origin, prefix, "("+s.name+")")
		}
		for _, l := range s.labels {
			b.label(s.origin, prefix+"."+l.key, l.value)
		}
	}
	b.attach(origin, b.sharedKey(c.Ingress.Network), "the ingress", map[string]any{})
	if b.get("environment", "CADDY_INGRESS_NETWORKS") == nil {
		b.set(origin, string(c.Ingress.Network), "environment", "CADDY_INGRESS_NETWORKS")
	}
	b.listeners()
	b.label(origin, trustedLabel, "true")
	if b.get("environment", policyVariable) == nil {
		b.set(origin, strings.Join(b.policy(), " "), "environment", policyVariable)
	}
	for _, zone := range c.Zones {
		if !b.e.zoneInUse(zone) {
			continue
		}
		zoneOrigin := bundle.Origin{Pos: c.Positions.At("ingress", "tls", zone.Name), By: "ingress.tls"}
		for _, ref := range secretsOf(zone.TLS) {
			key := b.secret(sole(ref), "", b.service.Ref.Service)
			b.useSecret(zoneOrigin, key, certificateName(ref), "", "", nil)
		}
		if zone.TLS.Mode == stack.TLSACMEDNS {
			b.set(zoneOrigin, certificatePath(zone.TLS.Token), "environment", tokenVariable(zone.TLS.Provider)+"_FILE")
		}
	}
	if ref := c.Ingress.Storage; ref != nil {
		key := b.secret(sole(ref), "", b.service.Ref.Service)
		b.useSecret(bundle.Origin{Pos: c.Positions.At("ingress", "storage"), By: "ingress.storage"}, key, certificateName(ref), "", "", nil)
	}
}

const (
	// trustedLabel lets the ingress's own service set global options and share
	// snippets; other services' labels may only route.
	trustedLabel = "skep.ingress.trusted"
	// policyVariable holds what they may do besides.
	policyVariable = "SKEP_INGRESS_POLICY"
)

// policy opens what the routes of this cluster need of the ingress: the
// credentials and certificates of their zones, and the ports they listen on.
func (b *builder) policy() []string {
	var out []string
	for _, zone := range b.e.cluster.Zones {
		if !b.e.zoneInUse(zone) {
			continue
		}
		if zone.TLS.Mode == stack.TLSACMEDNS {
			out = append(out, "credential:"+tokenVariable(zone.TLS.Provider))
			continue
		}
		for _, ref := range secretsOf(zone.TLS) {
			out = append(out, "certificate:"+certificatePath(ref))
		}
	}
	for _, on := range b.e.sites {
		for _, s := range on {
			if s.route.Listen != 0 {
				out = append(out, "listen:"+itoa(int(s.route.Listen)))
			}
		}
	}
	slices.Sort(out)
	return append([]string{"trust:" + string(b.service.Ref.Stack)}, slices.Compact(out)...)
}

// secretsOf are the references that a way to certificates needs.
func secretsOf(t stack.TLS) []*secrets.Reference {
	switch t.Mode {
	case stack.TLSACMEDNS:
		return []*secrets.Reference{t.Token}
	case stack.TLSOrigin, stack.TLSCustom:
		return []*secrets.Reference{t.Certificate, t.Key}
	}
	return nil
}

// certificates are the references of all zones in use, and of where their
// certificates are kept.
func (e *expansion) certificates() []*secrets.Reference {
	var out []*secrets.Reference
	if ref := e.cluster.Ingress.Storage; ref != nil {
		out = append(out, ref)
	}
	for _, zone := range e.cluster.Zones {
		if e.zoneInUse(zone) {
			out = append(out, secretsOf(zone.TLS)...)
		}
	}
	return out
}

// sole is the template that is a reference alone; its canonical spelling
// always parses as one.
func sole(ref *secrets.Reference) secrets.Template {
	t, _ := secrets.ParseTemplate(ref.String())
	return t
}

// certificateName is the file name of a certificate's reference in the
// ingress; the vault is part of it, so that all names differ.
func certificateName(ref *secrets.Reference) string {
	return ref.Slug() + "-" + hash([]byte(ref.String()))
}

func certificatePath(ref *secrets.Reference) string { return "/run/secrets/" + certificateName(ref) }

// tokenVariable is where caddy-dns modules' documentation puts the token.
func tokenVariable(provider string) string { return strings.ToUpper(provider) + "_API_TOKEN" }

func (e *expansion) zoneInUse(z *stack.Zone) bool {
	for _, on := range e.sites {
		if slices.ContainsFunc(on, func(s site) bool { return s.route.Zone == z }) {
			return true
		}
	}
	return false
}

// listeners publishes the ports that routes listen on beside the standard ones.
func (b *builder) listeners() {
	for _, address := range sortedKeys(b.e.sites) {
		r := b.e.sites[address][0].route
		if r.Listen == 0 || b.publishes(int(r.Listen)) {
			continue
		}
		b.port(bundle.Origin{Pos: r.Pos, By: "x-ingress"}, int(r.Listen), int(r.Listen), "tcp", "host")
	}
}

func (b *builder) publishes(port int) bool {
	ports, _ := b.get("ports").([]any)
	return slices.ContainsFunc(ports, func(p any) bool {
		m, _ := p.(map[string]any)
		return m["published"] == port
	})
}

// snippets are the global options and every snippet that a route imports.
func (b *builder) snippets() []snippet {
	c := b.e.cluster
	var sso, security, maintenance, denies bool
	allow := map[string]*stack.Zone{}
	for _, on := range b.e.sites {
		for _, s := range on {
			r := s.route
			sso = sso || r.Auth.SSO
			security = security || r.Headers.Security
			maintenance = maintenance || r.Maintenance != nil
			denies = denies || len(r.Allow) > 0
			if len(r.Allow) > 0 && slices.Equal(r.Allow, r.Zone.Allow) {
				allow[r.Zone.Name] = r.Zone
			}
		}
	}
	out := []snippet{{origin: bundle.Origin{Pos: c.Ingress.Pos, By: "ingress"}, labels: b.globals(denies)}}
	if security {
		out = append(out, snippet{origin: bundle.Origin{Pos: c.Positions.At("ingress", "default"), By: "ingress.default.security"}, name: "security", labels: []pair{
			// "?" leaves what the service itself says.
			{"header.?Strict-Transport-Security", "max-age=31536000"},
			{"header.?X-Content-Type-Options", "nosniff"},
			{"header.?X-Frame-Options", "SAMEORIGIN"},
			{"header.?Referrer-Policy", "strict-origin-when-cross-origin"},
			{"header.-Server", ""},
		}})
	}
	if maintenance {
		out = append(out, snippet{origin: bundle.Origin{Pos: c.Positions.At("ingress", "default"), By: "ingress.default.maintenance"}, name: "maintenance", labels: []pair{
			{"handle_errors", "502 503 504"},
			{"handle_errors.header_0", "Retry-After {args[0]}"},
			{"handle_errors.header_1", `Content-Type "text/html; charset=utf-8"`},
			{"handle_errors.header_2", "Cache-Control no-store"},
			{"handle_errors.respond", `"<!doctype html><meta name=viewport content='width=device-width'><title>Unavailable</title><body style='font-family:sans-serif;max-width:30em;margin:20vh auto;padding:0 1em'><h1>Unavailable</h1><p>{args[1]}</p>" 503`},
		}})
	}
	if sso && c.SSO != nil {
		out = append(out, snippet{origin: bundle.Origin{Pos: c.SSO.Pos, By: "sso"}, name: "sso", labels: []pair{
			// The arguments are paths that need no login. What came in there must not
			// claim to be somebody.
			{"@login.not", "path " + outpostPath + " {args[:]}"},
			{"@open", "path " + outpostPath + " {args[:]}"},
			{"request_header", "@open -X-Authentik-*"},
			{"forward_auth", "@login " + c.SSO.Upstream},
			{"forward_auth.uri", "/outpost.goauthentik.io/auth/caddy"},
			{"forward_auth.copy_headers", strings.Join(c.SSO.Headers, " ")},
			{"reverse_proxy", outpostPath + " " + c.SSO.Upstream},
		}})
	}
	for _, name := range sortedKeys(allow) {
		zone := allow[name]
		out = append(out, snippet{origin: bundle.Origin{Pos: zone.Pos, By: "zones.allow"}, name: allowSnippet(zone), labels: []pair{
			{"@denied.not", "client_ip " + joinPrefixes(zone.Allow)},
			{"error", "@denied 403"},
		}})
	}
	return out
}

func allowSnippet(z *stack.Zone) string { return "allow-" + slug(z.Name) }

// globals are Caddy's global options. A block must not be empty, so the one
// that is always right stands in it: the ingress answers no API.
func (b *builder) globals(denies bool) []pair {
	c := b.e.cluster
	out := []pair{{"grace_period", "10s"}}
	if c.Ingress.Email != "" {
		out = append(out, pair{"email", c.Ingress.Email})
	}
	if c.Ingress.Storage != nil {
		out = append(out, pair{"storage", "postgres"}, pair{"storage.dsn_file", certificatePath(c.Ingress.Storage)})
	}
	if denies {
		// Who is not allowed in is told so before a login is asked for.
		out = append(out, pair{"order", "error before forward_auth"})
	}
	return append(out, clientAddress(c)...)
}

// clientAddress says who is believed about a client's address. The tunnel alone
// is where it stands alone: Cloudflare sets its header anew, and the module
// skep_service takes it from the tunnel's tasks only. Any other proxy may pass
// on whatever its client sent in that header, so where ranges are trusted too
// the address is the last in X-Forwarded-For that is no proxy's.
func clientAddress(c *stack.Cluster) []pair {
	ranges := joinPrefixes(c.Ingress.TrustedProxies)
	switch tunnel := c.Tunnel != nil && c.Tunnel.Service != nil; {
	case tunnel && ranges == "":
		return []pair{
			{"servers.trusted_proxies", tunnelSource(c.Tunnel)},
			{"servers.client_ip_headers", "Cf-Connecting-Ip"},
		}
	case tunnel:
		return []pair{{"servers.trusted_proxies", tunnelSource(c.Tunnel) + " " + ranges}, {"servers.trusted_proxies_strict", ""}}
	case ranges != "":
		return []pair{{"servers.trusted_proxies", "static " + ranges}, {"servers.trusted_proxies_strict", ""}}
	}
	return nil
}

// tunnelSource is the ingress's own source of addresses (services/ingress/proxies).
func tunnelSource(t *stack.Tunnel) string {
	return "skep_service " + string(t.Service.Stack) + "_" + string(t.Service.Service)
}
