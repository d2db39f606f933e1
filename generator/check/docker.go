package check

import (
	"regexp"
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

// named finds what some of the loader's errors speak of: volume "data".
var named = regexp.MustCompile(`\b(service|volume|network|secret|config) "?([\w.-]+)"?`)

// dockerPosition finds the place that the loader's error speaks of, such as
// "services.web.ports.0 must be a string"; else it is the stack as a whole.
func dockerPosition(s *bundle.Stack, c *stack.Cluster, err error) problem.Position {
	whole := problem.Position{File: s.Source}
	if st, ok := c.Stack(s.Name); ok {
		whole = st.Pos
	}
	var paths [][]string
	for word := range strings.FieldsSeq(err.Error()) {
		paths = append(paths, strings.Split(strings.Trim(word, `"',:()`), "."))
	}
	for _, m := range named.FindAllStringSubmatch(err.Error(), -1) {
		paths = append(paths, []string{m[1] + "s", m[2]})
	}
	origins := s.Origins()
	for _, path := range paths {
		if len(path) < 2 || path[0] != "services" && path[0] != "volumes" && path[0] != "networks" && path[0] != "secrets" && path[0] != "configs" {
			continue
		}
		if origin, ok := origins.At(path...); ok && origin.Pos.File != "" && origin.Pos != whole {
			return origin.Pos
		}
		if path[0] == "services" { // a key that holds others: the stack file may have it
			if v, ok := c.Service(stack.ServiceRef{Stack: s.Name, Service: stack.ServiceName(path[1])}); ok {
				return v.At(path[2:]...)
			}
		}
	}
	return whole
}
