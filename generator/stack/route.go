package stack

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"skep/generator/problem"
	"skep/networks"
)

// Host is a DNS host name, lower case, without a trailing dot.
type Host string

// ParseHost reads a host name (RFC 1123, 2.1).
func ParseHost(s string) (Host, error) {
	h, err := networks.ParseHost(s)
	return Host(h), err
}

// Route is one way in: a host, or some paths of it, to a port of a service.
// Zone defaults are already in it.
type Route struct {
	Host   Host
	Zone   *Zone
	Listen uint16   // port of the ingress; 0 is the standard one
	Paths  []string // empty: the whole host
	Strip  string   // path prefix taken off before the service sees it

	Port   uint16
	Scheme string // http, https, h2c

	Auth        Auth
	Allow       []netip.Prefix
	TLS         TLS
	Rate        *Rate
	Body        int64 // bytes, 0 is no limit
	Stream      bool
	Health      *Health
	Headers     Headers
	Maintenance *Maintenance
	Caddy       map[string]string // raw labels, without the leading "caddy."

	Pos problem.Position
}

// Auth says who may pass.
type Auth struct {
	SSO    bool
	Bypass []string // paths that need no login
	// Reason says why a route goes without SSO.
	Reason string
}

// Bypasses reports whether a path needs no login. Patterns are Caddy's, exact
// or with a * at the end.
func (a Auth) Bypasses(path string) bool {
	return slices.ContainsFunc(a.Bypass, func(pattern string) bool {
		prefix, open := strings.CutSuffix(strings.ToLower(pattern), "*")
		path := strings.ToLower(path)
		return path == prefix || open && strings.HasPrefix(path, prefix)
	})
}

// Rate is a limit by client address.
type Rate struct {
	Events int
	Window time.Duration
}

// Health is an active check of the upstream.
type Health struct {
	Path     string
	Interval time.Duration
	Timeout  time.Duration
}

// Headers are set on the way to the service and back.
type Headers struct {
	Security bool
	Request  map[string]string
	Response map[string]string
}

// Maintenance is the page while no upstream answers.
type Maintenance struct {
	RetryAfter time.Duration
	Message    string
}

// Site is the address of the route as Caddy writes it.
func (r Route) Site() string {
	site := string(r.Host)
	if r.Listen != 0 {
		site += ":" + strconv.Itoa(int(r.Listen))
	}
	if r.TLS.Mode == TLSOff {
		site = "http://" + site
	}
	return site
}

// URL is the address that a person opens.
func (r Route) URL() string {
	scheme := "https"
	if r.TLS.Mode == TLSOff && !r.Zone.Tunneled() {
		scheme = "http"
	}
	url := scheme + "://" + string(r.Host)
	if r.Listen != 0 {
		url += ":" + strconv.Itoa(int(r.Listen))
	}
	return url
}

// Root reports whether the route answers for the host's root.
func (r Route) Root() bool {
	return len(r.Paths) == 0 || slices.Contains(r.Paths, "/*")
}
