package expand

import (
	"fmt"
	"net/netip"
	"slices"

	"skep/generator/bundle"
	"skep/generator/stack"
	"skep/networks"
)

// Compose keys of the overlays that a stack gets beside its own.
const (
	defaultKey = "default"
	egressKey  = "egress"
)

// overlay is one network of a stack before it has a subnet.
type overlay struct {
	key string
	own stack.OwnNetwork
}

// dockersOwn are networks that every Docker has; ingress is the routing mesh.
var dockersOwn = []networks.Name{"bridge", "docker_gwbridge", "host", "ingress", "none"}

// overlayName is what the overlay is called in the Swarm: a stack's network is
// called like the stack, unless something else is.
func (e *expansion) overlayName(s *stack.Stack, key string) networks.Name {
	name := networks.Name(s.Name)
	if key != defaultKey {
		return name + networks.Name("_"+key)
	}
	if _, taken := e.cluster.Network(name); taken || slices.Contains(dockersOwn, name) {
		return name + "_internal"
	}
	return name
}

// overlaysOf are the networks that belong to one stack.
func (e *expansion) overlaysOf(s *stack.Stack) []overlay {
	var out []overlay
	if _, shared := s.External[defaultKey]; !shared {
		out = append(out, overlay{defaultKey, s.Network})
	}
	for _, key := range sortedKeys(s.Extra) {
		out = append(out, overlay{key, s.Extra[key]})
	}
	egress := false
	for _, service := range s.Services {
		egress = egress || e.needsEgress(service)
		if service.DockerAPI != nil {
			out = append(out, overlay{proxyKey(service), stack.OwnNetwork{Internal: true}})
		}
	}
	if egress {
		out = append(out, overlay{egressKey, stack.OwnNetwork{}})
	}
	return out
}

// needsEgress reports whether a service needs a network of its stack with a
// way out: it says so, or publishes ports, which an internal network cannot,
// and is on no shared network that has one.
func (e *expansion) needsEgress(s *stack.Service) bool {
	if !s.Egress && len(s.Compose.Ports) == 0 {
		return false
	}
	shared := make([]networks.Name, 0, len(s.Uses)+1)
	for _, use := range s.Uses {
		shared = append(shared, use.Network)
	}
	if len(s.Routes) > 0 || s.Ref == e.cluster.Ingress.Service {
		shared = append(shared, e.cluster.Ingress.Network)
	}
	return !slices.ContainsFunc(shared, func(name networks.Name) bool {
		n, ok := e.cluster.Network(name)
		return ok && !n.Internal
	})
}

func proxyKey(s *stack.Service) string { return string(s.DockerProxy()) }

// planNetworks gives every overlay of the cluster its subnet.
func (e *expansion) planNetworks() error {
	var names []networks.Name
	pinned := map[networks.Name]netip.Prefix{}
	for _, n := range e.cluster.Networks {
		names = append(names, n.Name)
		if n.Subnet.IsValid() {
			pinned[n.Name] = n.Subnet
		}
	}
	for _, s := range e.cluster.Stacks {
		for _, o := range e.overlaysOf(s) {
			name := e.overlayName(s, o.key)
			names = append(names, name)
			if o.own.Subnet == "" {
				continue
			}
			subnet, err := netip.ParsePrefix(o.own.Subnet)
			if err != nil {
				return fmt.Errorf("%s: network %s: %q is not a subnet such as 10.20.0.0/24", s.File, o.key, o.own.Subnet)
			}
			pinned[name] = subnet
		}
	}
	for _, name := range sortedKeys(e.cluster.Taken) {
		subnet := e.cluster.Taken[name]
		if overlaps(pinned, subnet) {
			continue
		}
		if _, ok := pinned[name]; ok {
			name = "live " + name // it moves: what it has is not free yet
		}
		pinned[name] = subnet
	}
	subnets, err := e.cluster.Pool.Assign(names, pinned)
	if err != nil {
		return fmt.Errorf("assign subnets: %w", err)
	}
	e.subnets = map[networks.Name]string{}
	for name, subnet := range subnets {
		e.subnets[name] = subnet.String()
	}
	return nil
}

// overlaps reports whether a subnet lies over one that is pinned: what a file
// says goes before what a Swarm has.
func overlaps(pinned map[networks.Name]netip.Prefix, subnet netip.Prefix) bool {
	for _, p := range pinned {
		if p.Overlaps(subnet) {
			return true
		}
	}
	return false
}

// attach puts the service on a network, by its Compose key.
func (b *builder) attach(origin bundle.Origin, key, why string, config map[string]any) {
	if b.get("networks", key) != nil {
		return
	}
	b.set(origin, config, "networks", key)
	b.links = append(b.links, attachment{network: b.networkName(key), service: b.service.Ref.Service, why: why})
}

// networkName is the Swarm's name for a Compose key of this stack.
func (f *file) networkName(key string) networks.Name {
	if name, ok := f.stack.External[key]; ok {
		return name
	}
	if name, ok := f.shared[key]; ok {
		return name
	}
	return f.e.overlayName(f.stack, key)
}

