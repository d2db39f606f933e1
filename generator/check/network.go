package check

import (
	"slices"

	"skep/generator/problem"
	"skep/generator/stack"
	"skep/networks"
)

var ruleUnusedNetwork = rule("unused-network", problem.Warning, "A shared network that nobody uses")

func unusedNetwork(c *stack.Cluster) problem.List {
	members := membership(c)
	var found problem.List
	for _, n := range c.Networks {
		if !c.Positions.Has("networks", string(n.Name)) || len(members[string(n.Name)]) > 0 {
			continue
		}
		found = append(found, ruleUnusedNetwork.At(n.Pos, "no service uses the shared network %s", n.Name).
			WithRemedy("remove it, or name it in the x-uses of those that need it"))
	}
	return found
}

// membership lists the services on each overlay of the cluster.
func membership(c *stack.Cluster) map[string][]stack.ServiceRef {
	members := map[string][]stack.ServiceRef{}
	for _, s := range c.Stacks {
		for _, v := range s.Services {
			for _, overlay := range overlaysOf(c, s, v) {
				members[overlay] = append(members[overlay], v.Ref)
			}
		}
	}
	return members
}

// overlaysOf names the overlays that a service is on, sorted: a shared network
// by its name, one of the stack's own as stack/key.
func overlaysOf(c *stack.Cluster, s *stack.Stack, v *stack.Service) []string {
	var out []string
	shared := func(n networks.Name) { out = append(out, string(n)) }
	for key := range v.Compose.Networks {
		if n, ok := s.External[key]; ok {
			shared(n)
			continue
		}
		out = append(out, string(s.Name)+"/"+key)
	}
	if len(v.Compose.Networks) == 0 {
		out = append(out, string(s.Name)+"/default")
	}
	for _, u := range v.Uses {
		shared(u.Network)
	}
	if len(v.Routes) > 0 || v.Ref == c.Ingress.Service {
		shared(c.Ingress.Network)
	}
	if v.Metrics != nil {
		shared(c.Metrics)
	}
	if v.Egress || len(v.Compose.Ports) > 0 {
		out = append(out, string(s.Name)+"/egress")
	}
	slices.Sort(out)
	return slices.Compact(out)
}
