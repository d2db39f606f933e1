// Package labels reads from the services of a Swarm which hosts they route: the
// same labels that the ingress reads, so that a route and its name cannot
// differ.
package labels

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"skep/networks"
)

// Service is a service of the Swarm.
type Service struct {
	Name   string
	Labels map[string]string
}

// namespace is the stack's name on what `docker stack deploy` makes.
const namespace = "com.docker.stack.namespace"

// owner is stack/service, as stack files call it.
func (s Service) owner() string {
	stack := s.Labels[namespace]
	if stack == "" {
		return s.Name
	}
	return stack + "/" + strings.TrimPrefix(s.Name, stack+"_")
}

// site is a label whose value is the address of a site:
// caddy, caddy_0, caddy_1, ...
var site = regexp.MustCompile(`^caddy(_\d+)?$`)

// Site is a host of a service.
type Site struct {
	Host string
	// Plain sites answer over HTTP; SelfSigned ones with a certificate of the
	// ingress's own authority (tls internal).
	Plain, SelfSigned bool
}

// Sites are those that the labels declare, sorted by host, each once. Snippets,
// matchers, placeholders and sites without a host have none.
func Sites(labels map[string]string) []Site {
	var out []Site
	for key, value := range labels {
		if !site.MatchString(key) || strings.HasPrefix(strings.TrimSpace(value), "(") {
			continue
		}
		for address := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' }) {
			if host, ok := hostOf(address); ok {
				plain := strings.HasPrefix(address, "http://")
				out = append(out, Site{host, plain, !plain && strings.TrimSpace(labels[key+".tls"]) == "internal"})
			}
		}
	}
	// One that is there over HTTPS too is no plain one.
	slices.SortFunc(out, func(a, b Site) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), compareBool(a.Plain, b.Plain), compareBool(a.SelfSigned, b.SelfSigned))
	})
	return slices.CompactFunc(out, func(a, b Site) bool { return a.Host == b.Host })
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// Hosts are the hosts of the sites that the labels declare.
func Hosts(labels map[string]string) []string {
	var out []string
	for _, s := range Sites(labels) {
		out = append(out, s.Host)
	}
	return out
}

// Owned is a host of the service that owns its record, stack/service.
type Owned struct{ Owner, Host string }

// SitesOf are the sites of all services.
func SitesOf(services []Service) map[Owned]Site {
	out := map[Owned]Site{}
	for _, s := range services {
		for _, site := range Sites(s.Labels) {
			out[Owned{s.owner(), site.Host}] = site
		}
	}
	return out
}

// hostOf takes the host out of a site's address: [scheme://]host[:port][/path].
func hostOf(address string) (string, bool) {
	if scheme, rest, ok := strings.Cut(address, "://"); ok {
		if scheme != "http" && scheme != "https" {
			return "", false
		}
		address = rest
	}
	address, _, _ = strings.Cut(address, "/")
	address, _, _ = strings.Cut(address, ":")
	host, err := networks.ParseHost(address)
	return host, err == nil && strings.Contains(host, ".")
}

// Zones gives the zones the records that the services' hosts ask for: each in
// the zone with the longest domain that holds it, pointing at the zone's target.
// A record of the zone that a service owns counts only while that service has
// the host; one without an owner always does. A host outside all zones is
// somebody else's affair.
func Zones(base []networks.Zone, services []Service) []networks.Zone {
	out := slices.Clone(base)
	taken := map[string]bool{}
	for i, z := range out {
		out[i].Records = nil
		for _, r := range z.Records {
			if r.Owner == "" {
				out[i].Records = append(out[i].Records, r)
				taken[strings.ToLower(r.Name)] = true
			}
		}
	}
	sorted := slices.SortedFunc(slices.Values(services), func(a, b Service) int { return strings.Compare(a.owner(), b.owner()) })
	for _, s := range sorted {
		for _, host := range Hosts(s.Labels) {
			i := zoneOf(out, host)
			if i < 0 || taken[host] {
				continue // or the first service that has the host owns its record
			}
			z := &out[i]
			kind, content, err := networks.Target(z.Target)
			if err != nil || content == host {
				continue // no target, or the target itself
			}
			taken[host] = true
			z.Records = append(z.Records, networks.Record{Name: host, Type: kind, Content: content, Proxied: z.Proxied, Owner: s.owner()})
		}
	}
	return out
}

func zoneOf(zones []networks.Zone, host string) int {
	best := -1
	for i, z := range zones {
		if (host == z.Domain || strings.HasSuffix(host, "."+z.Domain)) && (best < 0 || len(z.Domain) > len(zones[best].Domain)) {
			best = i
		}
	}
	return best
}
