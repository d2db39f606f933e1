package spec

import (
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"skep/generator/problem"
	"skep/generator/stack"
	"skep/networks"
	"skep/secrets"
)

// authentikHeaders are what an Authentik outpost tells the service behind it
// (https://docs.goauthentik.io/docs/add-secure-apps/providers/proxy/server_caddy).
var authentikHeaders = []string{
	"X-Authentik-Username", "X-Authentik-Groups", "X-Authentik-Entitlements", "X-Authentik-Email",
	"X-Authentik-Name", "X-Authentik-Uid", "X-Authentik-Jwt", "X-Authentik-Meta-Jwks",
	"X-Authentik-Meta-Outpost", "X-Authentik-Meta-Provider", "X-Authentik-Meta-App", "X-Authentik-Meta-Version",
}

// dockerProxyImage is what sidecars run unless the cluster file says otherwise.
const dockerProxyImage = "ghcr.io/skep-sh/skep-dockerproxy:0.1.0"

// loadCluster reads the cluster file and the lock files beside it.
func loadCluster(root string) (c *stack.Cluster, patterns, profiles []string, problems problem.List) {
	doc, problems := readDocument(filepath.Join(root, ClusterFile), ClusterFile)
	if doc == nil {
		return nil, nil, nil, problems
	}
	env, fault := environment(filepath.Base, filepath.Join(root, ".env"))
	if fault != nil {
		return nil, nil, nil, append(problems, *fault)
	}
	if unset := unsetVariables(doc, env); len(unset) > 0 {
		return nil, nil, nil, append(problems, unset...)
	}
	values, err := interpolate(doc.values, env)
	if err != nil {
		return nil, nil, nil, append(problems, ruleValue.At(doc.positions.At(), "%s", err))
	}
	d := &decoder{positions: doc.positions}
	var f clusterFile
	d.decode(values, &f)
	cc := &clusterConverter{decoder: d}
	c = cc.convert(f)
	c.Positions = doc.positions
	cc.locks(root, c)
	patterns = f.Stacks
	if len(patterns) == 0 {
		patterns = []string{"**/stack.yaml"}
	}
	return c, patterns, f.Profiles, append(problems, d.problems...)
}

type clusterConverter struct{ *decoder }

func (d *clusterConverter) convert(f clusterFile) *stack.Cluster {
	c := &stack.Cluster{Name: f.Name, Nodes: f.Nodes, Pos: d.positions.At("name")}
	tiers := []string(f.Tiers)
	if len(tiers) == 0 {
		tiers = []string{"infrastructure", "platform", "application"}
	}
	for _, t := range tiers {
		c.Tiers = append(c.Tiers, stack.Tier(t))
	}
	for _, name := range slices.Sorted(maps.Keys(f.Zones)) {
		c.Zones = append(c.Zones, d.zone(name, f))
	}
	for name := range f.Ingress.TLS {
		if _, ok := f.Zones[name]; !ok {
			d.unknown([]string{"ingress", "tls", name}, "zone", name, slices.Sorted(maps.Keys(f.Zones)))
		}
	}
	d.networks(c, f)
	d.ingress(c, f)
	if f.SSO != nil {
		c.SSO = &stack.SSO{Provider: or(f.SSO.Provider, "authentik"), Upstream: f.SSO.Upstream, Headers: f.SSO.Headers, Pos: d.positions.At("sso")}
		c.SSO.Worker = d.serviceRef(f.SSO.Worker, "sso", "worker")
		if len(c.SSO.Headers) == 0 {
			c.SSO.Headers = authentikHeaders
		}
	}
	if f.Tunnel != nil {
		c.Tunnel = &stack.Tunnel{ID: f.Tunnel.ID, Origin: f.Tunnel.Origin, Pos: d.positions.At("tunnel")}
		c.Tunnel.Service = d.serviceRef(f.Tunnel.Service, "tunnel", "service")
		if c.Tunnel.Origin == "" {
			c.Tunnel.Origin = "https://" + string(c.Ingress.Service.Stack) + "_" + string(c.Ingress.Service.Service)
		}
	}
	c.Secrets = stack.SecretStore{
		Provider: or(f.Secrets.Provider, "onepassword-connect"), Host: f.Secrets.Host, File: or(f.Secrets.File, "secrets.age"),
		Mode: or(f.Secrets.Mode, "versioned"), Driver: or(f.Secrets.Driver, "skep"),
	}
	c.Defaults = d.defaults(f.Defaults)
	c.Previews = d.previews(c, f)
	return c
}

