package check

import (
	"slices"
	"strings"

	"skep/generator/problem"
	"skep/generator/stack"
)

var (
	ruleStackCycle = rule("stack-cycle", problem.Error, "Stacks wait for each other")
	ruleTierOrder  = rule("tier-order", problem.Error, "A network of a later tier")
)

// dependency is a service that needs the stack which owns a shared network.
type dependency struct {
	service *stack.Service
	use     stack.Use
	owner   *stack.Stack
}

func dependencies(c *stack.Cluster, s *stack.Stack) []dependency {
	var out []dependency
	for _, v := range s.Services {
		for _, use := range v.Uses {
			n, ok := c.Network(use.Network)
			if !ok || n.Owner == s.Name {
				continue
			}
			if owner, ok := c.Stack(n.Owner); ok {
				out = append(out, dependency{v, use, owner})
			}
		}
	}
	return out
}

// stackCycle finds the dependencies that close a circle within a tier.
func stackCycle(c *stack.Cluster) problem.List {
	const (
		unseen = iota
		open
		done
	)
	state := map[stack.Name]int{}
	var trail []string
	var found problem.List
	var visit func(s *stack.Stack)
	visit = func(s *stack.Stack) {
		state[s.Name] = open
		trail = append(trail, string(s.Name))
		for _, d := range dependencies(c, s) {
			if d.owner.Tier != s.Tier {
				continue
			}
			switch state[d.owner.Name] {
			case unseen:
				visit(d.owner)
			case open:
				circle := append(slices.Clone(trail[slices.Index(trail, string(d.owner.Name)):]), string(d.owner.Name))
				p := ruleStackCycle.At(d.use.Pos, "stacks wait for each other: %s", strings.Join(circle, " -> "))
				found = append(found, p.WithRemedy("merge them, move one to another tier, or give network %s another owner", d.use.Network).About(d.service.Ref))
			}
		}
		trail = trail[:len(trail)-1]
		state[s.Name] = done
	}
	for _, s := range c.Stacks {
		if state[s.Name] == unseen {
			visit(s)
		}
	}
	return found
}

// tierOrder finds dependencies on what is deployed later.
func tierOrder(c *stack.Cluster) problem.List {
	var found problem.List
	for _, s := range c.Stacks {
		for _, d := range dependencies(c, s) {
			if slices.Index(c.Tiers, d.owner.Tier) <= slices.Index(c.Tiers, s.Tier) {
				continue
			}
			p := ruleTierOrder.At(d.use.Pos, "network %s belongs to stack %s of tier %s, which is deployed after tier %s", d.use.Network, d.owner.Name, d.owner.Tier, s.Tier)
			found = append(found, p.WithRemedy("move %s to tier %s, or %s to tier %s", s.Name, d.owner.Tier, d.owner.Name, s.Tier).About(d.service.Ref))
		}
	}
	return found
}
