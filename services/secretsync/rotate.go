package secretsync

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"skep/generator/stack"
)

// Rotation is what a rotation did.
type Rotation struct {
	Sync     Plan
	Deployed []stack.Name
}

// Rotate syncs, and deploys the stacks whose services use another version than
// is wanted: a turn of a Watcher, with what went wrong as its error. Run again
// it goes on where it stopped. With names it deploys those stacks alone.
func Rotate(ctx context.Context, s *Syncer, p Project, d Deployer, prune bool, names ...stack.Name) (Rotation, error) {
	done, outdated, err := s.outdated(ctx, p, prune)
	r := Rotation{Sync: done}
	if err != nil {
		return r, err
	}
	var failed []error
	for _, name := range outdated {
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		// One by one, so that one that fails keeps no other back.
		if err := d.Deploy(ctx, []stack.Name{name}); err != nil {
			failed = append(failed, fmt.Errorf("deploy stack %s: %w", name, err))
		} else {
			r.Deployed = append(r.Deployed, name)
		}
		if ctx.Err() != nil {
			return r, errors.Join(append(failed, context.Cause(ctx))...)
		}
	}
	return r, errors.Join(failed...)
}

// outdated syncs, and finds the stacks that are to be deployed then.
func (s *Syncer) outdated(ctx context.Context, p Project, prune bool) (Plan, []stack.Name, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, turnTime, errSlowTurn)
	defer cancel()
	plan, err := s.Plan(ctx, p)
	if err != nil {
		return Plan{}, nil, err
	}
	done, err := s.Apply(ctx, p, plan, prune)
	if err != nil {
		return done, nil, err
	}
	wanted, err := p.Secrets(done.Lock)
	if err != nil {
		return done, nil, err
	}
	live, err := s.live(ctx)
	if err != nil {
		return done, nil, err
	}
	return done, Outdated(wanted, live, s.Options), nil
}