// sharedKey is the Compose key of a shared network in this file: its name,
// unless the stack calls it otherwise or has a network of that key itself.
func (f *file) sharedKey(name networks.Name) string {
	for _, key := range sortedKeys(f.stack.External) {
		if f.stack.External[key] == name {
			return key
		}
	}
	key := string(name)
	taken := func() bool {
		_, external := f.stack.External[key]
		return external || slices.ContainsFunc(f.e.overlaysOf(f.stack), func(o overlay) bool { return o.key == key })
	}
	for taken() {
		key = "shared-" + key
	}
	f.shared[key] = name
	return key
}

// networks attaches the service to what it needs and to nothing else.
func (b *builder) networks() {
	s := b.service
	named := s.Compose.Networks
	if len(named) == 0 {
		b.attach(b.origin("stack network"), defaultKey, "its stack's network", b.networkConfig(nil))
	}
	for _, key := range sortedKeys(named) {
		config := map[string]any{}
		if n := named[key]; n != nil {
			config = b.networkConfig(n.Aliases)
		}
		b.attach(b.origin("networks", "networks", key), key, "named in `networks`", config)
	}
	for _, use := range s.Uses {
		b.attach(bundle.Origin{Pos: use.Pos, By: "x-uses"}, b.sharedKey(use.Network), "`x-uses`", map[string]any{})
	}
	if len(s.Routes) > 0 {
		b.attach(bundle.Origin{Pos: s.Routes[0].Pos, By: "x-ingress"}, b.sharedKey(b.e.cluster.Ingress.Network), "`x-ingress`", map[string]any{})
	}
	if b.e.needsEgress(s) {
		b.attach(b.origin("x-egress", "x-egress"), egressKey, "reaches the Internet", map[string]any{})
	}
	if s.Metrics != nil {
		b.attach(bundle.Origin{Pos: s.Metrics.Pos, By: "x-metrics"}, b.sharedKey(b.e.cluster.Metrics), "`x-metrics`", map[string]any{})
	}
}

// networkConfig carries aliases, and the container's name as one: other
// services may know it by that.
func (b *builder) networkConfig(aliases []string) map[string]any {
	if name := b.service.Compose.ContainerName; name != "" && name != b.name && !slices.Contains(aliases, name) {
		aliases = append(slices.Clone(aliases), name)
	}
	if len(aliases) == 0 {
		return map[string]any{}
	}
	return map[string]any{"aliases": anyList(aliases)}
}

// declareNetworks writes the networks that services of the file are on.
func (f *file) declareNetworks() {
	own := map[string]stack.OwnNetwork{}
	for _, o := range f.e.overlaysOf(f.stack) {
		own[o.key] = o.own
	}
	used := map[string]bool{}
	services, _ := f.content["services"].(map[string]any)
	for _, def := range services {
		service, _ := def.(map[string]any)
		attached, _ := service["networks"].(map[string]any)
		for key := range attached {
			used[key] = true
		}
	}
	for _, key := range sortedKeys(used) {
		n, ok := own[key]
		if !ok {
			name := f.networkName(key)
			shared, _ := f.e.cluster.Network(name)
			f.put(bundle.Origin{Pos: shared.Pos, By: "networks"}, map[string]any{"external": true, "name": string(name)}, "networks", key)
			continue
		}
		name := f.e.overlayName(f.stack, key)
		def := map[string]any{
			"name": string(name), "driver": "overlay",
			"ipam": map[string]any{"config": []any{map[string]any{"subnet": f.e.subnets[name]}}},
		}
		if n.Internal {
			def["internal"] = true
		}
		if n.Attachable {
			def["attachable"] = true
		}
		if n.Encrypted {
			def["driver_opts"] = map[string]any{"encrypted": "true"}
		}
		f.mark(def)
		f.put(bundle.Origin{Pos: f.stack.Positions.At("networks", key), By: "stack network"}, def, "networks", key)
	}
}

// overlays describes every network and who is on it.
func (e *expansion) overlays(files []*file) networks.Map {
	members := map[networks.Name][]networks.Member{}
	for _, f := range files {
		for _, l := range f.links {
			members[l.network] = append(members[l.network], networks.Member{Stack: string(f.Name), Service: string(l.service), Why: l.why})
		}
	}
	var out networks.Map
	for _, n := range e.cluster.Networks {
		out = append(out, networks.Overlay{Name: n.Name, Scope: networks.SharedScope, Owner: string(n.Owner), Internal: n.Internal,
			Encrypted: n.Encrypted, Subnet: netip.MustParsePrefix(e.subnets[n.Name]), Members: members[n.Name]})
	}
	for _, s := range e.cluster.Stacks {
		proxies := map[string]bool{}
		for _, service := range s.Services {
			if service.DockerAPI != nil {
				proxies[proxyKey(service)] = true
			}
		}
		for _, o := range e.overlaysOf(s) {
			name := e.overlayName(s, o.key)
			if len(members[name]) == 0 {
				continue
			}
			scope := networks.StackScope
			if proxies[o.key] {
				scope = networks.ProxyScope
			}
			out = append(out, networks.Overlay{Name: name, Scope: scope, Owner: string(s.Name), Internal: o.own.Internal,
				Encrypted: o.own.Encrypted, Attachable: o.own.Attachable, Subnet: netip.MustParsePrefix(e.subnets[name]), Members: members[name]})
		}
	}
	return out
}