// previews reads what previews may do. The names of stacks are looked up when
// the stacks are known.
func (d *clusterConverter) previews(c *stack.Cluster, f clusterFile) stack.Previews {
	out := stack.Previews{Pos: d.positions.At("previews")}
	if f.Previews == nil {
		return out
	}
	for i, s := range f.Previews.Stacks {
		name, err := stack.ParseName(s)
		if err != nil {
			d.fail(ruleValue, []string{"previews", "stacks", itoa(i)}, "%s", err)
			continue
		}
		out.Stacks = append(out.Stacks, name)
	}
	for i, name := range f.Previews.Zones {
		if _, ok := c.Zone(name); !ok {
			d.unknown([]string{"previews", "zones", itoa(i)}, "zone", name, slices.Sorted(maps.Keys(f.Zones)))
		}
		out.Zones = append(out.Zones, name)
	}
	for i, name := range f.Previews.Uses {
		if _, ok := c.Network(networks.Name(name)); !ok {
			d.unknown([]string{"previews", "uses", itoa(i)}, "shared network", name, slices.Sorted(maps.Keys(f.Networks)))
		}
		out.Uses = append(out.Uses, networks.Name(name))
	}
	for i, s := range f.Previews.Secrets {
		prefix, err := secrets.ParsePrefix(s)
		if err != nil {
			p := d.fail(ruleReference, []string{"previews", "secrets", itoa(i)}, "%s", err)
			*p = p.WithRemedy("name a vault or an item: op://previews, op://previews/app")
			continue
		}
		out.Secrets = append(out.Secrets, prefix)
	}
	return out
}

func (d *clusterConverter) zone(name string, f clusterFile) *stack.Zone {
	def := f.Zones[name]
	z := &stack.Zone{
		Name: name, Provider: or(def.Provider, "none"), Target: def.Target,
		Proxied: def.Proxied, Private: def.Private, Pos: d.positions.At("zones", name),
	}
	if def.Domain != "" {
		host, err := stack.ParseHost(def.Domain)
		if err != nil {
			d.fail(ruleValue, []string{"zones", name, "domain"}, "%s", err)
		}
		z.Domain = host
	}
	if z.Tunneled() && f.Tunnel == nil {
		p := d.fail(ruleValue, []string{"zones", name, "target"}, "zone %q goes through a tunnel and the cluster has none", name)
		*p = p.WithRemedy("add `tunnel: {id: ...}` to the cluster file")
	}
	z.Allow = d.prefixes(def.Allow, "zones", name, "allow")
	z.TLS = stack.TLS{Mode: stack.TLSACME}
	if z.Tunneled() {
		z.TLS.Mode = stack.TLSOff
	}
	if t, ok := f.Ingress.TLS[name]; ok {
		at := []string{"ingress", "tls", name}
		z.TLS = stack.TLS{Mode: stack.TLSMode(t.Mode), Provider: or(t.Provider, "cloudflare")}
		z.TLS.Token = d.reference(t.Token, append(at, "token")...)
		z.TLS.Certificate = d.reference(t.Certificate, append(at, "certificate")...)
		z.TLS.Key = d.reference(t.Key, append(at, "key")...)
		d.completeTLS(z.TLS, at)
	}
	return z
}

func (d *clusterConverter) completeTLS(t stack.TLS, at []string) {
	switch t.Mode {
	case stack.TLSACMEDNS:
		if t.Token == nil {
			p := d.fail(ruleValue, at, "mode acme-dns needs the DNS provider's token")
			*p = p.WithRemedy("token: op://vault/item/field")
		}
	case stack.TLSOrigin, stack.TLSCustom:
		if t.Certificate == nil || t.Key == nil {
			p := d.fail(ruleValue, at, "mode %s needs a certificate and a key", t.Mode)
			*p = p.WithRemedy("certificate: op://vault/item/cert, key: op://vault/item/key")
		}
	}
}

func (d *clusterConverter) networks(c *stack.Cluster, f clusterFile) {
	pool, err := networks.ParsePool(or(f.Subnets.Pool, "10.128.0.0/10"), or(f.Subnets.Size, 24))
	if err != nil {
		d.fail(ruleValue, []string{"subnets"}, "%s", err)
	}
	c.Pool = pool
	for _, key := range slices.Sorted(maps.Keys(f.Networks)) {
		name, err := networks.ParseName(key)
		if err != nil {
			d.fail(ruleValue, []string{"networks", key}, "%s", err)
			continue
		}
		n := stack.SharedNetwork{Name: name, Pos: d.positions.At("networks", key)}
		if def := f.Networks[key]; def != nil {
			n.Internal, n.Encrypted, n.Owner = def.Internal, def.Encrypted, stack.Name(def.Owner)
			if def.Subnet != "" {
				if n.Subnet, err = netip.ParsePrefix(def.Subnet); err != nil {
					d.fail(ruleValue, []string{"networks", key, "subnet"}, "%q is not a subnet such as 10.20.0.0/24", def.Subnet)
				}
			}
		}
		c.Networks = append(c.Networks, n)
	}
	if f.Metrics != "" {
		c.Metrics = networks.Name(f.Metrics)
		if _, ok := c.Network(c.Metrics); !ok {
			d.unknown([]string{"metrics"}, "network", f.Metrics, slices.Sorted(maps.Keys(f.Networks)))
		}
	}
}

