package deploy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"

	"skep/generator/stack"
)

// stack deploys one stack and, when that fails, takes it back to what it was.
func (d *deployment) stack(release Release, plan StackPlan) StackFailure {
	d.options.Report(Event{Stack: release.Stack, Verb: Began})
	desired, err := release.desired()
	if err != nil {
		return StackFailure{Stack: release.Stack, Err: err}
	}
	revision, err := d.beginRevision(release, plan)
	if err != nil {
		return StackFailure{Stack: release.Stack, Err: err}
	}
	a := &application{
		deployment: d, ctx: d.ctx, watch: d.watch, desired: desired, plan: plan, live: d.live, revision: revision.Number,
		wait: !d.options.NoWait, ungated: d.options.Scope.keepJobs,
	}
	if err := a.apply(); err != nil {
		return d.giveUp(plan, revision, err, a.theirs)
	}
	// The stack is up: what fails from here on is no reason to take it back.
	err = d.endRevision(revision, StateDeployed, "")
	if err == nil {
		err = a.remove()
	}
	if err != nil {
		d.options.Report(Event{Stack: release.Stack, Verb: Failed, Text: err.Error()})
		return StackFailure{Stack: release.Stack, Err: err}
	}
	revision.State = StateDeployed
	d.forget(revision)
	d.options.Report(Event{Stack: release.Stack, Verb: Finished, Text: fmt.Sprintf("revision %d", revision.Number)})
	return StackFailure{}
}

// giveUp marks a revision that failed and takes its stack back, but for the
// services that somebody else changed.
func (d *deployment) giveUp(plan StackPlan, revision Revision, err error, theirs []string) StackFailure {
	out := StackFailure{Stack: plan.Stack, Err: err}
	d.options.Report(Event{Stack: plan.Stack, Verb: Failed, Text: err.Error()})
	if d.ctx.Err() != nil {
		if !d.options.Undo || d.kept.Err() != nil {
			return out // interrupted, or the lease is lost: the next deploy finishes it
		}
		after := *d
		after.ctx = d.kept
		d = &after
	}
	if revision.State == StateDeployed {
		return out // only drift was to be undone: there is nothing to go back to
	}
	if markErr := d.endRevision(revision, StateFailed, err.Error()); markErr != nil {
		out.Err = errors.Join(out.Err, markErr)
	}
	if !d.options.KeepFailed {
		out.RestoreErr = d.restore(plan, theirs)
		out.Restored = out.RestoreErr == nil
	}
	revision.State = StateFailed
	d.forget(revision)
	return out
}

// application brings one stack to one desired state.
type application struct {
	*deployment
	ctx      context.Context
	watch    *watch
	desired  *desired
	plan     StackPlan
	live     Live
	revision int
	wait     bool // for services; jobs that gate are always waited for
	ungated  bool // no job runs

	mu     sync.Mutex
	theirs []string // services that somebody changed while the deploy ran, under mu until apply is over
}

func (a *application) tell(e Event) {
	e.Stack = a.desired.release.Stack
	a.options.Report(e)
}

// apply creates and updates. What is to go goes after it, by remove.
func (a *application) apply() error {
	if err := a.renetwork(); err != nil {
		return err
	}
	if err := a.driven(); err != nil {
		return err
	}
	for _, c := range a.plan.Changes {
		if c.Action != Create || (c.Kind != KindNetwork && c.Kind != KindConfig) {
			continue
		}
		if err := a.create(c); err != nil {
			return err
		}
	}
	// Identifiers of what the services mount, with what was created just now.
	configs, err := a.engine.Configs(a.ctx)
	if err != nil {
		return err
	}
	a.live.Configs = configs
	return a.services()
}

// driven creates and updates the secrets of drivers.
func (a *application) driven() error {
	changed := false
	for _, c := range a.plan.Changes {
		if c.Kind != KindSecret || c.Action == Remove {
			continue
		}
		spec, _ := find(a.desired.driven, func(s *swarm.SecretSpec) bool { return s.Name == c.Name })
		spec.Labels = maps.Clone(spec.Labels)
		spec.Labels[LabelStack] = string(a.desired.release.Stack)
		verb, err := Created, error(nil)
		if live, ok := a.live.secret(c.Name); ok {
			verb = Updated
			err = a.engine.UpdateSecret(a.ctx, live.ID, live.Version, spec)
		} else {
			_, err = a.engine.CreateSecret(a.ctx, spec)
		}
		if err != nil {
			return fmt.Errorf("%s secret %s: %w", c.Action, c.Name, err)
		}
		changed = true
		a.tell(Event{Verb: verb, Subject: "secret " + c.Name})
	}
	if !changed {
		return nil
	}
	secrets, err := a.engine.Secrets(a.ctx)
	a.live.Secrets = secrets
	return err
}

