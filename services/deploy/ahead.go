package deploy

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"
)

// ReadAhead begins to read the Swarm while the caller does something else, such
// as compiling what the Swarm is compared with. The engine that it returns gives
// each list once as it was read ahead, and from then on asks again, so what is
// planned under the lease is never older than the lease. A list that could not
// be read is asked for again too. The reading ends before stop returns.
func ReadAhead(ctx context.Context, engine Engine) (ahead Engine, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	a := &readAhead{
		Engine:   engine,
		services: readEarly(ctx, &group, engine.Services),
		tasks:    readEarly(ctx, &group, func(ctx context.Context) ([]swarm.Task, error) { return engine.Tasks(ctx) }),
		networks: readEarly(ctx, &group, engine.Networks),
		configs:  readEarly(ctx, &group, engine.Configs),
		secrets:  readEarly(ctx, &group, engine.Secrets),
		nodes:    readEarly(ctx, &group, engine.Nodes),
	}
	return a, func() {
		cancel()
		group.Wait()
	}
}

type readAhead struct {
	Engine
	services *early[swarm.Service]
	tasks    *early[swarm.Task]
	networks *early[network.Network]
	configs  *early[swarm.Config]
	secrets  *early[swarm.Secret]
	nodes    *early[swarm.Node]
}

func (a *readAhead) Services(ctx context.Context) ([]swarm.Service, error) {
	return a.services.take(ctx, a.Engine.Services)
}

func (a *readAhead) Tasks(ctx context.Context, services ...string) ([]swarm.Task, error) {
	all := func(ctx context.Context) ([]swarm.Task, error) { return a.Engine.Tasks(ctx, services...) }
	if len(services) > 0 {
		return all(ctx)
	}
	return a.tasks.take(ctx, all)
}

func (a *readAhead) Networks(ctx context.Context) ([]network.Network, error) {
	return a.networks.take(ctx, a.Engine.Networks)
}

func (a *readAhead) Configs(ctx context.Context) ([]swarm.Config, error) {
	return a.configs.take(ctx, a.Engine.Configs)
}

func (a *readAhead) Secrets(ctx context.Context) ([]swarm.Secret, error) {
	return a.secrets.take(ctx, a.Engine.Secrets)
}

func (a *readAhead) Nodes(ctx context.Context) ([]swarm.Node, error) {
	return a.nodes.take(ctx, a.Engine.Nodes)
}

// early is a list that is being read.
type early[T any] struct {
	taken atomic.Bool
	done  chan struct{}
	list  []T
	err   error
}

func readEarly[T any](ctx context.Context, group *sync.WaitGroup, read func(context.Context) ([]T, error)) *early[T] {
	e := &early[T]{done: make(chan struct{})}
	group.Go(func() {
		defer close(e.done)
		e.list, e.err = read(ctx)
	})
	return e
}

// take is the list for whoever asks first; again reads it anew.
func (e *early[T]) take(ctx context.Context, again func(context.Context) ([]T, error)) ([]T, error) {
	if e.taken.Swap(true) {
		return again(ctx)
	}
	select {
	case <-e.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if e.err != nil {
		return again(ctx)
	}
	list := e.list
	e.list = nil
	return list, nil
}
