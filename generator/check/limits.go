package check

import (
	"skep/generator/problem"
	"skep/generator/stack"
)

var ruleMissingLimits = rule("missing-limits", problem.Warning, "No memory limit")

func missingLimits(c *stack.Cluster, _ *stack.Stack, v *stack.Service) problem.List {
	if c.Defaults.Memory > 0 || v.Compose.MemLimit > 0 {
		return nil
	}
	if d := v.Compose.Deploy; d != nil && d.Resources.Limits != nil && d.Resources.Limits.MemoryBytes > 0 {
		return nil
	}
	p := ruleMissingLimits.At(v.Pos, "%s may take all memory of its node", v.Ref.Service)
	return problem.List{p.WithRemedy("set deploy.resources.limits.memory, or defaults.resources.memory in the cluster file").About(v.Ref)}
}
