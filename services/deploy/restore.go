package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/swarm"
)

// restore takes a stack that failed back to its deployed revision, or, when it
// has none, to what it was before. Jobs are left alone: what they did is done,
// and running an older one again could harm. So are theirs, the services that
// somebody changed while the deploy ran.
func (d *deployment) restore(plan StackPlan, theirs []string) error {
	d.options.Report(Event{Stack: plan.Stack, Verb: Restoring})
	for _, name := range theirs {
		d.options.Report(Event{Stack: plan.Stack, Verb: Warned, Text: "service " + name + " stays as somebody has just changed it; `skep plan` shows the difference"})
	}
	if err := d.restoreRevision(plan, theirs); err != nil {
		return fmt.Errorf("return to the previous revision: %w", err)
	}
	d.options.Report(Event{Stack: plan.Stack, Verb: Restored})
	return nil
}

func (d *deployment) restoreRevision(plan StackPlan, theirs []string) error {
	// Time that ran out for the deploy must not run out for this.
	ctx, cancel := context.WithTimeoutCause(d.ctx, 2*d.options.Timeout, errTimeout)
	defer cancel()
	live, err := Read(ctx, d.engine)
	if err != nil {
		return err
	}
	previous, ok := deployed(revisions(d.live)[plan.Stack])
	if !ok {
		return d.undo(ctx, plan, live, theirs)
	}
	release, err := previous.Release()
	if err != nil {
		return err
	}
	back, err := Compare(Project{Releases: []Release{release}}, live, Scope{Partial: true, Prune: true, keepJobs: true})
	if err != nil {
		return err
	}
	if err := back.Ready(); err != nil {
		return err
	}
	stack := back.Stacks[0]
	stack.Unfinished = 0
	// Only what this deploy created goes, or the attempt that it goes on with;
	// what was there before stays.
	stack.Changes = slices.DeleteFunc(stack.Changes, func(c Change) bool {
		service, _ := live.service(c.Name)
		isNew := created(plan, c.Kind, c.Name) || (c.Kind == KindService || c.Kind == KindJob) && attempted(plan, service)
		return c.Action == Remove && !isNew || isTheirs(theirs, c)
	})
	desired, err := release.desired()
	if err != nil {
		return err
	}
	// The watch of the deploy may have ended, when the Swarm did not answer.
	watch := startWatch(ctx, d.engine, live.nodeNames())
	defer watch.close()
	a := &application{deployment: d, ctx: ctx, watch: watch, desired: desired, plan: stack, live: live, revision: previous.Number, wait: true, ungated: true}
	if err := a.apply(); err != nil {
		return err
	}
	if err := a.remove(); err != nil {
		return err
	}
	return d.dropCreated(ctx, plan, live)
}

func isTheirs(theirs []string, c Change) bool {
	return (c.Kind == KindService || c.Kind == KindJob) && slices.Contains(theirs, c.Name)
}

// created reports whether a deploy made an object, in the place of another or not.
func created(plan StackPlan, kind Kind, name string) bool {
	return slices.ContainsFunc(plan.Changes, func(c Change) bool {
		return c.Kind == kind && c.Name == name && (c.Action == Create || c.Action == Replace)
	})
}

// attempted reports whether a service was created by the deploy that did not come
// to its end before this one.
func attempted(plan StackPlan, s swarm.Service) bool {
	return plan.Unfinished != 0 && s.PreviousSpec == nil && s.Spec.Labels[LabelRevision] == strconv.Itoa(plan.Unfinished)
}

// undo takes back what a plan did to a stack that has no revision: what was
// created is removed, and what was there gets its old spec. Services come
// before the configs and networks that they use.
func (d *deployment) undo(ctx context.Context, plan StackPlan, live Live, theirs []string) error {
	var errs []error
	services := ServicesOf(live.Services, string(plan.Stack))
	isNew := func(s swarm.Service) bool {
		return slices.ContainsFunc(plan.Changes, func(c Change) bool {
			return (c.Kind == KindService || c.Kind == KindJob) && c.Action == Create && c.Name == s.Spec.Name
		})
	}
	// What somebody else deployed before may have been replaced by the attempt
	// before this one, and stays.
	first := !slices.ContainsFunc(services, func(s swarm.Service) bool { return !isNew(s) && !attempted(plan, s) })
	for _, s := range services {
		if !isNew(s) && !first {
			continue
		}
		if err := d.engine.RemoveService(ctx, s.ID); err != nil {
			errs = append(errs, fmt.Errorf("remove service %s: %w", s.Spec.Name, err))
		}
	}
	for _, c := range plan.Changes {
		before, was := d.live.service(c.Name)
		if !was || (c.Action != Update && c.Action != Replace) || isTheirs(theirs, c) {
			continue
		}
		if err := d.undoService(ctx, live, before); err != nil {
			errs = append(errs, fmt.Errorf("restore service %s: %w", c.Name, err))
		}
	}
	return errors.Join(append(errs, d.dropCreated(ctx, plan, live))...)
}

// dropCreated removes the configs and networks that a plan created, unless a
// service uses them: a job is not taken back.
func (d *deployment) dropCreated(ctx context.Context, plan StackPlan, live Live) error {
	services, err := d.engine.Services(ctx)
	if err != nil {
		return err
	}
	used, names := map[string]bool{}, live.networkNames()
	for _, s := range services {
		mounts(s.Spec, used)
		for _, n := range s.Spec.TaskTemplate.Networks {
			used["network "+names[n.Target]] = true
		}
	}
	var errs []error
	for _, kind := range []Kind{KindConfig, KindSecret, KindNetwork} {
		for _, c := range plan.Changes {
			if c.Kind != kind || c.Action != Create || used[string(kind)+" "+c.Name] {
				continue
			}
			if err := removeObject(ctx, d.engine, live, c); err != nil {
				errs = append(errs, fmt.Errorf("remove %s %s: %w", c.Kind, c.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// undoService gives a service its old spec. What was a job is gone or goes: it
// would run again.
func (d *deployment) undoService(ctx context.Context, live Live, before swarm.Service) error {
	now, is := live.service(before.Spec.Name)
	switch {
	case is && isJob(before.Spec.Mode) && isJob(now.Spec.Mode):
		return nil
	case is && modeName(before.Spec.Mode) == modeName(now.Spec.Mode):
		return updateService(ctx, d.engine, now, before.Spec, false)
	case is:
		if err := d.engine.RemoveService(ctx, now.ID); err != nil {
			return err
		}
	}
	if isJob(before.Spec.Mode) {
		return nil
	}
	_, err := d.engine.CreateService(ctx, before.Spec, false)
	return err
}