func (d *clusterConverter) ingress(c *stack.Cluster, f clusterFile) {
	i := f.Ingress
	c.Ingress = stack.Ingress{Network: networks.Name(or(i.Network, "proxy_network")), Email: i.Email, Pos: d.positions.At("ingress")}
	c.Ingress.Storage = d.reference(i.Storage, "ingress", "storage")
	if ref := d.serviceRef(or(i.Service, "ingress/caddy"), "ingress", "service"); ref != nil {
		c.Ingress.Service = *ref
	}
	c.Ingress.TrustedProxies = d.prefixes(i.TrustedProxies, "ingress", "trusted_proxies")
	if _, ok := c.Network(c.Ingress.Network); !ok {
		c.Networks = append(c.Networks, stack.SharedNetwork{Name: c.Ingress.Network, Owner: c.Ingress.Service.Stack, Pos: c.Ingress.Pos})
		slices.SortFunc(c.Networks, func(a, b stack.SharedNetwork) int { return strings.Compare(string(a.Name), string(b.Name)) })
	}
	c.Ingress.Default = stack.RouteDefaults{
		Zone: i.Default.Zone, SSO: f.SSO != nil, Security: orTrue(i.Default.Security), Maintenance: orTrue(i.Default.Maintenance),
	}
	if i.Default.Auth != nil {
		c.Ingress.Default.SSO = i.Default.Auth.SSO
	}
	if c.Ingress.Default.SSO && f.SSO == nil {
		p := d.fail(ruleValue, []string{"ingress", "default", "auth"}, "routes default to SSO and the cluster has no sso")
		*p = p.WithRemedy("add `sso:` to the cluster file or set auth: none")
	}
	if zone := i.Default.Zone; zone != "" {
		if _, ok := c.Zone(zone); !ok {
			d.unknown([]string{"ingress", "default", "zone"}, "zone", zone, slices.Sorted(maps.Keys(f.Zones)))
		}
	} else if len(c.Zones) == 1 {
		c.Ingress.Default.Zone = c.Zones[0].Name
	}
}

func (d *clusterConverter) defaults(f defaultsFile) stack.Defaults {
	out := stack.Defaults{
		CPUs: f.Resources.CPUs, Memory: int64(f.Resources.Memory), DockerProxy: or(f.DockerProxy, dockerProxyImage),
		Logging: stack.Logging{Driver: f.Logging.Driver, Options: f.Logging.Options},
		Update: stack.Update{
			Parallelism: or(f.Update.Parallelism, 1),
			Delay:       time.Duration(f.Update.Delay),
			Monitor:     time.Duration(or(f.Update.Monitor, duration(15*time.Second))),
		},
		MaxAttempts: f.Restart.MaxAttempts,
	}
	if out.Logging.Driver == "" {
		out.Logging.Driver = "json-file"
		if out.Logging.Options == nil {
			out.Logging.Options = map[string]string{"max-size": "10m", "max-file": "3"}
		}
	}
	return out
}

func (d *decoder) serviceRef(s string, at ...string) *stack.ServiceRef {
	if s == "" {
		return nil
	}
	ref, err := stack.ParseServiceRef(s)
	if err != nil {
		d.fail(ruleValue, at, "%s", err)
		return nil
	}
	return &ref
}

func (d *decoder) reference(s string, at ...string) *secrets.Reference {
	if s == "" {
		return nil
	}
	ref, err := secrets.ParseReference(s)
	if err != nil {
		p := d.fail(ruleReference, at, "%s", err)
		*p = p.WithRemedy("write op://vault/item/field")
		return nil
	}
	return &ref
}

func (d *decoder) prefixes(list []string, at ...string) []netip.Prefix {
	var out []netip.Prefix
	for i, s := range list {
		if addr, err := netip.ParseAddr(s); err == nil {
			out = append(out, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			d.fail(ruleValue, append(at, itoa(i)), "%q is not an address or a range such as 10.0.0.0/8", s)
			continue
		}
		out = append(out, p.Masked())
	}
	return out
}

// unknown reports a name that nothing declares.
func (d *decoder) unknown(path []string, kind, name string, known []string) {
	p := d.fail(ruleUnknownName, path, "there is no %s %q", kind, name)
	switch near, ok := nearest(name, known); {
	case ok:
		*p = p.WithRemedy("did you mean %q?", near)
	case len(known) > 0:
		*p = p.WithRemedy("declared are %s", strings.Join(known, ", "))
	default:
		*p = p.WithRemedy("declare it in %s", ClusterFile)
	}
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func orTrue(b *bool) bool { return b == nil || *b }
