package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"
)

// patient repeats what fails while the Swarm has no leader or the manager is
// away, and finds out what became of a change whose reply was lost: nothing is
// created twice, and no change of somebody else's is overwritten.
type patient struct {
	engine   Engine
	patience time.Duration
	waiting  func(err error) // told when the Swarm stops answering

	mu       sync.Mutex
	answered bool // it did once
	silent   bool // it does not at the moment
}

func newPatient(engine Engine, o Options) *patient {
	return &patient{engine: engine, patience: o.Patience, waiting: func(err error) {
		o.Report(Event{Verb: Pausing, Text: "the Swarm does not answer: " + err.Error()})
	}}
}

// heard notes how a call went, and reports whether the Swarm does not answer.
func (p *patient) heard(err error) (silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !errdefs.IsUnavailable(err) {
		p.answered, p.silent = true, false
		return false
	}
	var connection interface{ ConnectionFailed() bool } // services/swarm has it
	if !p.answered && (errors.As(err, &connection) || noManager(err)) {
		return false // nobody was ever there: a wrong address, no outage
	}
	if !p.silent && p.waiting != nil {
		p.waiting(err)
	}
	p.silent = true
	return true
}

// noManager reports whether an engine says that it is no manager. A manager says
// so too for the moment in which it starts, and some say that they prepare.
func noManager(err error) bool {
	return strings.Contains(err.Error(), "not a swarm manager") && !strings.Contains(err.Error(), "being prepared")
}

// Pauses between attempts grow from the first to the last.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 2 * time.Second
)

