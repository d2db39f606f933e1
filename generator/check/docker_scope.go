package check

import (
	"slices"
	"strings"

	"skep/generator/problem"
	"skep/generator/stack"
)

var ruleDockerScope = rule("docker-scope", problem.Error, "The Docker API cannot be narrowed to one stack")

// unscoped are the sections whose objects belong to no stack: the proxy refuses
// them to a consumer that sees one stack.
var unscoped = []string{"auth", "build", "commit", "distribution", "grpc", "images", "plugins", "session", "system"}

// dockerScope finds what a docker proxy would refuse all the time, and proxies
// that would not narrow anything.
func dockerScope(c *stack.Cluster, _ *stack.Stack, v *stack.Service) problem.List {
	api := v.DockerAPI
	if api == nil || !api.OwnStack {
		return nil
	}
	var found problem.List
	report := func(remedy, format string, args ...any) {
		found = append(found, ruleDockerScope.At(api.Pos, format, args...).WithRemedy("%s", remedy).About(v.Ref))
	}
	if !strings.Contains(c.Defaults.DockerProxy, "skep-dockerproxy") {
		report("leave defaults.docker_proxy of the cluster file out, or scope: stack", "scope: stack needs skep-dockerproxy, and the cluster's docker proxies are %s", c.Defaults.DockerProxy)
	}
	for _, section := range api.Read {
		if slices.Contains(unscoped, section) {
			report("leave it out, or scope: stack", "section %s is of no stack, so scope: stack refuses it", section)
		}
	}
	for _, endpoint := range api.Write {
		if !scoped(endpoint) {
			report("leave it out, or scope: stack", "%s names no object of one stack, so scope: stack refuses it", endpoint)
		}
	}
	return found
}

// scoped reports whether an endpoint is about one object that bears the labels
// of its stack. Connecting a network names a container in its body.
func scoped(endpoint string) bool {
	_, path, _ := strings.Cut(endpoint, " /")
	segments := strings.Split(path, "/")
	owned := []string{"configs", "containers", "exec", "networks", "secrets", "services", "volumes"}
	return len(segments) > 1 && slices.Contains(owned, segments[0]) &&
		!slices.Contains([]string{"create", "prune"}, segments[1]) && !slices.Contains([]string{"connect", "disconnect"}, segments[len(segments)-1])
}
