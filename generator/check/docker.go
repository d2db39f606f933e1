package check

import (
	"strings"

	"skep/generator/bundle"
	"skep/generator/problem"
	"skep/generator/stack"
)

var ruleDockerRefuses = rule("docker-refuses", problem.Error, "Docker would refuse the stack")

// Docker reports the stacks that the loader of `docker stack deploy` refuses.
func Docker(b *bundle.Bundle, c *stack.Cluster) problem.List {
	refused := b.Validate()
	var found problem.List
	for _, s := range b.Stacks {
		err, ok := refused[s.Name]
		if !ok {
			continue
		}
		p := ruleDockerRefuses.At(dockerPosition(s, c, err), "%s", err).
			WithRemedy("correct the key that the message names; `skep explain %s` shows where each line comes from", s.Name)
		p.Subject = string(s.Name)
		found = append(found, p)
	}
	return found.Sorted()
}

// dockerPosition finds the place that the loader's error speaks of, such as
// "services.web.ports.0 must be a string"; else it is the stack as a whole.
func dockerPosition(s *bundle.Stack, c *stack.Cluster, err error) problem.Position {
	for _, word := range strings.Fields(err.Error()) {
		path := strings.Split(strings.Trim(word, `"',:()`), ".")
		if len(path) < 2 || path[0] != "services" {
			continue
		}
		if origin, ok := s.Origins.At(path...); ok && origin.Pos.File != "" {
			return origin.Pos
		}
	}
	if st, ok := c.Stack(s.Name); ok {
		return st.Pos
	}
	return problem.Position{File: s.Source}
}
