package check

import (
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"skep/generator/problem"
	"skep/generator/stack"
)

var ruleSwarmIgnored = rule("swarm-ignored", problem.Warning, "Swarm does not do this")

func swarmIgnored(_ *stack.Cluster, s *stack.Stack, v *stack.Service) problem.List {
	f := finder{service: v, rule: ruleSwarmIgnored}
	c := &v.Compose
	for _, ignored := range []struct {
		used            bool
		key, text, help string
	}{
		{len(c.Annotations) > 0, "annotations", "Swarm drops annotations", "use labels"},
		{c.Attach != nil, "attach", "attach is for `docker compose up` alone", "leave it out"},
		{c.Build != nil && c.Image != "", "build", "nodes pull images, they do not build them", "keep it for `docker compose build`, or leave it out and build in CI"},
		{c.ContainerName != "" && c.ContainerName != string(v.Ref.Service), "container_name", "tasks have names of their own: " + c.ContainerName + " stays as a network alias", "call it " + string(v.Ref.Service) + ", and leave container_name out"},
		{c.Develop != nil, "develop", "develop is for `docker compose watch` alone", "leave it out"},
		{c.PullPolicy != "" || c.PullRefreshAfter != "", "pull_policy", "a node pulls an image when it does not have it", "pin the image, a new digest is pulled; leave pull_policy out"},
	} {
		if ignored.used {
			f.add(f.at(ignored.key), ignored.help, "%s", ignored.text)
		}
	}
	for i, link := range c.Links {
		if service, alias, ok := strings.Cut(link, ":"); !ok || alias == service {
			f.add(f.at("links", itoa(i)), "leave it out", "links are not needed: services of a stack know each other by name")
		}
	}
	for _, name := range sortedKeys(c.DependsOn) {
		f.dependsOn(s, name, c.DependsOn[name])
	}
	for _, name := range sortedKeys(c.Environment) {
		if c.Environment[name] == nil {
			f.add(f.at("environment", name), "give it a value, or set it in .env", "%s has no value: there is no shell here to take it from", name)
		}
	}
	for _, key := range sortedKeys(c.Networks) {
		if n := c.Networks[key]; n != nil && (n.Priority != 0 || n.GatewayPriority != 0 || len(n.DriverOpts) > 0) {
			f.add(f.at("networks", key), "leave them out", "Swarm drops priorities and driver options of an attachment")
		}
	}
	for i, m := range c.Volumes {
		if m.Tmpfs != nil && m.Tmpfs.Mode != 0 {
			f.add(f.at("volumes", itoa(i)), "set the mode in the entrypoint", "the mode of tmpfs %s is dropped", m.Target)
		}
	}
	return f.found
}

// dependsOn speaks of conditions alone: without one, Compose would only start
// the services in an order that restarts do not keep either.
func (f *finder) dependsOn(s *stack.Stack, name string, d types.ServiceDependency) {
	at := f.at("depends_on", name)
	switch d.Condition {
	case types.ServiceConditionHealthy:
		f.add(at, "let it try again until "+name+" answers, which it must after a restart anyway", "Swarm does not wait for %s to be healthy", name)
	case types.ServiceConditionCompletedSuccessfully:
		other, ok := s.Service(stack.ServiceName(name))
		if ok && other.Job != nil && slices.Contains(other.Job.Before, f.service.Ref.Service) {
			return
		}
		f.add(at, "say it in "+name+": `x-job: {before: ["+string(f.service.Ref.Service)+"]}`", "Swarm does not wait for %s to complete", name)
	}
}
