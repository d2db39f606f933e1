package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"skep/generator/stack"
)

// restore takes a stack that failed back to its deployed revision, or, when it
// has none, to what it was before. Jobs are left alone: what they did is done,
// and running an older one again could harm.
func (d *deployment) restore(name stack.Name, plan StackPlan) error {
	d.options.Report(Event{Stack: name, Verb: Restoring})
	err := d.restoreRevision(name, plan)
	if err != nil {
		return fmt.Errorf("return to the previous revision: %w", err)
	}
	d.options.Report(Event{Stack: name, Verb: Restored})
	return nil
}

func (d *deployment) restoreRevision(name stack.Name, plan StackPlan) error {
	// Time that ran out for the deploy must not run out for this.
	ctx, cancel := context.WithTimeoutCause(d.ctx, 2*d.options.Timeout, errTimeout)
	defer cancel()
	previous, ok := deployed(revisions(d.live)[name])
	if !ok {
		return d.undo(ctx, plan)
	}
	release, err := previous.Release()
	if err != nil {
		return err
	}
	live, err := Read(ctx, d.engine)
	if err != nil {
		return err
	}
	back, err := Compare(Project{Releases: []Release{release}}, live, Scope{Partial: true, Prune: true, keepJobs: true})
	if err != nil {
		return err
	}
	if len(back.Problems) > 0 {
		return notReady(back.Problems)
	}
	stack := back.Stacks[0]
	stack.Unfinished = 0
	// Only what this deploy created goes; what was there before stays.
	stack.Changes = slices.DeleteFunc(stack.Changes, func(c Change) bool { return c.Action == Remove && !created(plan, c.Name) })
	desired, err := release.desired()
	if err != nil {
		return err
	}
	a := &application{deployment: d, ctx: ctx, desired: desired, plan: stack, live: live, revision: previous.Number, wait: true, ungated: true}
	return a.apply()
}

func created(plan StackPlan, name string) bool {
	return slices.ContainsFunc(plan.Changes, func(c Change) bool { return c.Name == name && c.Action == Create })
}

// undo takes back what a plan did to a stack that has no revision: what was
// created is removed, and what was there gets its old spec.
func (d *deployment) undo(ctx context.Context, plan StackPlan) error {
	live, err := Read(ctx, d.engine)
	if err != nil {
		return err
	}
	var errs []error
	for _, kind := range []Kind{KindService, KindJob, KindConfig, KindNetwork} {
		for _, c := range plan.Changes {
			if c.Kind == kind && c.Action == Create {
				if err := removeObject(ctx, d.engine, live, c); err != nil {
					errs = append(errs, fmt.Errorf("remove %s %s: %w", c.Kind, c.Name, err))
				}
			}
		}
	}
	for _, c := range plan.Changes {
		before, was := d.live.service(c.Name)
		now, is := live.service(c.Name)
		if c.Kind != KindService || (c.Action != Update && c.Action != Replace) || !was {
			continue
		}
		var err error
		if is {
			err = d.engine.UpdateService(ctx, now.ID, now.Version, before.Spec, false)
		} else {
			_, err = d.engine.CreateService(ctx, before.Spec, false)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("restore service %s: %w", c.Name, err))
		}
	}
	return errors.Join(errs...)
}
