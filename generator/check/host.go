package check

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"skep/generator/problem"
	"skep/generator/stack"
)

var (
	ruleHostClaimed  = rule("host-claimed", problem.Error, "Two stacks claim one host")
	ruleRouteClaimed = rule("route-claimed", problem.Error, "Two routes to one path")
	ruleTLSConflict  = rule("tls-conflict", problem.Error, "Two kinds of TLS on one host")
)

// claim is a service that answers for a host on a port of the ingress.
type claim struct {
	service *stack.Service
	host    stack.Host
	listen  uint16
	pos     problem.Position
	route   *stack.Route // nil for a label that somebody wrote by hand
}

// address is what a client asks: 443 and 80 are one, a redirect joins them.
func (c claim) address() string {
	if c.listen == 0 {
		return string(c.host)
	}
	return string(c.host) + ":" + strconv.Itoa(int(c.listen))
}

// claims lists the claims of the cluster by stack, service and route.
func claims(c *stack.Cluster) []claim {
	var out []claim
	for _, v := range c.Services() {
		for i := range v.Routes {
			r := &v.Routes[i]
			out = append(out, claim{service: v, host: r.Host, listen: r.Listen, pos: r.Pos, route: r})
		}
		out = append(out, labelClaims(v)...)
	}
	return out
}

var siteLabel = regexp.MustCompile(`^caddy(_\d+)?$`)

// labelClaims reads the sites that hand-written labels open.
func labelClaims(v *stack.Service) []claim {
	if v.Compose.Deploy == nil {
		return nil
	}
	var out []claim
	for _, key := range sortedKeys(v.Compose.Deploy.Labels) {
		if !siteLabel.MatchString(key) {
			continue
		}
		for _, site := range strings.FieldsFunc(v.Compose.Deploy.Labels[key], func(r rune) bool { return r == ' ' || r == ',' }) {
			if _, rest, ok := strings.Cut(site, "://"); ok {
				site = rest
			}
			site, _, _ = strings.Cut(site, "/")
			name, port, _ := strings.Cut(site, ":")
			host, err := stack.ParseHost(name)
			if err != nil || !strings.Contains(name, ".") {
				continue // a snippet, a port alone, a template
			}
			listen, _ := strconv.ParseUint(port, 10, 16)
			if listen == 80 || listen == 443 {
				listen = 0
			}
			out = append(out, claim{service: v, host: host, listen: uint16(listen), pos: v.At("deploy", "labels", key)})
		}
	}
	return out
}

func hostClaimed(c *stack.Cluster) problem.List {
	first := map[string]claim{}
	var found problem.List
	for _, cl := range claims(c) {
		owner, ok := first[cl.address()]
		if !ok {
			first[cl.address()] = cl
			continue
		}
		if owner.service.Ref.Stack == cl.service.Ref.Stack {
			continue
		}
		p := ruleHostClaimed.At(cl.pos, "%s belongs to stack %s already (%s)", cl.address(), owner.service.Ref.Stack, owner.pos)
		found = append(found, p.WithRemedy("give one of them another host, or move both into one stack and split the host with `paths`").About(cl.service.Ref))
	}
	return found
}

// routeClaimed finds paths of a site that two routes answer. Across stacks
// host-claimed says so already, unless it is waived.
func routeClaimed(c *stack.Cluster) problem.List {
	type place struct{ site, path string }
	first := map[place]claim{}
	var found problem.List
	for _, cl := range claims(c) {
		if cl.route == nil {
			continue
		}
		paths := cl.route.Paths
		if len(paths) == 0 {
			paths = []string{"/*"}
		}
		for _, path := range paths {
			at := place{cl.route.Site(), path}
			owner, ok := first[at]
			if !ok {
				first[at] = cl
				continue
			}
			_, waived := cl.service.Waivers[ruleHostClaimed.ID]
			if owner.service.Ref.Stack != cl.service.Ref.Stack && !waived {
				continue
			}
			p := ruleRouteClaimed.At(cl.pos, "%s%s goes to %s already (%s): requests would reach either", cl.address(), path, owner.service.Ref, owner.pos)
			found = append(found, p.WithRemedy("give each route paths of its own, or remove one").About(cl.service.Ref))
		}
	}
	return found
}

// tlsConflict finds hosts that are to have two kinds of certificate: Caddy has
// one policy for a host, whatever the port. Plain HTTP conflicts on one port only.
func tlsConflict(c *stack.Cluster) problem.List {
	type site struct {
		claim
		tls string
	}
	all := slices.DeleteFunc(claims(c), func(cl claim) bool { return cl.route == nil })
	// Routes that keep to their zone are right; the others are told so.
	slices.SortStableFunc(all, func(a, b claim) int { return boolInt(a.ownTLS()) - boolInt(b.ownTLS()) })
	seen := map[stack.Host][]site{}
	var found problem.List
	for _, cl := range all {
		now := site{cl, tlsText(cl.route.TLS)}
		conflict := func(o site) bool {
			plain := o.route.TLS.Mode == stack.TLSOff || now.route.TLS.Mode == stack.TLSOff
			return o.tls != now.tls && (!plain || o.listen == now.listen)
		}
		if i := slices.IndexFunc(seen[cl.host], conflict); i >= 0 {
			o := seen[cl.host][i]
			p := ruleTLSConflict.At(cl.pos, "%s has TLS %s here and %s for %s (%s)", cl.host, now.route.TLS.Mode, o.route.TLS.Mode, o.service.Ref, o.pos)
			found = append(found, p.WithRemedy("leave `tls` out of both: the zone says what its hosts have").About(cl.service.Ref))
		}
		seen[cl.host] = append(seen[cl.host], now)
	}
	return found
}

// ownTLS reports whether the route has other TLS than its zone.
func (c claim) ownTLS() bool {
	return c.route.Zone != nil && tlsText(c.route.TLS) != tlsText(c.route.Zone.TLS)
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// tlsText is equal for equal TLS.
func tlsText(t stack.TLS) string {
	text := string(t.Mode) + " " + t.Provider
	if t.Token != nil {
		text += " " + t.Token.String()
	}
	if t.Certificate != nil {
		text += " " + t.Certificate.String()
	}
	return text
}
