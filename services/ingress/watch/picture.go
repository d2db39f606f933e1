package watch

import (
	"cmp"
	"context"
	"maps"
	"reflect"
	"slices"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"

	"skep/services/ingress/label"
)

// picture is what Docker is known to know.
type picture struct {
	engine  Engine
	options Options
	swarm   bool

	services   map[string]swarm.Service
	tasks      map[string][]swarm.Task // by service
	containers []container.Summary
	networks   []network.Summary
	configs    []swarm.Config

	stale stale
	hot   map[string]bool // services whose tasks an event may have moved
	// anywhere says that an event may have moved any task.
	anywhere bool
}

// stale is what events said is no longer so.
type stale struct {
	services   map[string]bool
	containers bool
	networks   bool
	configs    bool
}

// bulk is how many services are asked for by id; beyond it all are listed.
const bulk = 20

// serviceIDLabel is on the container of a task.
const serviceIDLabel = "com.docker.swarm.service.id"

// list asks for everything.
func (p *picture) list(ctx context.Context) error {
	p.stale, p.hot = stale{}, map[string]bool{}
	if err := p.listServices(ctx); err != nil {
		return err
	}
	if err := p.listConfigs(ctx); err != nil {
		return err
	}
	return cmp.Or(p.listNetworks(ctx), p.listContainers(ctx))
}

func (p *picture) listServices(ctx context.Context) error {
	p.services, p.tasks = map[string]swarm.Service{}, map[string][]swarm.Task{}
	if !p.swarm {
		return nil
	}
	services, err := p.engine.Services(ctx)
	if err != nil {
		return err
	}
	for _, s := range services {
		p.services[s.ID] = s
	}
	tasks, err := p.engine.Tasks(ctx)
	if err != nil {
		return err
	}
	p.tasks = byService(tasks)
	return nil
}

func byService(tasks []swarm.Task) map[string][]swarm.Task {
	out := map[string][]swarm.Task{}
	for _, t := range tasks {
		out[t.ServiceID] = append(out[t.ServiceID], t)
	}
	for _, of := range out {
		slices.SortFunc(of, func(a, b swarm.Task) int { return cmp.Compare(a.ID, b.ID) })
	}
	return out
}

func (p *picture) listConfigs(ctx context.Context) (err error) {
	if p.swarm {
		p.configs, err = p.engine.Configs(ctx, cmp.Or(p.options.Prefix, "caddy"))
	}
	return err
}

func (p *picture) listNetworks(ctx context.Context) (err error) {
	p.networks, err = p.engine.Networks(ctx)
	return err
}

func (p *picture) listContainers(ctx context.Context) (err error) {
	p.containers, err = p.engine.Containers(ctx, p.options.StoppedToo)
	return err
}

// note takes an event in and reports whether it matters.
func (p *picture) note(m events.Message) bool {
	switch m.Type {
	case events.ServiceEventType:
		if p.stale.services == nil {
			p.stale.services = map[string]bool{}
		}
		p.stale.services[m.Actor.ID] = true
		p.hot[m.Actor.ID] = true
	case events.NodeEventType:
		p.anywhere = true
	case events.ConfigEventType:
		p.stale.configs = true
	case events.NetworkEventType:
		p.stale.networks, p.stale.containers = true, true
	case events.ContainerEventType:
		switch m.Action {
		case events.ActionCreate, events.ActionStart, events.ActionStop, events.ActionDie, events.ActionDestroy,
			events.ActionHealthStatusHealthy, events.ActionHealthStatusUnhealthy:
		default:
			return false
		}
		p.stale.containers = true
		if id := m.Actor.Attributes[serviceIDLabel]; id != "" {
			p.hot[id] = true
		}
	default:
		return false
	}
	return true
}

// refresh asks for what is stale.
func (p *picture) refresh(ctx context.Context) (changed bool, err error) {
	s := p.stale
	p.stale = stale{}
	if p.swarm && len(s.services) > 0 {
		if err := p.refreshServices(ctx, slices.Sorted(maps.Keys(s.services))); err != nil {
			return false, err
		}
		changed = true
	}
	if s.networks {
		changed = true
		err = p.listNetworks(ctx)
	}
	if s.configs {
		changed = true
		err = cmp.Or(err, p.listConfigs(ctx))
	}
	if s.containers {
		changed = true
		err = cmp.Or(err, p.listContainers(ctx))
	}
	if err != nil {
		return false, err
	}
	moved, err := p.pollTasks(ctx, true)
	return changed || moved, err
}

func (p *picture) refreshServices(ctx context.Context, ids []string) error {
	if len(ids) > bulk {
		return p.listServices(ctx)
	}
	services, err := p.engine.Services(ctx, ids...)
	if err != nil {
		return err
	}
	for _, id := range ids {
		delete(p.services, id)
	}
	for _, s := range services {
		p.services[s.ID] = s
	}
	for _, id := range ids {
		if _, ok := p.services[id]; !ok {
			delete(p.tasks, id)
			delete(p.hot, id)
		}
	}
	return nil
}

// pollTasks asks for the tasks of the services that events named, or of all.
func (p *picture) pollTasks(ctx context.Context, named bool) (changed bool, err error) {
	if !p.swarm {
		return false, nil
	}
	if named && !p.anywhere && len(p.hot) == 0 {
		return false, nil
	}
	if !named || p.anywhere || len(p.hot) > bulk {
		tasks, err := p.engine.Tasks(ctx)
		if err != nil {
			return false, err
		}
		after := byService(tasks)
		changed = !maps.EqualFunc(p.tasks, after, sameTasks)
		p.tasks = after
		return changed, nil
	}
	ids := slices.Sorted(maps.Keys(p.hot))
	tasks, err := p.engine.Tasks(ctx, ids...)
	if err != nil {
		return false, err
	}
	after := byService(tasks)
	for _, id := range ids {
		changed = changed || !sameTasks(p.tasks[id], after[id])
		if delete(p.tasks, id); len(after[id]) > 0 {
			p.tasks[id] = after[id]
		}
	}
	return changed, nil
}

// sameTasks compares what routing depends on.
func sameTasks(a, b []swarm.Task) bool {
	return slices.EqualFunc(a, b, func(x, y swarm.Task) bool {
		return x.ID == y.ID && x.Status.State == y.Status.State && x.DesiredState == y.DesiredState &&
			reflect.DeepEqual(addresses(x), addresses(y))
	})
}

func addresses(t swarm.Task) []string {
	var out []string
	for _, a := range t.NetworksAttachments {
		for _, address := range a.Addresses {
			out = append(out, a.Network.ID+" "+address.String())
		}
	}
	return out
}

// cool ends the time after an event.
func (p *picture) cool() {
	clear(p.hot)
	p.anywhere = false
}

// state is a copy that does not change.
func (p *picture) state() label.State {
	s := label.State{
		Containers: slices.Clone(p.containers),
		Networks:   slices.Clone(p.networks),
		Configs:    slices.Clone(p.configs),
		Services:   make([]swarm.Service, 0, len(p.services)),
	}
	for _, service := range p.services {
		s.Services = append(s.Services, service)
	}
	for _, tasks := range p.tasks {
		s.Tasks = append(s.Tasks, tasks...)
	}
	return s
}
