// Package label turns what Docker knows into sites: the labels of services,
// containers and configs become Caddyfile fragments with an owner. It does no
// I/O. The grammar is caddy-docker-proxy's, by its own package.
package label

import (
	"bytes"
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"
)

// State is what Docker knows at one moment.
type State struct {
	Services   []swarm.Service
	Tasks      []swarm.Task // those that should run
	Containers []container.Summary
	Networks   []network.Summary
	Configs    []swarm.Config // those with a caddy label, with their data
}

// Stack owns hosts. The empty stack owns what no stack deployed.
type Stack string

// Labels that say whose a service is.
const (
	StackLabel     = "skep.stack"
	TrustedLabel   = "skep.ingress.trusted"
	namespaceLabel = "com.docker.stack.namespace"
	projectLabel   = "com.docker.compose.project"
	networkLabel   = "caddy_ingress_network"
)

// Settings say how sources are read.
type Settings struct {
	Prefix     string   // of labels; caddy if empty
	Networks   []string // names or ids of the networks that the ingress shares with upstreams
	VirtualIPs bool     // route to a service's name instead of its tasks
	Policy     Policy
}

// Kind is what a source is.
type Kind string

const (
	KindService   Kind = "service"
	KindContainer Kind = "container"
	KindConfig    Kind = "config"
	KindFile      Kind = "file"
)

// SourceID is a kind and an identity of Docker's.
type SourceID string

// Source is one thing that says what to route: labels or a Caddyfile.
type Source struct {
	ID        SourceID
	Kind      Kind
	Name      string
	Stack     Stack
	Trusted   bool
	Created   time.Time
	Version   uint64            // of the thing in Docker, which a template may show
	Labels    map[string]string // the caddy labels, their prefix as "caddy"
	Caddyfile []byte            // instead of labels
	Data      any               // what a template sees as its dot
	Targets   []string          // sorted addresses of upstreams
	Offline   bool              // stand-ins take the place of what its templates read of the machine
	// Unreachable says that it runs but shares no network with the ingress.
	Unreachable bool
}

// Sources reads everything that carries labels of the ingress, in the order in
// which caddy-docker-proxy merges it.
func Sources(state State, s Settings) []Source {
	r := newReader(state, s)
	var out []Source
	for _, c := range state.Configs {
		if _, ok := c.Spec.Labels[r.prefix]; ok {
			out = append(out, r.config(c))
		}
	}
	for i := range state.Containers {
		if source, ok := r.container(&state.Containers[i]); ok {
			out = append(out, source)
		}
	}
	services := make([]Source, 0, len(state.Services))
	for i := range state.Services {
		if source, ok := r.service(&state.Services[i]); ok {
			services = append(services, source)
		}
	}
	// Docker lists services in no order that lasts.
	slices.SortFunc(services, func(a, b Source) int { return cmp.Compare(a.Name, b.Name) })
	return append(out, services...)
}

type reader struct {
	settings Settings
	prefix   string
	networks map[string]bool
	tasks    map[string][]*swarm.Task // service id -> running tasks
}

func newReader(state State, s Settings) *reader {
	r := &reader{settings: s, prefix: cmp.Or(s.Prefix, "caddy"), networks: map[string]bool{}, tasks: make(map[string][]*swarm.Task, len(state.Services))}
	for _, n := range state.Networks {
		if !n.Ingress && (slices.Contains(s.Networks, n.Name) || slices.Contains(s.Networks, n.ID)) {
			r.networks[n.Name], r.networks[n.ID] = true, true
		}
	}
	for i := range state.Tasks {
		t := &state.Tasks[i]
		if t.Status.State == swarm.TaskStateRunning && t.DesiredState == swarm.TaskStateRunning {
			r.tasks[t.ServiceID] = append(r.tasks[t.ServiceID], t)
		}
	}
	return r
}

func (r *reader) labels(all map[string]string) map[string]string {
	var out map[string]string
	for key, value := range all {
		rest, ok := strings.CutPrefix(key, r.prefix)
		if !ok || !opensBlock(rest) {
			continue
		}
		if out == nil {
			out = make(map[string]string, len(all))
		}
		if r.prefix != "caddy" {
			key = "caddy" + rest
		}
		out[key] = value
	}
	return out
}

// opensBlock reports whether what follows the prefix is nothing, a number
// after an underscore, or a dot after either.
func opensBlock(rest string) bool {
	if number, ok := strings.CutPrefix(rest, "_"); ok {
		rest = strings.TrimLeft(number, "0123456789")
		if rest == number {
			return false
		}
	}
	return rest == "" || rest[0] == '.'
}

