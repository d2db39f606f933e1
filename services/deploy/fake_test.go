package deploy

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"
)

// fakeSwarm keeps what a Swarm would and runs every task at once, except those
// whose image says "broken". It is for faults that a real Swarm does not show
// on demand; what a Swarm does in truth is tested in cmd/skep.
type fakeSwarm struct {
	mu     sync.Mutex
	clock  uint64
	state  Live
	writes []string // what was changed, in order
	calls  int

	lingers int // for so many looks a network that was removed is still there
	leaving []network.Network

	// fault is asked before and after each call; see the tests that set it.
	fault func(call string, after bool) error
}

var _ Engine = (*fakeSwarm)(nil)

// call runs one API call with its faults.
func (f *fakeSwarm) call(name string, write bool, do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.fault != nil {
		if err := f.fault(name, false); err != nil {
			return err
		}
	}
	if err := do(); err != nil {
		return err
	}
	if write {
		f.writes = append(f.writes, name)
	}
	if f.fault != nil {
		return f.fault(name, true)
	}
	return nil
}

func (f *fakeSwarm) next() swarm.Version {
	f.clock++
	return swarm.Version{Index: f.clock}
}

func (f *fakeSwarm) id(kind string) string {
	f.clock++
	return fmt.Sprintf("%s%d", kind, f.clock)
}

func list[T any](f *fakeSwarm, name string, from *[]T) ([]T, error) {
	var out []T
	err := f.call(name, false, func() error {
		out = slices.Clone(*from)
		return nil
	})
	return out, err
}

func (f *fakeSwarm) Services(context.Context) ([]swarm.Service, error) {
	return list(f, "services", &f.state.Services)
}

func (f *fakeSwarm) Tasks(_ context.Context, services ...string) ([]swarm.Task, error) {
	all, err := list(f, "tasks", &f.state.Tasks)
	if len(services) > 0 {
		all = slices.DeleteFunc(all, func(t swarm.Task) bool { return !slices.Contains(services, t.ServiceID) })
	}
	return all, err
}

func (f *fakeSwarm) Networks(context.Context) ([]network.Network, error) {
	out, err := list(f, "networks", &f.state.Networks)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lingers > 0 && len(f.leaving) > 0 {
		f.lingers--
		out = append(out, f.leaving...)
	}
	return out, err
}

func (f *fakeSwarm) Configs(context.Context) ([]swarm.Config, error) {
	return list(f, "configs", &f.state.Configs)
}

func (f *fakeSwarm) Secrets(context.Context) ([]swarm.Secret, error) {
	return list(f, "secrets", &f.state.Secrets)
}

func (f *fakeSwarm) Nodes(context.Context) ([]swarm.Node, error) {
	return list(f, "nodes", &f.state.Nodes)
}

func taken(kind, name string) error {
	return fmt.Errorf("%w: %s %s", errdefs.ErrAlreadyExists, kind, name)
}

func (f *fakeSwarm) CreateService(_ context.Context, spec swarm.ServiceSpec, _ bool) (id string, err error) {
	err = f.call("create service "+spec.Name, true, func() error {
		if _, ok := f.state.service(spec.Name); ok {
			return taken("service", spec.Name)
		}
		for _, n := range spec.TaskTemplate.Networks {
			_, there := f.state.network(n.Target)
			if _, left := (Live{Networks: f.leaving}).network(n.Target); left && !there {
				return fmt.Errorf("%w: network %s", errdefs.ErrNotFound, n.Target)
			}
		}
		id = f.id("s")
		s := swarm.Service{ID: id, Meta: swarm.Meta{Version: f.next()}, Spec: f.stored(spec)}
		if isJob(spec.Mode) {
			s.JobStatus = &swarm.JobStatus{}
		}
		f.state.Services = append(f.state.Services, s)
		f.runTasks(s)
		return nil
	})
	return id, err
}

