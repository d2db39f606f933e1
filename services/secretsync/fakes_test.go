package secretsync

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/swarm"

	"skep/generator/bundle"
	"skep/generator/stack"
	"skep/secrets"
)

// shelf is a source in memory: "op://v/i/f" -> value, items versioned.
type shelf struct {
	mu       sync.Mutex
	fields   map[string]string
	versions map[string]int // by item, 1 when not there
	ids      map[string]string
	down     error
	moves    bool // the item changes before it is read
	replaced bool // and is another one of its name and version
	hangs    bool // until ctx ends
	reads    int
}

func (s *shelf) answer(refs []secrets.Reference, values bool) secrets.Answers {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return secrets.Fail(refs, s.down)
	}
	out := secrets.Answers{}
	for _, r := range refs {
		value, ok := s.fields[r.String()]
		if !ok {
			out[r] = secrets.Answer{Err: &secrets.NotFoundError{What: "field", Name: r.Field}}
			continue
		}
		a := secrets.Answer{Item: secrets.Item{ID: s.ids[r.Item] + r.Item, Version: fmt.Sprint(max(1, s.versions[r.Item]))}}
		if values {
			a.Value = secrets.NewValue([]byte(value))
		}
		out[r] = a
	}
	return out
}

func (s *shelf) Versions(ctx context.Context, refs []secrets.Reference) secrets.Answers {
	s.mu.Lock()
	hangs := s.hangs
	s.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return secrets.Fail(refs, ctx.Err())
	}
	return s.answer(refs, false)
}

func (s *shelf) Read(_ context.Context, refs []secrets.Reference) secrets.Answers {
	s.reads++
	if s.replaced {
		for _, item := range []string{"db", "api"} {
			s.ids[item] = "another "
		}
	}
	if s.moves {
		for item := range s.versions {
			s.versions[item]++
		}
	}
	return s.answer(refs, true)
}

// engine is a Swarm in memory.
type engine struct {
	mu       sync.Mutex
	secrets  map[string]swarm.Secret // by id
	services []swarm.Service
	next     int
	history  map[string][]string
	fail     func(call string) error
	lose     bool // create, and lose the reply
}

func (e *engine) failing(call string) error {
	if e.fail != nil {
		return e.fail(call)
	}
	return nil
}

func (e *engine) Secrets(context.Context) ([]swarm.Secret, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []swarm.Secret
	for _, id := range slices.Sorted(maps.Keys(e.secrets)) {
		s := e.secrets[id]
		s.Spec.Data = nil
		out = append(out, s)
	}
	return out, e.failing("list")
}

func (e *engine) Services(context.Context) ([]swarm.Service, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.services), e.failing("services")
}

func (e *engine) Revisions(context.Context) (map[string][]string, error) {
	return e.history, e.failing("revisions")
}

func (e *engine) CreateSecret(_ context.Context, spec swarm.SecretSpec) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.failing("create " + spec.Name); err != nil {
		return "", err
	}
	for _, s := range e.secrets {
		if s.Spec.Name == spec.Name {
			return "", errdefs.ErrAlreadyExists
		}
	}
	if (spec.Driver == nil) != (len(spec.Data) > 0) {
		return "", errdefs.ErrInvalidArgument
	}
	e.next++
	id := fmt.Sprintf("id%03d", e.next)
	spec.Data = bytes.Clone(spec.Data)
	e.secrets[id] = swarm.Secret{ID: id, Spec: spec}
	if e.lose {
		e.lose = false
		return "", errdefs.ErrUnavailable
	}
	return id, nil
}

func (e *engine) RemoveSecret(_ context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.failing("remove"); err != nil {
		return err
	}
	name := e.secrets[id].Spec.Name
	for _, s := range e.services {
		if mounted(&s.Spec)[name] {
			return errdefs.ErrFailedPrecondition
		}
	}
	delete(e.secrets, id)
	return nil
}

// values are the secrets by name.
func (e *engine) values() map[string]string {
	out := map[string]string{}
	for _, s := range e.secrets {
		out[s.Spec.Name] = string(s.Spec.Data)
	}
	return out
}

// use makes a service mount secrets; what it mounted is its rollback target.
func (e *engine) use(service string, names ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	spec := swarm.ServiceSpec{Annotations: swarm.Annotations{Name: service}, TaskTemplate: swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{}}}
	for _, n := range names {
		spec.TaskTemplate.ContainerSpec.Secrets = append(spec.TaskTemplate.ContainerSpec.Secrets, &swarm.SecretReference{SecretName: n})
	}
	for i := range e.services {
		if e.services[i].Spec.Name == service {
			old := e.services[i].Spec
			e.services[i] = swarm.Service{Spec: spec, PreviousSpec: &old}
			return
		}
	}
	e.services = append(e.services, swarm.Service{Spec: spec})
}

// project has secrets "stack/name: template", used by the service app.
type project struct {
	templates map[string]string
	lock      secrets.Lock
	saved     int
	full      error // what SaveLock answers
	saving    func() error
}

func (p *project) Lock() secrets.Lock { return p.lock }

func (p *project) SaveLock(l secrets.Lock) error {
	p.saved++
	if p.saving != nil {
		if err := p.saving(); err != nil {
			return err
		}
	}
	if p.full == nil {
		p.lock = l
	}
	return p.full
}

func (p *project) Secrets(lock secrets.Lock) ([]bundle.Secret, error) {
	var out []bundle.Secret
	for _, key := range slices.Sorted(maps.Keys(p.templates)) {
		s, name, _ := strings.Cut(key, "/")
		t, err := secrets.ParseTemplate(p.templates[key])
		if err != nil {
			return nil, err
		}
		version := ""
		for _, r := range t.References() {
			version += lock[r].Version
		}
		out = append(out, bundle.Secret{Name: secrets.SecretName(s, name, version), Stack: stack.Name(s), Template: t, Services: []stack.ServiceName{"app"}})
	}
	return out, nil
}

type world struct {
	*shelf
	*engine
	*project
	*Syncer
}

func newWorld(mode Mode) *world {
	w := &world{
		shelf:   &shelf{fields: map[string]string{"op://v/db/password": "pa55", "op://v/api/token": "t0ken"}, versions: map[string]int{"db": 3}, ids: map[string]string{}},
		engine:  &engine{secrets: map[string]swarm.Secret{}},
		project: &project{templates: map[string]string{"one/db": "op://v/db/password", "two/url": "db:{{ op://v/db/password }}", "two/api": "op://v/api/token"}},
	}
	w.Syncer = &Syncer{Source: w.shelf, Swarm: w.engine, Options: Options{Cluster: "test", Mode: mode, Driver: "skep"}}
	return w
}

func (w *world) sync(t *testing.T) Plan {
	t.Helper()
	plan, err := w.Syncer.Plan(t.Context(), w.project)
	if err != nil {
		t.Fatal(err)
	}
	done, err := w.Apply(t.Context(), w.project, plan, true)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// says is the plan as lines "kind name".
func says(p Plan) string {
	var out []string
	for _, a := range p.Actions {
		out = append(out, string(a.Kind)+" "+a.Name)
	}
	return strings.Join(out, ", ")
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s\n got %s\nwant %s", what, got, want)
	}
}

// edit changes a value and its item's version.
func (w *world) edit(ref, value, item string, version int) {
	w.shelf.mu.Lock()
	defer w.shelf.mu.Unlock()
	w.shelf.fields[ref], w.versions[item] = value, version
}
