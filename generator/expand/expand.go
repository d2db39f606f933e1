// Package expand turns intent into what Swarm runs: networks, ingress labels,
// docker proxies, secrets, files, deploy policy, dashboards and monitors. It is
// a pure function of the model; the same cluster gives the same bytes.
package expand

import (
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"

	"skep/generator/bundle"
	"skep/generator/stack"
	"skep/networks"
	"skep/secrets"
)

// Expand makes the bundle of a cluster that passed its checks, all but the text
// of its Compose files: see bundle.Encode.
func Expand(c *stack.Cluster) (*bundle.Bundle, error) {
	e := &expansion{cluster: c}
	if err := e.planNetworks(); err != nil {
		return nil, err
	}
	order, err := DeployOrder(c)
	if err != nil {
		return nil, err
	}
	e.sites = sitesOf(c)
	e.blueprint = e.authentikBlueprint()
	e.tunnel = e.cloudflaredIngress()

	results := make([]*file, len(order))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), max(1, len(order))) {
		workers.Go(func() {
			for i := range next {
				f := e.stack(order[i], nil)
				f.content = nil
				results[i] = f
			}
		})
	}
	for i := range order {
		next <- i
	}
	close(next)
	workers.Wait()

	b := &bundle.Bundle{Zones: e.zones(), Networks: e.overlays(results)}
	for _, f := range results {
		s := f.Stack // alone, so that the rest can go
		b.Stacks = append(b.Stacks, &s)
		b.Secrets = append(b.Secrets, f.secretList()...)
		b.Files = append(b.Files, f.extra...)
	}
	if err := e.files(b); err != nil {
		return nil, err
	}
	slices.SortFunc(b.Files, func(a, b bundle.File) int { return strings.Compare(a.Path, b.Path) })
	return b, nil
}

// expansion is what all stacks share while they are expanded. It is read-only
// once the stacks are under way.
type expansion struct {
	cluster   *stack.Cluster
	subnets   map[networks.Name]string
	sites     map[string][]site
	blueprint []byte
	tunnel    []byte
}

// file is one Compose file in the making.
type file struct {
	bundle.Stack
	content bundle.Compose
	origins *bundle.Origins // nil when nobody asks for them
	stack   *stack.Stack
	e       *expansion
	secrets map[string]*bundle.Secret // by Compose key
	// ambiguous are names of secrets that stand for two contents.
	ambiguous map[string]bool
	shared    map[string]networks.Name // by Compose key
	extra     []bundle.File
	links     []attachment
}

// attachment is a service on a network, and why.
type attachment struct {
	network networks.Name
	service stack.ServiceName
	why     string
}

// stack expands one stack. The origins of what it writes go into origins,
// unless that is nil.
func (e *expansion) stack(s *stack.Stack, origins *bundle.Origins) *file {
	f := &file{
		origins: origins,
		Stack:   bundle.Stack{Name: s.Name, Tier: s.Tier, Source: s.File},
		content: bundle.Compose{"version": "3.8"},
		stack:   s, e: e, secrets: map[string]*bundle.Secret{}, ambiguous: e.ambiguousNames(s), shared: map[string]networks.Name{},
	}
	f.Compose = func() bundle.Compose { return e.stack(s, nil).content }
	f.Origins = func() *bundle.Origins {
		traced := &bundle.Origins{}
		e.stack(s, traced)
		return traced
	}
	f.origins.Set(bundle.Origin{Pos: s.Pos, By: "stack"}, "services")
	for _, service := range s.Services {
		f.service(service)
	}
	f.volumes()
	f.declareNetworks()
	f.declareSecrets()
	return f
}

// builder writes one service of a file.
type builder struct {
	*file
	service *stack.Service
	name    string
}

// service expands one service.
func (f *file) service(s *stack.Service) {
	b := &builder{file: f, service: s, name: string(s.Ref.Service)}
	b.compose()
	b.environment()
	b.files()
	b.deploy()
	b.networks()
	b.routes()
	b.dockerProxy()
	b.homepage()
	b.monitor()
	b.metrics()
	if f.e.cluster.Ingress.Service == s.Ref {
		b.ingress()
	}
	b.mountDerived()
	b.preview()
}

// origin is a place of the service's stack file and the key that derived
// something from it.
func (b *builder) origin(by string, path ...string) bundle.Origin {
	return bundle.Origin{Pos: b.service.At(path...), By: by}
}

// set writes a value of the service and where it comes from.
func (b *builder) set(origin bundle.Origin, v any, path ...string) {
	b.put(origin, v, append([]string{"services", b.name}, path...)...)
}

// label writes a deploy label, which is what Swarm's readers see; the first
// writer wins, so that a stack file's own label stays.
func (b *builder) label(origin bundle.Origin, key, value string) {
	if b.get("deploy", "labels", key) != nil {
		return
	}
	b.set(origin, value, "deploy", "labels", key)
}

// get reads a value of the service, nil when there is none.
func (b *builder) get(path ...string) any {
	var v any = b.content["services"]
	for _, k := range append([]string{b.name}, path...) {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[k]
	}
	return v
}

// put writes a value into the file, making mappings on the way.
func (f *file) put(origin bundle.Origin, v any, path ...string) {
	var m map[string]any = f.content
	for _, k := range path[:len(path)-1] {
		inner, ok := m[k].(map[string]any)
		if !ok {
			inner = map[string]any{}
			m[k] = inner
		}
		m = inner
	}
	m[path[len(path)-1]] = v
	f.origins.Set(origin, path...)
}

