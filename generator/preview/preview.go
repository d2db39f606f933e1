// Package preview makes copies of stacks that run beside them for a time, under
// names of their own. It is a pure function of the model, between loading and
// expanding: what comes out is checked and expanded like any other cluster.
package preview

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"skep/generator/problem"
	"skep/generator/spec"
	"skep/generator/stack"
	"skep/networks"
)

// Options say what is previewed.
type Options struct {
	Name    stack.PreviewName
	Stacks  []stack.Name // the originals
	Expires time.Time
	// Taken are the subnets that the Swarm's networks have, by name: the
	// preview's own stay what they are, and new ones keep off all others.
	Taken map[networks.Name]netip.Prefix
}

// Add returns the cluster with the previews of some of its stacks beside the
// originals. It is whole only when the problems hold no error.
func Add(c *stack.Cluster, o Options) (*stack.Cluster, problem.List) {
	t := &transformation{cluster: c, options: o, hosts: map[stack.Host]stack.Host{}, owners: ownersOf(c)}
	out := *c
	out.Stacks = slices.Clone(c.Stacks)
	out.Taken = maps.Clone(o.Taken)
	stacks := t.stacks()
	for _, s := range stacks {
		for _, v := range s.Services {
			for _, r := range v.Routes {
				t.hosts[r.Host] = t.host(r)
			}
		}
	}
	for _, s := range stacks {
		out.Stacks = append(out.Stacks, t.stack(s))
	}
	slices.SortFunc(out.Stacks, func(a, b *stack.Stack) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return &out, t.problems.Sorted()
}

// StackName is what the preview of a stack is called.
func StackName(preview stack.PreviewName, original stack.Name) stack.Name {
	return stack.Name(preview.Prefix(string(original)))
}

// transformation makes one preview.
type transformation struct {
	cluster  *stack.Cluster
	options  Options
	problems problem.List
	// hosts are the previews' names of the originals' hosts.
	hosts  map[stack.Host]stack.Host
	owners map[stack.Host]owner
}

// owner is who has a host already.
type owner struct {
	service stack.ServiceRef
	pos     problem.Position
}

func ownersOf(c *stack.Cluster) map[stack.Host]owner {
	out := map[stack.Host]owner{}
	for _, v := range c.Services() {
		for _, r := range v.Routes {
			out[r.Host] = owner{v.Ref, r.Pos}
		}
		if v.Compose.Deploy == nil {
			continue
		}
		for key, value := range v.Compose.Deploy.Labels {
			if !siteLabel.MatchString(key) {
				continue
			}
			for _, host := range sites(value) {
				out[host] = owner{v.Ref, v.At("deploy", "labels", key)}
			}
		}
	}
	return out
}

func (t *transformation) fail(p problem.Problem, remedy string, args ...any) {
	t.problems = append(t.problems, p.WithRemedy(remedy, args...))
}

// stacks finds the originals that may be previewed.
func (t *transformation) stacks() []*stack.Stack {
	allowed := t.cluster.Previews
	var out []*stack.Stack
	for _, name := range slices.Compact(slices.Sorted(slices.Values(t.options.Stacks))) {
		s, ok := t.cluster.Stack(name)
		switch {
		case !ok:
			t.fail(ruleAllowed.At(problem.Position{File: spec.ClusterFile}, "there is no stack %q to preview", name), "the stacks are %s", join(t.names()))
		case s.Preview != nil:
			t.fail(ruleAllowed.At(s.Pos, "stack %q is a preview itself", name), "name the original, %s", s.Preview.Of)
		case len(allowed.Stacks) > 0 && !slices.Contains(allowed.Stacks, name):
			t.fail(ruleAllowed.At(t.cluster.Positions.At("previews", "stacks"), "stack %q may not be previewed", name), "previews.stacks names %s", join(allowed.Stacks))
		default:
			out = append(out, s)
		}
	}
	return out
}

func (t *transformation) names() []stack.Name {
	var out []stack.Name
	for _, s := range t.cluster.Stacks {
		out = append(out, s.Name)
	}
	return out
}

func join[S ~string](list []S) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return strings.Join(out, ", ")
}

// stack makes the preview of one stack.
func (t *transformation) stack(s *stack.Stack) *stack.Stack {
	out := *s
	out.Name = t.stackName(s)
	out.Preview = &stack.Preview{Name: t.options.Name, Of: s.Name, Expires: t.options.Expires}
	out.Network.Subnet = "" // a subnet that the file gives is the original's
	out.Extra = maps.Clone(s.Extra)
	for key, n := range out.Extra {
		n.Subnet = ""
		out.Extra[key] = n
	}
	out.External = t.external(s)
	out.Volumes = t.volumes(s)
	out.Secrets = nil // all of them are external, and a service that mounts one is refused
	out.Services = nil
	for _, v := range s.Services {
		out.Services = append(out.Services, t.service(s, &out, v))
	}
	return &out
}

// external are the shared networks of the stack by their keys. "default" is
// made free: a service whose name the shared network must not know is looked up
// on a network of the preview's own.
func (t *transformation) external(s *stack.Stack) map[string]networks.Name {
	out := maps.Clone(s.External)
	if name, ok := out[defaultKey]; ok {
		delete(out, defaultKey)
		out[sharedDefault(s)] = name
	}
	return out
}

const defaultKey = "default"

// sharedDefault is a key that the stack has for nothing else.
func sharedDefault(s *stack.Stack) string {
	key := "shared-default"
	for {
		_, own := s.Extra[key]
		_, external := s.External[key]
		if !own && !external {
			return key
		}
		key = "shared-" + key
	}
}

func (t *transformation) stackName(s *stack.Stack) stack.Name {
	name, err := stack.ParseName(t.options.Name.Prefix(string(s.Name)))
	if err != nil {
		t.fail(ruleName.At(s.Pos, "%s", err), "give the preview a shorter name than %q", t.options.Name)
		return StackName(t.options.Name, s.Name)
	}
	if other, ok := t.cluster.Stack(name); ok {
		t.fail(ruleTaken.At(s.Pos, "the preview of stack %q would be called %q, and that is %s", s.Name, name, other.File),
			"give the preview another name than %q", t.options.Name)
	}
	return name
}

// maxSwarmName bounds the name of a service in the Swarm.
// https://github.com/moby/swarmkit/blob/master/manager/controlapi/common.go
const maxSwarmName = 63

// serviceName is what a service is called in the preview. It is not the
// original's name: Docker makes a service answer to its short name on every
// network that it is on, and on a shared one that would be the original's.
func (t *transformation) serviceName(name stack.ServiceName) stack.ServiceName {
	return stack.ServiceName(t.options.Name.Prefix(string(name)))
}

func (t *transformation) checkServiceName(out *stack.Stack, v *stack.Service) {
	full := fmt.Sprintf("%s_%s", out.Name, t.serviceName(v.Ref.Service))
	if len(full) > maxSwarmName {
		t.fail(ruleName.At(v.Pos, "service %s has %d characters, and Swarm takes %d", full, len(full), maxSwarmName).About(v.Ref),
			"give the preview a shorter name than %q", t.options.Name)
	}
}
