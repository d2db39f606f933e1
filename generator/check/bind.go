package check

import (
	"skep/generator/problem"
	"skep/generator/stack"
)

var ruleRelativeBind = rule("relative-bind", problem.Error, "A bind mount from the project's folder")

func relativeBind(_ *stack.Cluster, _ *stack.Stack, v *stack.Service) problem.List {
	var found problem.List
	for _, i := range v.Relative {
		p := ruleRelativeBind.At(v.At("volumes", itoa(i)), "the source of %s is a folder of the machine that generates: the nodes do not have it", v.Compose.Volumes[i].Target)
		found = append(found, p.WithRemedy("name a file in x-files, `x-files: [\"app.conf:%s\"]`, or an absolute path of the node", v.Compose.Volumes[i].Target).About(v.Ref))
	}
	return found
}
