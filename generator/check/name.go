package check

import (
	"net/netip"
	"slices"

	"skep/generator/problem"
	"skep/generator/stack"
)

var (
	ruleNameTaken     = rule("name-taken", problem.Error, "A name that Skep gives to something else")
	ruleNameAmbiguous = rule("ambiguous-name", problem.Warning, "One name, two services")
	ruleApexCNAME     = rule("apex-cname", problem.Error, "A CNAME at the domain itself")
)

// nameTaken finds services that have the name of a docker proxy.
func nameTaken(_ *stack.Cluster, s *stack.Stack, v *stack.Service) problem.List {
	if v.DockerAPI == nil {
		return nil
	}
	taken, ok := s.Service(v.DockerProxy())
	if !ok {
		return nil
	}
	return problem.List{ruleNameTaken.At(taken.Pos, "%s is the name of %s's docker proxy", taken.Ref.Service, v.Ref.Service).
		WithRemedy("rename it; if it is a docker proxy written by hand, remove it: x-docker-api makes one").About(taken.Ref)}
}

// ambiguousNames finds services that look up a neighbour's name and may get a
// service of another stack: Swarm answers for a name on every network that the
// asking service is on.
func ambiguousNames(c *stack.Cluster) problem.List {
	type name struct {
		overlay string
		service stack.ServiceName
	}
	overlays := map[stack.ServiceRef][]string{}
	// holders are the first of each stack that has the name; two tell all.
	holders := map[name][]stack.ServiceRef{}
	for _, s := range c.Stacks {
		for _, v := range s.Services {
			overlays[v.Ref] = overlaysOf(c, s, v)
			for _, overlay := range overlays[v.Ref] {
				key := name{overlay, v.Ref.Service}
				if len(holders[key]) < 2 {
					holders[key] = append(holders[key], v.Ref)
				}
			}
		}
	}
	// stranger is a service of another stack with the neighbour's name.
	stranger := func(v, neighbour *stack.Service) (stack.ServiceRef, string, bool) {
		for _, overlay := range overlays[v.Ref] {
			for _, ref := range holders[name{overlay, neighbour.Ref.Service}] {
				if ref.Stack != v.Ref.Stack {
					return ref, overlay, true
				}
			}
		}
		return stack.ServiceRef{}, "", false
	}
	var found problem.List
	for _, s := range c.Stacks {
		for _, v := range s.Services {
			for _, neighbour := range s.Services {
				other, overlay, ok := stranger(v, neighbour)
				if !ok || neighbour == v || !meet(overlays[v.Ref], overlays[neighbour.Ref]) {
					continue
				}
				found = append(found, ruleNameAmbiguous.At(v.Pos, "it gets %s, or %s on network %s, when it asks for %q", neighbour.Ref, other, overlay, neighbour.Ref.Service).
					WithRemedy("call them %s_%s and %s_%s, which Swarm answers too, or rename one", s.Name, other.Service, other.Stack, other.Service).About(v.Ref))
				break // one name tells of the trap
			}
		}
	}
	return found
}

func meet(a, b []string) bool {
	return slices.ContainsFunc(a, func(name string) bool { return slices.Contains(b, name) })
}

// apexCNAME finds routes for a zone's domain itself where its records point at
// a name: the domain holds an SOA record, beside which no CNAME may stand (RFC
// 1034, 3.6.2). Cloudflare resolves the target itself.
func apexCNAME(_ *stack.Cluster, _ *stack.Stack, v *stack.Service) problem.List {
	var found problem.List
	for _, r := range v.Routes {
		if r.Zone == nil || r.Host != r.Zone.Domain || r.Zone.Provider == "cloudflare" || r.Zone.Target == "" || r.Zone.Target == string(r.Host) {
			continue
		}
		if _, err := netip.ParseAddr(r.Zone.Target); err == nil {
			continue
		}
		found = append(found, ruleApexCNAME.At(r.Pos, "%s is the domain of zone %q, which points at the name %s", r.Host, r.Zone.Name, r.Zone.Target).
			WithRemedy("give the zone an address as target, or the route a host below the domain: www.%s", r.Host).About(v.Ref))
	}
	return found
}
