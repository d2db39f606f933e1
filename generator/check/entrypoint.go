package check

import (
	"skep/generator/problem"
	"skep/generator/stack"
)

var ruleUnknownEntrypoint = rule("unknown-entrypoint", problem.Error, "A secret, and nobody knows what to run")

// unknownEntrypoint finds services whose entrypoint becomes the shim that
// exports secrets, and of which nothing says what the image runs.
func unknownEntrypoint(c *stack.Cluster, _ *stack.Stack, v *stack.Service) problem.List {
	if len(v.Compose.Entrypoint) > 0 || len(v.Entrypoint) > 0 {
		return nil
	}
	image := v.Compose.Image
	if locked, ok := c.Images[image]; ok {
		if len(locked.Entrypoint) > 0 || len(locked.Command) > 0 || len(v.Compose.Command) > 0 {
			return nil
		}
	}
	for _, ref := range v.References {
		if ref.AsFile {
			continue
		}
		p := ruleUnknownEntrypoint.At(ref.Pos, "%s gets a secret through an entrypoint of Skep's, and nothing says what image %s runs after it", ref.Name, image)
		return problem.List{p.WithRemedy("run `skep lock`, or say it: `x-entrypoint: [/docker-entrypoint.sh]`; %s_FILE needs neither, where the image reads it", ref.Name).About(v.Ref)}
	}
	return nil
}
