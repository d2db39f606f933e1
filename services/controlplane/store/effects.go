package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"skep/services/controlplane"
	"skep/services/controlplane/store/internal/db"
)

// recordTime is what is left to write down a result after the caller has given
// up.
const recordTime = 10 * time.Second

// Once runs a step of a run unless its result is recorded, and records it:
// whoever asks again gets the same result and nothing happens. One worker at a
// time has a step; others get ErrBusy. A step that fails is forgotten, so that
// it can be tried again at once.
//
// It is not exactly once, as nothing between two systems is: a worker that dies
// after the effect and before the record leaves a step that is done and not
// known to be. It is run again when StepLease is over. So a step either makes
// the same change twice without harm (set a status, put a comment under a key,
// deploy a revision), or looks first whether its change is there.
//
// The context that the step gets ends when the lease is lost, which takes a
// worker that could not reach the database for all of it.
func (s *Store) Once(ctx context.Context, run controlplane.RunID, step string, f func(context.Context) ([]byte, error)) ([]byte, error) {
	action := fmt.Sprintf("run %s, step %s", run, step)
	_, err := controlplane.ParseRunID(string(run))
	if err := errors.Join(err, check(text{"the step", step, 200})); err != nil {
		return nil, fmt.Errorf("%s: %w", action, err)
	}
	holder := uuid.NewString()
	result, err := s.takeEffect(ctx, action, run, step, holder)
	if result != nil || err != nil {
		return result, err
	}
	result, err = s.hold(ctx, run, step, holder, f)

	// What was done is recorded although the caller may be gone.
	rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	if err == nil {
		result, err = document("the result", result)
	}
	if err != nil {
		dropped := s.do(rest, action, func(q *db.Queries) error { return q.DropEffect(rest, string(run), step, holder) })
		return nil, errors.Join(err, dropped)
	}
	err = s.do(rest, action, func(q *db.Queries) error {
		n, err := q.RecordEffect(rest, db.RecordEffectParams{Result: result, RunID: string(run), Step: step, Holder: holder})
		if err == nil && n == 0 {
			recorded, again := q.Effect(rest, string(run), step)
			if again == nil && recorded != nil {
				return nil // by this call, before the connection was lost, or by another worker
			}
			return fmt.Errorf("%w: another worker took the step over", controlplane.ErrBusy)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return result, nil
}

// takeEffect returns the result if there is one; with neither result nor error
// the step is the holder's.
func (s *Store) takeEffect(ctx context.Context, action string, run controlplane.RunID, step, holder string) ([]byte, error) {
	var result []byte
	err := s.do(ctx, action, func(q *db.Queries) error {
		_, err := q.TakeEffect(ctx, db.TakeEffectParams{
			RunID: string(run), Step: step, Holder: holder, LeaseSeconds: s.StepLease.Seconds(),
		})
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if result, err = q.Effect(ctx, string(run), step); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if result == nil {
			return fmt.Errorf("%w: another worker has the step", controlplane.ErrBusy)
		}
		return nil
	})
	return result, err
}

// hold runs f while the lease is extended.
func (s *Store) hold(ctx context.Context, run controlplane.RunID, step, holder string, f func(context.Context) ([]byte, error)) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.extend(ctx, run, step, holder, cancel)
	}()
	defer func() {
		cancel(nil)
		<-ended
	}()
	return f(ctx)
}

func (s *Store) extend(ctx context.Context, run controlplane.RunID, step, holder string, lost context.CancelCauseFunc) {
	tick := time.NewTicker(s.StepLease / 3)
	defer tick.Stop()
	held := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asked := time.Now()
		err := s.do(ctx, "extend a step's lease", func(q *db.Queries) error {
			return one(q.ExtendEffect(ctx, db.ExtendEffectParams{
				LeaseSeconds: s.StepLease.Seconds(), RunID: string(run), Step: step, Holder: holder,
			}))
		})
		switch {
		case err == nil:
			held = asked
		case errors.Is(err, controlplane.ErrNotFound), time.Since(held) > s.StepLease:
			lost(fmt.Errorf("%w: the lease of step %s is lost", controlplane.ErrBusy, step))
			return
		}
	}
}