// create creates a network or a config.
func (a *application) create(c Change) error {
	if c.Kind == KindNetwork {
		i := slices.IndexFunc(a.desired.networks, func(n network.CreateRequest) bool { return n.Name == c.Name })
		return a.createNetwork(a.desired.release.Stack, a.desired.networks[i])
	}
	i := slices.IndexFunc(a.desired.configs, func(s swarm.ConfigSpec) bool { return s.Name == c.Name })
	spec := a.desired.configs[i]
	spec.Labels = maps.Clone(spec.Labels)
	spec.Labels[LabelStack] = string(a.desired.release.Stack)
	if _, err := a.engine.CreateConfig(a.ctx, spec); err != nil {
		return fmt.Errorf("create config %s: %w", c.Name, err)
	}
	a.tell(Event{Verb: Created, Subject: "config " + c.Name})
	return nil
}

// services brings up what no job gates at once, jobs among it, and each other
// service when its gates are open. One failure ends the waiting for the rest.
func (a *application) services() error {
	ctx, cancel := context.WithCancelCause(a.ctx)
	defer cancel(nil)
	changes := map[string]Change{}
	for _, c := range a.plan.Changes {
		if c.Action != Remove && (c.Kind == KindService || c.Kind == KindJob) {
			changes[c.Name] = c
		}
	}
	gates := a.gates()
	open := map[stack.ServiceName]chan struct{}{} // closed when a job completed
	for _, s := range a.desired.services {
		if isJob(s.spec.Mode) {
			open[s.name] = make(chan struct{})
		}
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for _, s := range a.desired.services {
		group.Go(func() {
			err := func() error {
				for _, job := range gates[s.name] {
					select {
					case <-open[job]:
					case <-ctx.Done():
						return context.Cause(ctx)
					}
				}
				if ctx.Err() != nil { // a gate may have opened just then
					return context.Cause(ctx)
				}
				return a.service(ctx, s, changes[s.spec.Name], len(a.desired.release.Gates[s.name]) > 0)
			}()
			if err == nil {
				if gate, ok := open[s.name]; ok {
					close(gate)
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if !errors.Is(err, errOther) {
				errs = append(errs, err)
			}
			cancel(errOther)
		})
	}
	group.Wait()
	if len(errs) == 0 && a.ctx.Err() != nil {
		return context.Cause(a.ctx)
	}
	return errors.Join(errs...)
}

var errOther = errors.New("another service of the stack failed")

// gates are the jobs that a service waits for.
func (a *application) gates() map[stack.ServiceName][]stack.ServiceName {
	out := map[stack.ServiceName][]stack.ServiceName{}
	if a.ungated {
		return out
	}
	for job, before := range a.desired.release.Gates {
		for _, name := range before {
			out[name] = append(out[name], job)
		}
	}
	return out
}

// service creates or updates one service and waits until it is up.
func (a *application) service(ctx context.Context, s desiredService, c Change, gate bool) error {
	name := s.spec.Name
	job := isJob(s.spec.Mode)
	id, err := a.write(ctx, s, c)
	if err != nil {
		return err
	}
	// What is unchanged is waited for when a deploy before this one was cut off,
	// and a job that still runs when it gates something.
	waits := a.wait && (c.Name != "" || a.plan.Unfinished != 0) || (job && gate)
	if id == "" || !waits || (job && a.ungated) {
		return nil
	}
	if job && c.Name == "" {
		// Swarm forgets the tasks of a job that completed long ago.
		live, _ := a.live.service(name)
		tasks := a.live.tasks(id)
		if done, want := jobDone(live, tasks); done >= want || len(current(live, tasks)) == 0 {
			return nil
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, a.options.Timeout, errTimeout)
	defer cancel()
	err = a.watch.await(ctx, id, name, c.Name != "", func(p Progress) {
		verb := Waiting
		if p.Phase == PhaseDone {
			verb = Converged
		}
		a.tell(Event{Verb: verb, Subject: "service " + name, Text: p.Detail, Running: p.Running, Want: p.Want})
	})
	if failure := (*Failure)(nil); errors.As(err, &failure) {
		a.tell(Event{Verb: Failed, Subject: "service " + name, Text: strings.Join(append([]string{failure.Reason}, failure.Detail()...), "\n")})
	}
	return err
}

// createService also makes the networks of the stack that are not there after
// all: when the plan was made the engine still listed what the Swarm had removed.
func (a *application) createService(ctx context.Context, spec swarm.ServiceSpec) (id string, err error) {
	for range len(a.desired.networks) + 1 {
		id, err = a.engine.CreateService(ctx, spec, a.options.ResolveTags)
		gone := (*networkGone)(nil)
		if !errors.As(err, &gone) {
			return id, err
		}
		i := slices.IndexFunc(a.desired.networks, func(n network.CreateRequest) bool { return n.Name == gone.name })
		if i < 0 {
			return "", err
		}
		// Another service of the stack may have been faster.
		if err := a.createNetwork(a.desired.release.Stack, a.desired.networks[i]); err != nil && !errdefs.IsAlreadyExists(err) {
			return "", err
		}
	}
	return id, err
}

// write makes the change to a service and returns its identifier.
func (a *application) write(ctx context.Context, s desiredService, c Change) (string, error) {
	name := s.spec.Name
	live, exists := a.live.service(name)
	if c.Name == "" {
		return live.ID, nil
	}
	spec, err := a.complete(s.spec)
	if err != nil {
		return "", err
	}
	switch {
	case c.Action == Replace && exists:
		if err := a.engine.RemoveService(ctx, live.ID); err != nil {
			return "", fmt.Errorf("remove service %s: %w", name, err)
		}
		a.tell(Event{Verb: Removed, Subject: "service " + name, Text: c.Why})
		fallthrough
	case !exists:
		id, err := a.createService(ctx, spec)
		if err != nil {
			return "", fmt.Errorf("create service %s: %w", name, err)
		}
		a.tell(Event{Verb: Created, Subject: "service " + name})
		return id, nil
	}
	resolve := a.options.ResolveTags
	old := live.Spec.TaskTemplate
	spec.TaskTemplate.ForceUpdate = old.ForceUpdate
	if old.ContainerSpec != nil && canonical(live.Spec, nil).TaskTemplate.ContainerSpec.Image == canonical(spec, nil).TaskTemplate.ContainerSpec.Image {
		// The image is the same: keep the digest that the engine found for it.
		spec.TaskTemplate.ContainerSpec.Image, resolve = old.ContainerSpec.Image, false
		if old.Placement != nil {
			spec.TaskTemplate.Placement.Platforms = old.Placement.Platforms
		}
	}
	if len(c.Fields) == 0 {
		spec.TaskTemplate.ForceUpdate++ // once more, for it is stuck or its run failed
	}
	if err := updateService(ctx, a.engine, live, spec, resolve); err != nil {
		if errors.Is(err, ErrChanged) {
			a.mu.Lock()
			a.theirs = append(a.theirs, name)
			a.mu.Unlock()
		}
		return "", fmt.Errorf("update service %s: %w", name, err)
	}
	a.tell(Event{Verb: Updated, Subject: "service " + name})
	return live.ID, nil
}

// complete fills in identifiers and bookkeeping.
func (a *application) complete(spec swarm.ServiceSpec) (swarm.ServiceSpec, error) {
	spec = clone(spec)
	spec.Labels[LabelStack] = string(a.desired.release.Stack)
	spec.Labels[LabelRevision] = strconv.Itoa(a.revision)
	spec.Labels[LabelHash] = hash(canonical(spec, nil))
	for _, ref := range spec.TaskTemplate.ContainerSpec.Secrets {
		secret, ok := a.live.secret(ref.SecretName)
		if !ok {
			return spec, fmt.Errorf("service %s: there is no secret %s", spec.Name, ref.SecretName)
		}
		ref.SecretID = secret.ID
	}
	for _, ref := range spec.TaskTemplate.ContainerSpec.Configs {
		config, ok := a.live.config(ref.ConfigName)
		if !ok {
			return spec, fmt.Errorf("service %s: there is no config %s", spec.Name, ref.ConfigName)
		}
		ref.ConfigID = config.ID
	}
	return spec, nil
}

// remove prunes: services first, for they hold the rest.
func (a *application) remove() error {
	for _, kind := range []Kind{KindService, KindJob, KindConfig, KindSecret, KindNetwork} {
		for _, c := range a.plan.Changes {
			if c.Action != Remove || c.Kind != kind {
				continue
			}
			if err := removeObject(a.ctx, a.engine, a.live, c); err != nil {
				return fmt.Errorf("remove %s %s: %w", c.Kind, c.Name, err)
			}
			a.tell(Event{Verb: Removed, Subject: string(kind) + " " + c.Name})
		}
	}
	return nil
}

func removeObject(ctx context.Context, engine Engine, live Live, c Change) error {
	switch c.Kind {
	case KindService, KindJob:
		if s, ok := live.service(c.Name); ok {
			return engine.RemoveService(ctx, s.ID)
		}
	case KindConfig:
		if o, ok := live.config(c.Name); ok {
			return engine.RemoveConfig(ctx, o.ID)
		}
	case KindSecret:
		if o, ok := live.secret(c.Name); ok {
			return engine.RemoveSecret(ctx, o.ID)
		}
	case KindNetwork:
		if n, ok := live.network(c.Name); ok {
			return engine.RemoveNetwork(ctx, n.ID)
		}
	}
	return nil
}
