package deploy

import (
	"context"
	"io"
	"sync"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"
)

// Reader reads a Swarm. Each method is one call of the Docker API.
type Reader interface {
	Services(ctx context.Context) ([]swarm.Service, error)
	// Tasks are those of some services, or all when none is named.
	Tasks(ctx context.Context, services ...string) ([]swarm.Task, error)
	Networks(ctx context.Context) ([]network.Network, error)
	Configs(ctx context.Context) ([]swarm.Config, error)
	Secrets(ctx context.Context) ([]swarm.Secret, error)
	Nodes(ctx context.Context) ([]swarm.Node, error)
}

// Engine changes a Swarm, one object a call. Its errors have the kinds of
// containerd's errdefs: Unavailable may pass, AlreadyExists is a name that is
// taken, Aborted an update of an older version than the object is at.
type Engine interface {
	Reader

	CreateService(ctx context.Context, spec swarm.ServiceSpec, resolve bool) (id string, err error)
	UpdateService(ctx context.Context, id string, version swarm.Version, spec swarm.ServiceSpec, resolve bool) error
	RemoveService(ctx context.Context, id string) error
	CreateNetwork(ctx context.Context, r network.CreateRequest) (id string, err error)
	RemoveNetwork(ctx context.Context, id string) error
	CreateConfig(ctx context.Context, spec swarm.ConfigSpec) (id string, err error)
	UpdateConfig(ctx context.Context, id string, version swarm.Version, spec swarm.ConfigSpec) error
	RemoveConfig(ctx context.Context, id string) error
	CreateSecret(ctx context.Context, spec swarm.SecretSpec) (id string, err error)
	UpdateSecret(ctx context.Context, id string, version swarm.Version, spec swarm.SecretSpec) error
	RemoveSecret(ctx context.Context, id string) error

	// TaskLog copies the last lines that a task wrote.
	TaskLog(ctx context.Context, task swarm.Task, lines int, w io.Writer) error
	// Changes calls changed when something may have happened, until ctx ends.
	Changes(ctx context.Context, changed func()) error
}

// Live is what a Swarm runs.
type Live struct {
	Services []swarm.Service
	Tasks    []swarm.Task
	Networks []network.Network
	Configs  []swarm.Config
	Secrets  []swarm.Secret
	Nodes    []swarm.Node
}

// Read takes the live state in six calls, however much there is. One in which a
// docker proxy hides values comes with ErrRedacted, and is good to look at only.
func Read(ctx context.Context, r Reader) (Live, error) {
	var live Live
	var group sync.WaitGroup
	errs := make([]error, 6)
	read := func(i int, f func() error) { group.Go(func() { errs[i] = f() }) }
	read(0, func() (err error) { live.Services, err = r.Services(ctx); return err })
	read(1, func() (err error) { live.Tasks, err = r.Tasks(ctx); return err })
	read(2, func() (err error) { live.Networks, err = r.Networks(ctx); return err })
	read(3, func() (err error) { live.Configs, err = r.Configs(ctx); return err })
	read(4, func() (err error) { live.Secrets, err = r.Secrets(ctx); return err })
	read(5, func() (err error) { live.Nodes, err = r.Nodes(ctx); return err })
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return Live{}, err
		}
	}
	return live, live.Whole()
}

func (l Live) service(name string) (swarm.Service, bool) {
	return find(l.Services, func(s *swarm.Service) bool { return s.Spec.Name == name })
}

func (l Live) network(name string) (network.Network, bool) {
	return find(l.Networks, func(n *network.Network) bool { return n.Name == name })
}

func (l Live) config(name string) (swarm.Config, bool) {
	return find(l.Configs, func(c *swarm.Config) bool { return c.Spec.Name == name })
}

func (l Live) secret(name string) (swarm.Secret, bool) {
	return find(l.Secrets, func(s *swarm.Secret) bool { return s.Spec.Name == name })
}

// tasks are the tasks of a service.
func (l Live) tasks(service string) []swarm.Task {
	var out []swarm.Task
	for _, t := range l.Tasks {
		if t.ServiceID == service {
			out = append(out, t)
		}
	}
	return out
}

// networkNames maps identifiers to names.
func (l Live) networkNames() map[string]string {
	out := make(map[string]string, len(l.Networks))
	for _, n := range l.Networks {
		out[n.ID] = n.Name
	}
	return out
}

// nodeNames maps identifiers to host names.
func (l Live) nodeNames() map[string]string {
	out := make(map[string]string, len(l.Nodes))
	for _, n := range l.Nodes {
		out[n.ID] = n.Description.Hostname
	}
	return out
}

func find[T any](list []T, is func(*T) bool) (T, bool) {
	for i := range list {
		if is(&list[i]) {
			return list[i], true
		}
	}
	var none T
	return none, false
}