// stored is a spec as the engine gives it back: networks by identifier.
func (f *fakeSwarm) stored(spec swarm.ServiceSpec) swarm.ServiceSpec {
	spec = clone(spec)
	for i, n := range spec.TaskTemplate.Networks {
		if got, ok := f.state.network(n.Target); ok {
			spec.TaskTemplate.Networks[i].Target = got.ID
		}
	}
	return spec
}

func (f *fakeSwarm) runTasks(s swarm.Service) {
	n := 1
	if r := s.Spec.Mode.Replicated; r != nil && r.Replicas != nil {
		n = int(*r.Replicas)
	}
	for slot := range n {
		t := swarm.Task{
			ID: f.id("t"), ServiceID: s.ID, Slot: slot + 1, NodeID: "n1", Spec: s.Spec.TaskTemplate, DesiredState: swarm.TaskStateRunning,
			Status: swarm.TaskStatus{State: swarm.TaskStateRunning},
		}
		if isJob(s.Spec.Mode) {
			t.Status.State = swarm.TaskStateComplete
			iteration := s.JobStatus.JobIteration
			t.JobIteration = &iteration
		}
		if strings.Contains(s.Spec.TaskTemplate.ContainerSpec.Image, "broken") {
			t.DesiredState = swarm.TaskStateShutdown
			t.Status = swarm.TaskStatus{State: swarm.TaskStateFailed, Err: "task: non-zero exit (3)", ContainerStatus: &swarm.ContainerStatus{ContainerID: "c", ExitCode: 3}}
			for range crashes - 1 {
				f.state.Tasks = append(f.state.Tasks, t)
			}
		}
		f.state.Tasks = append(f.state.Tasks, t)
	}
}

func (f *fakeSwarm) UpdateService(_ context.Context, id string, version swarm.Version, spec swarm.ServiceSpec, _ bool) error {
	return f.call("update service "+spec.Name, true, func() error {
		for i := range f.state.Services {
			s := &f.state.Services[i]
			if s.ID != id {
				continue
			}
			if s.Version != version {
				return errdefs.ErrAborted
			}
			if modeName(s.Spec.Mode) != modeName(spec.Mode) {
				return fmt.Errorf("%w: service mode change is not allowed", errdefs.ErrNotImplemented)
			}
			before := s.Spec
			s.Spec, s.PreviousSpec, s.Version = f.stored(spec), &before, f.next()
			if isJob(spec.Mode) {
				s.JobStatus = &swarm.JobStatus{JobIteration: s.Version}
			}
			f.state.Tasks = slices.DeleteFunc(f.state.Tasks, func(t swarm.Task) bool { return t.ServiceID == id })
			f.runTasks(*s)
			return nil
		}
		return errdefs.ErrNotFound
	})
}

// remove refuses what a service uses, as Swarm does.
func remove[T any](f *fakeSwarm, kind Kind, from *[]T, is func(T) bool, name func(T) string) error {
	return f.call("remove "+string(kind), true, func() error {
		i := slices.IndexFunc(*from, is)
		if i < 0 {
			return errdefs.ErrNotFound
		}
		what := string(kind) + " " + name((*from)[i])
		for _, s := range f.state.Services {
			used := map[string]bool{}
			mounts(s.Spec, used)
			for _, n := range s.Spec.TaskTemplate.Networks {
				used["network "+f.state.networkNames()[n.Target]] = true
			}
			if used[what] {
				return fmt.Errorf("%w: %s is in use by %s", errdefs.ErrFailedPrecondition, what, s.Spec.Name)
			}
		}
		*from = slices.Delete(slices.Clone(*from), i, i+1)
		return nil
	})
}

func (f *fakeSwarm) RemoveService(_ context.Context, id string) error {
	return remove(f, KindService, &f.state.Services, func(s swarm.Service) bool { return s.ID == id }, func(s swarm.Service) string { return s.Spec.Name })
}