// add appends to a list of the service.
func (b *builder) add(origin bundle.Origin, v any, path ...string) {
	list, _ := b.get(path...).([]any)
	full := append([]string{"services", b.name}, path...)
	b.put(origin, append(list, v), full...)
	b.origins.Set(origin, append(full, itoa(len(list)))...)
}

func (f *file) volumes() {
	for _, key := range slices.Sorted(maps.Keys(f.stack.Volumes)) {
		v := f.stack.Volumes[key]
		def := map[string]any{}
		if bool(v.External) {
			def["external"] = true
		}
		if v.Name != "" && (bool(v.External) || v.Name != key) {
			def["name"] = v.Name
		}
		if v.Driver != "" {
			def["driver"] = v.Driver
		}
		if len(v.DriverOpts) > 0 {
			def["driver_opts"] = anyMap(v.DriverOpts)
		}
		if len(v.Labels) > 0 {
			def["labels"] = anyMap(v.Labels)
		}
		if !bool(v.External) {
			f.mark(def)
		}
		f.put(bundle.Origin{Pos: f.stack.Positions.At("volumes", key), By: "volumes"}, def, "volumes", key)
	}
}

// declareSecrets lists the secrets that the services use: external ones, and
// those of a driver that the stack file names.
func (f *file) declareSecrets() {
	for _, key := range slices.Sorted(maps.Keys(f.secrets)) {
		s := f.secrets[key]
		origin := bundle.Origin{Pos: f.stack.Pos, By: "op://"}
		for _, service := range f.stack.Services {
			if slices.Contains(s.Services, service.Ref.Service) {
				origin.Pos = service.At("environment")
				break
			}
		}
		f.put(origin, map[string]any{"external": true, "name": s.Name}, "secrets", key)
	}
	for _, key := range slices.Sorted(maps.Keys(f.stack.Secrets)) {
		s := f.stack.Secrets[key]
		def := map[string]any{}
		if s.Name != "" && s.Name != key {
			def["name"] = s.Name
		}
		if bool(s.External) {
			def["external"] = true
		} else {
			def["driver"] = s.Driver
			if len(s.DriverOpts) > 0 {
				def["driver_opts"] = anyMap(s.DriverOpts)
			}
			if len(s.Labels) > 0 {
				def["labels"] = anyMap(s.Labels)
			}
			f.mark(def)
		}
		f.put(bundle.Origin{Pos: f.stack.Positions.At("secrets", key), By: "secrets"}, def, "secrets", key)
	}
}

func (f *file) secretList() []bundle.Secret {
	var out []bundle.Secret
	for _, key := range slices.Sorted(maps.Keys(f.secrets)) {
		out = append(out, *f.secrets[key])
	}
	return out
}

// secret makes sure that the stack has a secret with this content and returns
// its Compose key. name is used when the content is more than one reference.
func (f *file) secret(t secrets.Template, name string, user stack.ServiceName) string {
	id, key := t.String(), name
	ref, sole := t.Sole()
	if sole {
		id, key = ref.String(), ref.Slug()
	}
	if f.ambiguous[key] {
		key += "-" + hash([]byte(id))
	}
	if f.secrets[key] == nil {
		f.secrets[key] = &bundle.Secret{
			Name:  secrets.SecretName(string(f.Name), key, f.version(t)),
			Stack: f.Name, Template: t, Preview: f.stack.Preview.Label(),
		}
	}
	if s := f.secrets[key]; !slices.Contains(s.Services, user) {
		s.Services = append(s.Services, user)
	}
	return key
}

// ambiguousNames are the names that two contents of a stack would share. All
// of them get a hash, so that a new one renames none of the others.
func (e *expansion) ambiguousNames(s *stack.Stack) map[string]bool {
	content := map[string]string{}
	ambiguous := map[string]bool{}
	for key := range s.Secrets {
		ambiguous[key] = true // the stack file has a secret of that name itself
	}
	add := func(t secrets.Template, name string) {
		id := t.String()
		if ref, ok := t.Sole(); ok {
			id, name = ref.String(), ref.Slug()
		}
		if known, ok := content[name]; ok && known != id {
			ambiguous[name] = true
		}
		content[name] = id
	}
	for _, service := range s.Services {
		for _, v := range service.References {
			add(v.Value, variableSecret(service, v))
		}
		for _, f := range service.Files {
			if f.Secret != nil {
				add(*f.Secret, fileSecret(service, f))
			}
		}
		if service.Ref == e.cluster.Ingress.Service {
			for _, ref := range e.certificates() {
				add(sole(ref), "")
			}
		}
	}
	return ambiguous
}

// version is the locked version of a secret's content: the item's version for
// a reference, a hash of all versions for a template, empty when not locked.
func (f *file) version(t secrets.Template) string {
	lock := f.e.cluster.Lock
	if ref, ok := t.Sole(); ok {
		return lock[ref].Version
	}
	parts := []string{t.String()}
	for _, ref := range t.References() {
		v := lock[ref].Version
		if v == "" {
			return ""
		}
		parts = append(parts, ref.String()+"="+v)
	}
	return hash([]byte(strings.Join(parts, "\n")))
}
