// Package stack is the model that everything below the loader trusts: a
// cluster, its stacks, their services and what they ask for. Values are made
// by generator/spec, which has checked them; nothing here reads a file.
package stack

import (
	"net/netip"
	"slices"
	"time"

	"skep/generator/problem"
	"skep/networks"
	"skep/secrets"
)

// Cluster is a whole project: the cluster file and every stack.
type Cluster struct {
	Name     string
	Tiers    []Tier // in deploy order
	Zones    []*Zone
	Nodes    []string // host names, empty when the cluster file lists none
	Ingress  Ingress
	SSO      *SSO
	Tunnel   *Tunnel
	Networks []SharedNetwork
	Metrics  networks.Name // the shared network that scrapes travel on, if any
	Pool     networks.Pool
	Secrets  SecretStore
	Defaults Defaults
	Previews Previews
	Stacks   []*Stack // sorted by name

	// Taken are the subnets that a Swarm gave to networks by name, previews' and
	// others: a network of that name keeps its own, and no other gets it.
	Taken map[networks.Name]netip.Prefix

	Lock   secrets.Lock // versions of references, nil without a secrets.lock
	Images ImageLock

	Pos       problem.Position
	Positions Positions
}

// Tier is a step of the deploy order.
type Tier string

// Zone is a DNS zone that routes publish names in.
type Zone struct {
	Name     string
	Domain   Host
	Provider string
	// Target is what names point at: "tunnel", a host name or an address.
	Target  string
	Proxied bool
	// Private zones answer inside only.
	Private bool
	Allow   []netip.Prefix
	TLS     TLS
	Pos     problem.Position
}

// Tunneled says that names of the zone are reached through the tunnel.
func (z *Zone) Tunneled() bool { return z.Target == "tunnel" }

// Ingress is the Caddy that reads labels.
type Ingress struct {
	Network networks.Name
	Service ServiceRef
	Default RouteDefaults
	Email   string // ACME account
	// Storage is the address of the database that several ingresses keep
	// certificates in; without one they stay in the ingress's volume.
	Storage *secrets.Reference
	// TrustedProxies are the ranges whose forwarded client address counts.
	TrustedProxies []netip.Prefix
	Pos            problem.Position
}

// RouteDefaults apply to a route that does not say otherwise.
type RouteDefaults struct {
	Zone        string
	SSO         bool
	Security    bool
	Maintenance bool
}

// TLSMode says where a site's certificate comes from.
type TLSMode string

const (
	TLSACME     TLSMode = "acme"
	TLSACMEDNS  TLSMode = "acme-dns"
	TLSOrigin   TLSMode = "origin"
	TLSCustom   TLSMode = "custom"
	TLSInternal TLSMode = "internal"
	TLSOff      TLSMode = "off"
)

// TLS is how sites get their certificate.
type TLS struct {
	Mode        TLSMode
	Provider    string // of the DNS challenge
	Token       *secrets.Reference
	Certificate *secrets.Reference
	Key         *secrets.Reference
}

// SSO is the forward-auth provider.
type SSO struct {
	Provider string
	// Upstream is the outpost's URL as the ingress reaches it.
	Upstream string
	// Worker gets the generated blueprints, if set.
	Worker  *ServiceRef
	Headers []string // copied from the outpost's answer to the request
	Pos     problem.Position
}

// Tunnel is the Cloudflare Tunnel of the public zones.
type Tunnel struct {
	ID string
	// Origin is the URL of the ingress as cloudflared reaches it.
	Origin  string
	Service *ServiceRef // runs cloudflared, gets its ingress file
	Pos     problem.Position
}

// SharedNetwork is an overlay that several stacks may attach to.
type SharedNetwork struct {
	Name      networks.Name
	Internal  bool
	Encrypted bool
	Subnet    netip.Prefix // zero: taken from the pool
	Owner     Name         // deployed before its users; empty if no stack is
	Pos       problem.Position
}

// SecretStore is where references are resolved.
type SecretStore struct {
	Provider string
	Host     string
	File     string // relative to the cluster file
	Mode     string
	Driver   string // of mode driver
}

// Defaults fill what a service leaves out.
type Defaults struct {
	CPUs        string
	Memory      int64 // bytes
	Logging     Logging
	Update      Update
	MaxAttempts *uint64
	DockerProxy string // image
}

// Logging is a log driver and its options.
type Logging struct {
	Driver  string
	Options map[string]string
}

// Update is the pace of a rolling update.
type Update struct {
	Parallelism uint64
	Delay       time.Duration
	Monitor     time.Duration
}

// ImageLock is what a registry said of images, by the name in the stack file.
type ImageLock map[string]LockedImage

// LockedImage pins an image and remembers how it starts.
type LockedImage struct {
	Digest     string
	Entrypoint []string
	Command    []string
}

// Zone finds a zone by name.
func (c *Cluster) Zone(name string) (*Zone, bool) {
	i := slices.IndexFunc(c.Zones, func(z *Zone) bool { return z.Name == name })
	if i < 0 {
		return nil, false
	}
	return c.Zones[i], true
}

// Network finds a shared network by name.
func (c *Cluster) Network(name networks.Name) (SharedNetwork, bool) {
	i := slices.IndexFunc(c.Networks, func(n SharedNetwork) bool { return n.Name == name })
	if i < 0 {
		return SharedNetwork{}, false
	}
	return c.Networks[i], true
}

// Stack finds a stack by name.
func (c *Cluster) Stack(name Name) (*Stack, bool) {
	i, ok := slices.BinarySearchFunc(c.Stacks, name, func(s *Stack, n Name) int {
		switch {
		case s.Name < n:
			return -1
		case s.Name > n:
			return 1
		}
		return 0
	})
	if !ok {
		return nil, false
	}
	return c.Stacks[i], true
}

// Service finds a service by reference.
func (c *Cluster) Service(ref ServiceRef) (*Service, bool) {
	s, ok := c.Stack(ref.Stack)
	if !ok {
		return nil, false
	}
	return s.Service(ref.Service)
}

// Services returns every service of the cluster, by stack and name.
func (c *Cluster) Services() []*Service {
	var out []*Service
	for _, s := range c.Stacks {
		out = append(out, s.Services...)
	}
	return out
}
