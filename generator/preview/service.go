package preview

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"skep/generator/problem"
	"skep/generator/stack"
	"skep/networks"
	"skep/secrets"
)

// service makes the preview of one service. original is its stack, out the
// preview's.
func (t *transformation) service(original, out *stack.Stack, v *stack.Service) *stack.Service {
	t.checkServiceName(out, v)
	t.alone(v)
	t.uses(v)
	t.references(v)
	t.objects(original, v)
	t.variables(v)
	s := v.As(stack.ServiceRef{Stack: out.Name, Service: t.serviceName(v.Ref.Service)})
	s.Compose.Networks = t.networks(original, out, v)
	s.Compose.ContainerName = "" // it is an alias on the preview's own networks
	s.Compose.Labels = unwatched(v.Compose.Labels)
	if d := v.Compose.Deploy; d != nil {
		own := *d
		own.Labels = unwatched(d.Labels)
		s.Compose.Deploy = &own
	}
	s.Routes = nil
	for _, r := range v.Routes {
		s.Routes = append(s.Routes, t.route(v, r))
	}
	if v.Job != nil {
		job := *v.Job
		job.Before = nil
		for _, name := range v.Job.Before {
			job.Before = append(job.Before, t.serviceName(name))
		}
		s.Job = &job
	}
	s.Homepage, s.Monitor = &stack.Homepage{Off: true, Pos: v.Pos}, &stack.Monitor{Off: true, Pos: v.Pos}
	if !t.mayUse(t.cluster.Metrics) {
		s.Metrics = nil
	}
	return s
}

// alone refuses what a Swarm can have once.
func (t *transformation) alone(v *stack.Service) {
	fail := func(pos problem.Position, remedy, format string, args ...any) {
		t.fail(ruleAlone.At(pos, format, args...).About(v.Ref), "%s", remedy)
	}
	const leave = "leave the stack out of previews"
	special := map[string]*stack.ServiceRef{"ingress": &t.cluster.Ingress.Service}
	if t.cluster.SSO != nil {
		special["SSO provider's worker"] = t.cluster.SSO.Worker
	}
	if t.cluster.Tunnel != nil {
		special["tunnel"] = t.cluster.Tunnel.Service
	}
	for _, what := range sortedKeys(special) {
		if ref := special[what]; ref != nil && *ref == v.Ref {
			fail(v.Pos, leave, "%s is the cluster's %s", v.Ref, what)
		}
	}
	if v.DockerAPI != nil {
		fail(v.DockerAPI.Pos, leave, "the Docker API shows a preview the whole Swarm")
	}
	if len(v.Compose.Ports) > 0 {
		fail(v.At("ports", "0"), "publish it with x-ingress", "a port of the Swarm is published once, and the original has it")
	}
	if v.Compose.NetworkMode == "host" {
		fail(v.At("network_mode"), leave, "on the host's network the preview meets the original")
	}
	if v.Compose.UseAPISocket {
		fail(v.At("use_api_socket"), leave, "the Docker API shows a preview the whole Swarm")
	}
	report := func(labels map[string]string, path ...string) {
		for _, key := range sortedKeys(labels) {
			if key == "caddy" || strings.HasPrefix(key, "caddy.") || strings.HasPrefix(key, "caddy_") {
				fail(v.At(append(path, key)...), "say it with x-ingress, whose host a preview gets a name of its own for", "label %s is a route written by hand", key)
				return
			}
		}
	}
	report(v.Compose.Labels, "labels")
	if v.Compose.Deploy != nil {
		report(v.Compose.Deploy.Labels, "deploy", "labels")
	}
}

// mayUse reports whether previews may be on a shared network.
func (t *transformation) mayUse(name networks.Name) bool {
	return name == t.cluster.Ingress.Network || slices.Contains(t.cluster.Previews.Uses, name)
}

func (t *transformation) uses(v *stack.Service) {
	for _, use := range v.Uses {
		if !t.mayUse(use.Network) {
			t.network(v, use.Network, use.Pos)
		}
	}
}

func (t *transformation) network(v *stack.Service, name networks.Name, pos problem.Position) {
	t.fail(ruleAllowed.At(pos, "a preview may not use the shared network %s", name).About(v.Ref),
		"add it to previews.uses in cluster.yaml if previews may meet what is on it")
}

// networks puts the service on the networks of the original by the same keys,
// where its own know it by all the names of the original and shared ones by none.
func (t *transformation) networks(original, out *stack.Stack, v *stack.Service) map[string]*types.ServiceNetworkConfig {
	if v.Compose.NetworkMode == "host" || v.Compose.NetworkMode == "none" {
		return v.Compose.Networks
	}
	named := v.Compose.Networks
	if len(named) == 0 {
		named = map[string]*types.ServiceNetworkConfig{defaultKey: nil}
	}
	result := map[string]*types.ServiceNetworkConfig{}
	own := func(key string, aliases []string) {
		aliases = append([]string{string(v.Ref.Service)}, aliases...)
		if name := v.Compose.ContainerName; name != "" && !slices.Contains(aliases, name) {
			aliases = append(aliases, name)
		}
		result[key] = &types.ServiceNetworkConfig{Aliases: aliases}
	}
	shared := len(v.Uses) > 0
	for _, key := range sortedKeys(named) {
		if name, ok := original.External[key]; ok {
			shared = true
			if !t.mayUse(name) {
				t.network(v, name, v.At("networks", key))
			}
			if key == defaultKey {
				key = sharedDefault(original)
			}
			result[key] = nil
			continue
		}
		var aliases []string
		if n := named[key]; n != nil {
			aliases = n.Aliases
		}
		own(key, aliases)
	}
	if shared && result[defaultKey] == nil {
		own(defaultKey, nil) // neighbours that met on a shared network meet here
	}
	return result
}

// references holds the secrets to what previews may resolve.
func (t *transformation) references(v *stack.Service) {
	check := func(template secrets.Template, pos problem.Position) {
		for _, ref := range template.References() {
			if !slices.ContainsFunc(t.cluster.Previews.Secrets, func(p secrets.Prefix) bool { return p.Covers(ref) }) {
				t.fail(ruleAllowed.At(pos, "a preview may not resolve %s", ref).About(v.Ref),
					"keep what previews need in a vault of its own, and name it in previews.secrets: [op://%s]", "previews")
			}
		}
	}
	for _, variable := range v.References {
		check(variable.Value, variable.Pos)
	}
	for _, file := range v.Files {
		if file.Secret != nil {
			check(*file.Secret, file.Pos)
		}
	}
}

// variables warns of those that name an original's host.
func (t *transformation) variables(v *stack.Service) {
	for _, name := range sortedKeys(v.Compose.Environment) {
		value := v.Compose.Environment[name]
		if value == nil {
			continue
		}
		if host, ok := t.named(*value); ok {
			t.fail(ruleOriginal.At(v.At("environment", name), "variable %s names %s", name, host).About(v.Ref), "the preview answers at %s", t.hosts[host])
		}
	}
}

// unwatched leaves out the labels that dashboards and monitors select by.
func unwatched(labels types.Labels) types.Labels {
	out := maps.Clone(labels)
	maps.DeleteFunc(out, func(key, _ string) bool {
		word, _, _ := strings.Cut(key, ".")
		return word == "homepage" || word == "kuma" || word == "prometheus"
	})
	return out
}

func contains(list []string, s string) bool { return slices.Contains(list, s) }

func sortedKeys[K cmp.Ordered, V any, M ~map[K]V](m M) []K { return slices.Sorted(maps.Keys(m)) }

func itoa(i int) string { return strconv.Itoa(i) }