// try calls f until it succeeds, fails for good, or patience ends. f is told
// whether an earlier attempt may have been carried out.
func (p *patient) try(ctx context.Context, f func(again bool) error) error {
	deadline := time.Now().Add(p.patience)
	pause := firstPause
	for again := false; ; again = true {
		err := f(again)
		silent := p.heard(err)
		if (!silent && !errors.Is(err, errEnding)) || ctx.Err() != nil {
			return err
		}
		if time.Now().Add(pause).After(deadline) {
			if !silent {
				return err
			}
			return WithHint(err, fmt.Sprintf("the Swarm did not answer for %v; `skep doctor` looks at its managers", p.patience))
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		pause = min(2*pause, lastPause)
	}
}

func read[T any](ctx context.Context, p *patient, f func(context.Context) (T, error)) (T, error) {
	var out T
	err := p.try(ctx, func(bool) (err error) {
		out, err = f(ctx)
		return err
	})
	return out, err
}

func (p *patient) Services(ctx context.Context) ([]swarm.Service, error) {
	return read(ctx, p, p.engine.Services)
}

func (p *patient) Tasks(ctx context.Context, services ...string) ([]swarm.Task, error) {
	return read(ctx, p, func(ctx context.Context) ([]swarm.Task, error) { return p.engine.Tasks(ctx, services...) })
}

func (p *patient) Networks(ctx context.Context) ([]network.Network, error) {
	return read(ctx, p, p.engine.Networks)
}

func (p *patient) Configs(ctx context.Context) ([]swarm.Config, error) {
	return read(ctx, p, p.engine.Configs)
}

func (p *patient) Secrets(ctx context.Context) ([]swarm.Secret, error) {
	return read(ctx, p, p.engine.Secrets)
}

func (p *patient) Nodes(ctx context.Context) ([]swarm.Node, error) {
	return read(ctx, p, p.engine.Nodes)
}

// create creates an object. When an attempt was made before, a name that is
// taken may be taken by its fruit: find tells.
func (p *patient) create(ctx context.Context, create func() (string, error), find func() (id string, ours bool, err error)) (string, error) {
	var id string
	err := p.try(ctx, func(again bool) (err error) {
		id, err = create()
		if !again || !errdefs.IsAlreadyExists(err) {
			return err
		}
		found, ours, findErr := find()
		if findErr != nil {
			return findErr
		}
		if !ours {
			return err
		}
		id = found
		return nil
	})
	return id, err
}

func (p *patient) CreateService(ctx context.Context, spec swarm.ServiceSpec, resolve bool) (string, error) {
	return p.create(ctx,
		func() (string, error) {
			id, err := p.engine.CreateService(ctx, spec, resolve)
			if errdefs.IsNotFound(err) {
				err = p.whyNotFound(ctx, spec, err)
			}
			return id, err
		},
		func() (string, bool, error) {
			list, err := p.engine.Services(ctx)
			s, ok := Live{Services: list}.service(spec.Name)
			return s.ID, ok && reflect.DeepEqual(s.Spec.Labels, spec.Labels), err
		})
}

// whyNotFound says whether it passes that the Swarm does not find what a service
// refers to. An engine that has an old network of the same name finds that one
// first, and lists it, until the last task on it has ended.
func (p *patient) whyNotFound(ctx context.Context, spec swarm.ServiceSpec, err error) error {
	list, listErr := p.engine.Networks(ctx)
	if listErr != nil {
		return listErr
	}
	for _, n := range spec.TaskTemplate.Networks {
		if !slices.ContainsFunc(list, func(l network.Network) bool { return l.Name == n.Target || l.ID == n.Target }) {
			return &networkGone{name: n.Target, err: err}
		}
	}
	return fmt.Errorf("%w: %w", errEnding, err)
}

// networkGone says that a service is on a network that is not there.
type networkGone struct {
	name string
	err  error
}

func (g *networkGone) Error() string { return "network " + g.name + " is gone: " + g.err.Error() }
func (g *networkGone) Unwrap() error { return g.err }

func (p *patient) CreateNetwork(ctx context.Context, r network.CreateRequest) (string, error) {
	return p.create(ctx,
		func() (string, error) { return p.engine.CreateNetwork(ctx, r) },
		func() (string, bool, error) {
			list, err := p.engine.Networks(ctx)
			live := Live{Networks: list}
			n, ok := live.network(r.Name)
			_, differs := compareNetwork(r, live)
			return n.ID, ok && !differs, err
		})
}

func (p *patient) CreateConfig(ctx context.Context, spec swarm.ConfigSpec) (string, error) {
	return p.create(ctx,
		func() (string, error) { return p.engine.CreateConfig(ctx, spec) },
		func() (string, bool, error) {
			list, err := p.engine.Configs(ctx)
			c, ok := Live{Configs: list}.config(spec.Name)
			return c.ID, ok && bytes.Equal(c.Spec.Data, spec.Data) && reflect.DeepEqual(c.Spec.Labels, spec.Labels), err
		})
}

// update makes a change to an object at a version. A version that moved on
// after a lost reply may be the change itself: done tells.
func (p *patient) update(ctx context.Context, name string, update func() error, done func() (bool, error)) error {
	return p.try(ctx, func(again bool) error {
		err := update()
		if !errdefs.IsAborted(err) {
			return err
		}
		if again {
			is, doneErr := done()
			if doneErr != nil {
				return doneErr
			}
			if is {
				return nil
			}
		}
		return fmt.Errorf("%s: %w", name, ErrChanged)
	})
}

func (p *patient) UpdateService(ctx context.Context, id string, version swarm.Version, spec swarm.ServiceSpec, resolve bool) error {
	return p.update(ctx, "service "+spec.Name,
		func() error { return p.engine.UpdateService(ctx, id, version, spec, resolve) },
		func() (bool, error) {
			list, err := p.engine.Services(ctx)
			s, ok := Live{Services: list}.service(spec.Name)
			return ok && s.ID == id && reflect.DeepEqual(s.Spec.Labels, spec.Labels) &&
				s.Spec.TaskTemplate.ForceUpdate == spec.TaskTemplate.ForceUpdate, err
		})
}

func (p *patient) UpdateConfig(ctx context.Context, id string, version swarm.Version, spec swarm.ConfigSpec) error {
	return p.update(ctx, "config "+spec.Name,
		func() error { return p.engine.UpdateConfig(ctx, id, version, spec) },
		func() (bool, error) {
			list, err := p.engine.Configs(ctx)
			c, ok := Live{Configs: list}.config(spec.Name)
			return ok && c.ID == id && reflect.DeepEqual(c.Spec.Labels, spec.Labels), err
		})
}

func (p *patient) CreateSecret(ctx context.Context, spec swarm.SecretSpec) (string, error) {
	return p.create(ctx,
		func() (string, error) { return p.engine.CreateSecret(ctx, spec) },
		func() (string, bool, error) {
			list, err := p.engine.Secrets(ctx)
			s, ok := Live{Secrets: list}.secret(spec.Name)
			return s.ID, ok && reflect.DeepEqual(s.Spec.Labels, spec.Labels), err
		})
}

func (p *patient) UpdateSecret(ctx context.Context, id string, version swarm.Version, spec swarm.SecretSpec) error {
	return p.update(ctx, "secret "+spec.Name,
		func() error { return p.engine.UpdateSecret(ctx, id, version, spec) },
		func() (bool, error) {
			list, err := p.engine.Secrets(ctx)
			s, ok := Live{Secrets: list}.secret(spec.Name)
			return ok && s.ID == id && reflect.DeepEqual(s.Spec.Labels, spec.Labels), err
		})
}

// errEnding is what passes when tasks that end have ended.
var errEnding = errors.New("tasks that end are in the way")

// remove removes an object; one that is gone is no error. What is still in use
// by a task that ends soon is tried again.
func (p *patient) remove(ctx context.Context, remove func() error) error {
	return p.try(ctx, func(bool) error {
		err := remove()
		switch {
		case errdefs.IsNotFound(err):
			return nil
		case errdefs.IsFailedPrecondition(err):
			return fmt.Errorf("%w: %w", errEnding, err)
		}
		return err
	})
}

func (p *patient) RemoveService(ctx context.Context, id string) error {
	return p.remove(ctx, func() error { return p.engine.RemoveService(ctx, id) })
}

// RemoveNetwork waits until the network is gone: an engine lists one until the
// last task has left it, and a deploy before that would count on it.
func (p *patient) RemoveNetwork(ctx context.Context, id string) error {
	if err := p.remove(ctx, func() error { return p.engine.RemoveNetwork(ctx, id) }); err != nil {
		return err
	}
	return p.try(ctx, func(bool) error {
		list, err := p.engine.Networks(ctx)
		if err != nil {
			return err
		}
		if n, ok := find(list, func(n *network.Network) bool { return n.ID == id }); ok {
			return fmt.Errorf("%w: network %s is still there", errEnding, n.Name)
		}
		return nil
	})
}

func (p *patient) RemoveConfig(ctx context.Context, id string) error {
	return p.remove(ctx, func() error { return p.engine.RemoveConfig(ctx, id) })
}

func (p *patient) RemoveSecret(ctx context.Context, id string) error {
	return p.remove(ctx, func() error { return p.engine.RemoveSecret(ctx, id) })
}

func (p *patient) TaskLog(ctx context.Context, task swarm.Task, lines int, w io.Writer) error {
	return p.engine.TaskLog(ctx, task, lines, w)
}

// Changes listens again when the connection breaks.
func (p *patient) Changes(ctx context.Context, changed func()) error {
	for {
		err := p.try(ctx, func(bool) error { return p.engine.Changes(ctx, changed) })
		if ctx.Err() != nil || (err != nil && !errors.Is(err, io.EOF)) {
			return err
		}
	}
}

var _ Engine = (*patient)(nil)
