package check

import (
	"slices"

	"skep/generator/problem"
	"skep/generator/stack"
)

var ruleUnusedWaiver = rule("unused-waiver", problem.Warning, "A waiver silences nothing")

func unusedWaiver(c *stack.Cluster, s *stack.Service, id string, w stack.Waiver) problem.Problem {
	p := ruleUnusedWaiver.At(w.Pos, "nothing here breaks %s", id).WithRemedy("remove the waiver: it would hide the next mistake")
	st, ok := c.Stack(s.Ref.Stack)
	if ok && slices.ContainsFunc(st.Services, func(o *stack.Service) bool { return o != s && o.Waivers[id].Pos == w.Pos }) {
		return p // the stack's waiver, found once for each service
	}
	return p.About(s.Ref)
}