func (r *reader) trusted(stack Stack, labels map[string]string) bool {
	return r.settings.Policy.Open || labels[TrustedLabel] == "true" && r.settings.Policy.Allows(Trust, string(stack))
}

func owner(labels map[string]string) Stack {
	return Stack(cmp.Or(labels[StackLabel], labels[namespaceLabel], labels[projectLabel]))
}

func (r *reader) config(c swarm.Config) Source {
	stack := owner(c.Spec.Labels)
	return Source{
		ID: SourceID("config:" + c.ID), Kind: KindConfig, Name: c.Spec.Name, Stack: stack,
		Trusted: r.trusted(stack, c.Spec.Labels), Created: c.CreatedAt, Caddyfile: c.Spec.Data,
	}
}

func (r *reader) container(c *container.Summary) (Source, bool) {
	labels := r.labels(c.Labels)
	if len(labels) == 0 {
		return Source{}, false
	}
	name := c.ID
	if len(c.Names) > 0 {
		name = strings.TrimPrefix(c.Names[0], "/")
	}
	stack := owner(c.Labels)
	source := Source{
		ID: SourceID("container:" + c.ID), Kind: KindContainer, Name: name, Stack: stack,
		Trusted: r.trusted(stack, c.Labels), Created: time.Unix(c.Created, 0).UTC(), Labels: labels, Data: c,
	}
	shared := false
	override, overridden := c.Labels[networkLabel]
	if c.NetworkSettings != nil {
		for name, endpoint := range c.NetworkSettings.Networks {
			if overridden && name != override || !overridden && !r.networks[name] && (endpoint == nil || !r.networks[endpoint.NetworkID]) {
				continue
			}
			shared = true
			if endpoint != nil && endpoint.IPAddress.IsValid() {
				source.Targets = append(source.Targets, endpoint.IPAddress.String())
			}
		}
	}
	source.Unreachable = !shared
	slices.Sort(source.Targets)
	return source, true
}

func (r *reader) service(s *swarm.Service) (Source, bool) {
	labels := r.labels(s.Spec.Labels)
	if len(labels) == 0 {
		return Source{}, false
	}
	stack := owner(s.Spec.Labels)
	source := Source{
		ID: SourceID("service:" + s.ID), Kind: KindService, Name: s.Spec.Name, Stack: stack,
		Trusted: r.trusted(stack, s.Spec.Labels), Created: s.CreatedAt, Version: s.Version.Index, Labels: labels, Data: s,
	}
	if r.settings.VirtualIPs {
		source.Targets = []string{s.Spec.Name}
		source.Unreachable = !slices.ContainsFunc(s.Endpoint.VirtualIPs, func(ip swarm.EndpointVirtualIP) bool { return r.networks[ip.NetworkID] })
		return source, true
	}
	override, overridden := s.Spec.Labels[networkLabel]
	for _, task := range r.tasks[s.ID] {
		for _, a := range task.NetworksAttachments {
			if overridden && a.Network.Spec.Name != override || !overridden && !r.networks[a.Network.ID] {
				continue
			}
			for _, address := range a.Addresses {
				source.Targets = append(source.Targets, address.Addr().String())
			}
		}
	}
	source.Unreachable = len(r.tasks[s.ID]) > 0 && len(source.Targets) == 0
	slices.Sort(source.Targets)
	return source, true
}

// Key names a source across its re-creation.
func (s *Source) Key() string { return string(s.Kind) + ":" + s.Name }

// Same reports whether two sources say the same.
func (s *Source) Same(o *Source) bool {
	return s.ID == o.ID && s.Name == o.Name && s.Stack == o.Stack && s.Trusted == o.Trusted && s.Version == o.Version &&
		s.Unreachable == o.Unreachable && slices.Equal(s.Targets, o.Targets) && s.SameWords(o)
}

// SameWords reports whether two sources were written the same.
func (s *Source) SameWords(o *Source) bool {
	return maps.Equal(s.Labels, o.Labels) && bytes.Equal(s.Caddyfile, o.Caddyfile)
}

// Addresses are those of a service's running tasks, on every network.
func Addresses(state State, service string) []netip.Addr {
	id := ""
	for i := range state.Services {
		if state.Services[i].Spec.Name == service {
			id = state.Services[i].ID
		}
	}
	var out []netip.Addr
	for i := range state.Tasks {
		t := &state.Tasks[i]
		if id == "" || t.ServiceID != id || t.Status.State != swarm.TaskStateRunning {
			continue
		}
		for _, a := range t.NetworksAttachments {
			for _, address := range a.Addresses {
				out = append(out, address.Addr())
			}
		}
	}
	return out
}
