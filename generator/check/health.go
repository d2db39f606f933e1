package check

import (
	"strings"

	"skep/generator/problem"
	"skep/generator/stack"
)

var ruleMissingHealthcheck = rule("missing-healthcheck", problem.Warning, "No healthcheck")

func missingHealthcheck(_ *stack.Cluster, _ *stack.Stack, v *stack.Service) problem.List {
	if isJob(v) {
		return nil
	}
	h := v.Compose.HealthCheck
	var p problem.Problem
	switch {
	case h == nil:
		p = ruleMissingHealthcheck.At(v.Pos, "%s has no healthcheck: a broken version counts as deployed", v.Ref.Service)
	case h.Disable || len(h.Test) > 0 && h.Test[0] == "NONE":
		p = ruleMissingHealthcheck.At(v.At("healthcheck"), "the healthcheck of %s is off: a broken version counts as deployed", v.Ref.Service)
	default:
		return nil
	}
	return problem.List{p.WithRemedy("add `healthcheck: {test: [CMD, ...]}`, or waive it where the image brings its own").About(v.Ref)}
}

// isJob reports whether the service runs to completion.
func isJob(v *stack.Service) bool {
	d := v.Compose.Deploy
	return v.Job != nil || d != nil && strings.HasSuffix(d.Mode, "-job")
}

func isGlobal(v *stack.Service) bool {
	d := v.Compose.Deploy
	return d != nil && strings.HasPrefix(d.Mode, "global")
}
