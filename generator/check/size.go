package check

import (
	"skep/generator/problem"
	"skep/generator/stack"
)

var ruleConfigTooLarge = rule("config-too-large", problem.Error, "A file that Swarm does not take")

// Sizes in bytes that Swarm refuses from
// (https://docs.docker.com/engine/swarm/configs/, .../secrets/).
const (
	configLimit = 1_024_000
	secretLimit = 512_000
)

func configTooLarge(c *stack.Cluster) problem.List {
	var found problem.List
	for _, s := range c.Stacks {
		for _, key := range sortedKeys(s.Configs) {
			object := s.Configs[key]
			if object.External {
				continue
			}
			if p, bad := sizeProblem(s.Positions.At("configs", key), "config "+key, len(object.Content), configLimit); bad {
				p.Subject = string(s.Name)
				found = append(found, p)
			}
		}
		for _, v := range s.Services {
			for _, f := range v.Files {
				limit := configLimit
				if f.Secret != nil {
					limit = secretLimit
				}
				if p, bad := sizeProblem(f.Pos, or(f.Source, f.Target), len(f.Content), limit); bad {
					found = append(found, p.About(v.Ref))
				}
			}
		}
	}
	return found
}

func sizeProblem(pos problem.Position, what string, size, limit int) (problem.Problem, bool) {
	switch {
	case size == 0:
		return ruleConfigTooLarge.At(pos, "%s is empty, and Swarm keeps no empty files", what).
			WithRemedy("leave it out, or put a comment into it"), true
	case size >= limit:
		return ruleConfigTooLarge.At(pos, "%s has %d bytes, and Swarm takes less than %d", what, size, limit).
			WithRemedy("split it, build it into the image, or keep it on a volume"), true
	}
	return problem.Problem{}, false
}
