package expand

import (
	"fmt"
	"slices"
	"strings"

	"skep/generator/stack"
)

// DeployOrder sorts the stacks: tier by tier, and within a tier the owner of a
// shared network before the stacks that use it. It fails on a cycle.
func DeployOrder(c *stack.Cluster) ([]*stack.Stack, error) {
	const (
		unseen = iota
		open
		done
	)
	state := map[stack.Name]int{}
	var order []*stack.Stack
	var trail []string
	var visit func(s *stack.Stack) error
	visit = func(s *stack.Stack) error {
		switch state[s.Name] {
		case done:
			return nil
		case open:
			from := slices.Index(trail, string(s.Name))
			return fmt.Errorf("stacks wait for each other: %s", strings.Join(append(trail[from:], string(s.Name)), " -> "))
		}
		state[s.Name] = open
		trail = append(trail, string(s.Name))
		for _, name := range Dependencies(c, s) {
			if other, ok := c.Stack(name); ok && other.Tier == s.Tier {
				if err := visit(other); err != nil {
					return err
				}
			}
		}
		trail = trail[:len(trail)-1]
		state[s.Name] = done
		order = append(order, s)
		return nil
	}
	for _, tier := range c.Tiers {
		for _, s := range c.Stacks {
			if s.Tier != tier {
				continue
			}
			if err := visit(s); err != nil {
				return nil, err
			}
		}
	}
	return order, nil
}

// Dependencies are the stacks that own a shared network which this stack
// names in x-uses, sorted.
func Dependencies(c *stack.Cluster, s *stack.Stack) []stack.Name {
	var out []stack.Name
	for _, service := range s.Services {
		for _, use := range service.Uses {
			if n, ok := c.Network(use.Network); ok && n.Owner != "" && n.Owner != s.Name {
				out = append(out, n.Owner)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
