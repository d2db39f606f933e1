package check

import (
	"strings"

	"skep/generator/problem"
	"skep/generator/stack"
)

var (
	ruleSplitHorizon      = rule("split-horizon", problem.Error, "One name in two zones")
	rulePrivateNamePublic = rule("private-name-public-zone", problem.Error, "A private name in a public zone")
)

// splitHorizon finds names that two zones answer, differently.
func splitHorizon(c *stack.Cluster) problem.List {
	var found problem.List
	zones := map[stack.Host]*stack.Zone{}
	for _, z := range c.Zones {
		first, ok := zones[z.Domain]
		if !ok || z.Domain == "" {
			zones[z.Domain] = z
			continue
		}
		found = append(found, ruleSplitHorizon.At(c.Positions.At("zones", z.Name, "domain"), "zones %q and %q have one domain, %s", first.Name, z.Name, z.Domain).
			WithRemedy("give one of them a domain of its own: in.%s", z.Domain))
	}
	hosts := map[stack.Host]claim{}
	for _, cl := range claims(c) {
		if cl.route == nil || cl.route.Zone == nil {
			continue
		}
		first, ok := hosts[cl.host]
		if !ok {
			hosts[cl.host] = cl
			continue
		}
		if a, b := first.route.Zone, cl.route.Zone; a.Name != b.Name && a.Domain != b.Domain {
			found = append(found, ruleSplitHorizon.At(cl.pos, "%s is published in zone %q here and in zone %q (%s)", cl.host, b.Name, a.Name, first.pos).
				WithRemedy("publish it in one zone, and give the other way in a name of its own").About(cl.service.Ref))
		}
	}
	return found
}

// privateName finds hosts of a private zone's domain that a zone which is not
// private would publish.
func privateName(c *stack.Cluster) problem.List {
	var found problem.List
	for _, cl := range claims(c) {
		if cl.route == nil || cl.route.Zone == nil || cl.route.Zone.Private {
			continue
		}
		home := homeZone(c, cl.host)
		if home == nil || !home.Private {
			continue
		}
		found = append(found, rulePrivateNamePublic.At(cl.pos, "%s is a name of the private zone %q, and zone %q publishes it", cl.host, home.Name, cl.route.Zone.Name).
			WithRemedy("zone: %s keeps it inside; to publish the service give it a name of zone %q", home.Name, cl.route.Zone.Name).About(cl.service.Ref))
	}
	return found
}

// homeZone is the zone with the longest domain that the host lies in.
func homeZone(c *stack.Cluster, host stack.Host) *stack.Zone {
	var home *stack.Zone
	for _, z := range c.Zones {
		if z.Domain == "" || host != z.Domain && !strings.HasSuffix(string(host), "."+string(z.Domain)) {
			continue
		}
		if home == nil || len(z.Domain) > len(home.Domain) {
			home = z
		}
	}
	return home
}