func (f *fakeSwarm) CreateNetwork(_ context.Context, r network.CreateRequest) (id string, err error) {
	err = f.call("create network "+r.Name, true, func() error {
		if _, ok := f.state.network(r.Name); ok {
			return taken("network", r.Name)
		}
		n := network.Network{ID: f.id("n"), Name: r.Name, Driver: r.Driver, Internal: r.Internal, Attachable: r.Attachable, Options: r.Options, Labels: r.Labels}
		if r.IPAM != nil {
			n.IPAM = *r.IPAM
		}
		id = n.ID
		f.state.Networks = append(f.state.Networks, n)
		return nil
	})
	return id, err
}

func (f *fakeSwarm) RemoveNetwork(_ context.Context, id string) error {
	return remove(f, KindNetwork, &f.state.Networks, func(n network.Network) bool { return n.ID == id }, func(n network.Network) string {
		f.leaving = append(f.leaving, n)
		return n.Name
	})
}

func (f *fakeSwarm) CreateConfig(_ context.Context, spec swarm.ConfigSpec) (id string, err error) {
	err = f.call("create config "+spec.Name, true, func() error {
		if _, ok := f.state.config(spec.Name); ok {
			return taken("config", spec.Name)
		}
		id = f.id("c")
		f.state.Configs = append(f.state.Configs, swarm.Config{ID: id, Meta: swarm.Meta{Version: f.next()}, Spec: spec})
		return nil
	})
	return id, err
}

func (f *fakeSwarm) UpdateConfig(_ context.Context, id string, version swarm.Version, spec swarm.ConfigSpec) error {
	return f.call("update config "+spec.Name, true, func() error {
		for i := range f.state.Configs {
			c := &f.state.Configs[i]
			if c.ID != id {
				continue
			}
			if c.Version != version {
				return errdefs.ErrAborted
			}
			c.Spec.Labels, c.Version = maps.Clone(spec.Labels), f.next()
			return nil
		}
		return errdefs.ErrNotFound
	})
}

func (f *fakeSwarm) RemoveConfig(_ context.Context, id string) error {
	return remove(f, KindConfig, &f.state.Configs, func(c swarm.Config) bool { return c.ID == id }, func(c swarm.Config) string { return c.Spec.Name })
}

func (f *fakeSwarm) CreateSecret(_ context.Context, spec swarm.SecretSpec) (id string, err error) {
	err = f.call("create secret "+spec.Name, true, func() error {
		if _, ok := f.state.secret(spec.Name); ok {
			return taken("secret", spec.Name)
		}
		id = f.id("secret")
		f.state.Secrets = append(f.state.Secrets, swarm.Secret{ID: id, Meta: swarm.Meta{Version: f.next()}, Spec: spec})
		return nil
	})
	return id, err
}

func (f *fakeSwarm) UpdateSecret(_ context.Context, id string, version swarm.Version, spec swarm.SecretSpec) error {
	return f.call("update secret "+spec.Name, true, func() error {
		i := slices.IndexFunc(f.state.Secrets, func(s swarm.Secret) bool { return s.ID == id })
		if i < 0 {
			return errdefs.ErrNotFound
		}
		s := &f.state.Secrets[i]
		if s.Version != version {
			return errdefs.ErrAborted
		}
		s.Spec.Labels, s.Version = maps.Clone(spec.Labels), f.next()
		return nil
	})
}

func (f *fakeSwarm) RemoveSecret(_ context.Context, id string) error {
	return remove(f, KindSecret, &f.state.Secrets, func(s swarm.Secret) bool { return s.ID == id }, func(s swarm.Secret) string { return s.Spec.Name })
}

func (f *fakeSwarm) TaskLog(_ context.Context, _ swarm.Task, _ int, w io.Writer) error {
	_, err := io.WriteString(w, "starting\ncannot open the database\n")
	return err
}

func (f *fakeSwarm) Changes(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}

// quick makes a deploy of the fake as fast as it can be. What is waited for in
// full only when a test fails is long.
func quick() Options {
	return Options{Who: "test", Now: time.Now, Patience: time.Minute, Term: 300 * time.Millisecond, Timeout: time.Minute}
}
