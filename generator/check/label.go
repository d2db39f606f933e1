package check

import (
	"strings"

	"skep/generator/problem"
	"skep/generator/stack"
)

var ruleReservedLabel = rule("reserved-label", problem.Error, "A label that says who a service is")

// allowLabel is for people: what the secret driver may give a service.
const allowLabel = "skep.secrets.allow"

// reservedLabel finds hand-written labels that the ingress and deploys trust.
func reservedLabel(_ *stack.Cluster, _ *stack.Stack, v *stack.Service) problem.List {
	var found problem.List
	report := func(labels map[string]string, path ...string) {
		for _, key := range sortedKeys(labels) {
			if !strings.HasPrefix(key, "skep.") && key != "com.docker.stack.namespace" || key == allowLabel {
				continue
			}
			found = append(found, ruleReservedLabel.At(v.At(append(path, key)...), "label %s belongs to Skep and Docker", key).
				WithRemedy("remove it; `ingress.service` in the cluster file says which service is the ingress").About(v.Ref))
		}
	}
	report(v.Compose.Labels, "labels")
	if v.Compose.Deploy != nil {
		report(v.Compose.Deploy.Labels, "deploy", "labels")
	}
	return found
}
