package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"skep/services/controlplane"
)

// Queues are held by who works on runs of theirs, in any process.
type Queues interface {
	// Enter takes a queue until leave is called, or until this process dies.
	// ErrBusy if another has it. held ends when the queue is lost before it is
	// left, to somebody who found it free for longer than settle.
	Enter(ctx context.Context, queue string) (held context.Context, leave func(), err error)
	// First is the run that comes first in the queue of another one, that one at
	// the latest: its id, class and state. A run that is over has none before it.
	First(ctx context.Context, run controlplane.RunID) (controlplane.Run, error)
}

const (
	// waitPoll is how often a run whose turn it is looks whether its queue is free:
	// what has it was given to a worker directly.
	waitPoll = 200 * time.Millisecond
	// otherPoll is the same where another class of workers is to do what comes
	// first, and has to find the queue free.
	otherPoll = time.Second
	// settle is how long a run that was begun is left to its worker, which does not
	// have its queue: it died, or its session with the database did, and it comes
	// back for the queue.
	settle = 5 * time.Second
	// tellTime is what the engine has to hear of a run that waits for another class.
	tellTime = 10 * time.Second
)

// queued does a run, and lets time pass before one comes again that waits for
// its turn.
func (h *handler) queued(ctx context.Context, class controlplane.Priority, in input, inTurn, last bool) error {
	err := h.inOrder(ctx, class, in, inTurn, last)
	if inTurn && errors.Is(err, controlplane.ErrBusy) {
		if err := h.pause(ctx, settle); err != nil {
			return err
		}
	}
	return err
}

// inOrder does a run while it has its queue, after those that come before it:
// they may not have been given to anybody yet, or not to somebody who lives.
// ErrBusy if somebody else is at it, and the run has to wait for its turn.
func (h *handler) inOrder(ctx context.Context, class controlplane.Priority, in input, inTurn, last bool) error {
	own := controlplane.RunID(in.Run)
	if in.Queue == "" {
		return h.do(ctx, own, last)
	}
	held, first, leave, err := h.enter(ctx, class, in, inTurn)
	if err != nil {
		return err
	}
	defer leave() // whatever becomes of the handler
	for first != own {
		if err := h.doBefore(held, first, last); err != nil {
			return err
		}
		next, err := h.queues.First(held, own)
		if err := errors.Join(err, h.drained()); err != nil {
			return err
		}
		switch {
		case next.ID == first:
			return fmt.Errorf("run %s was done and is not over", first)
		case !h.does(next, own, class):
			return fmt.Errorf("run %s comes first: %w", next.ID, controlplane.ErrBusy)
		}
		first = next.ID
	}
	return h.do(held, own, last)
}

// does says whether this worker does a run that comes first in the queue of its
// own one.
func (h *handler) does(first controlplane.Run, own controlplane.RunID, class controlplane.Priority) bool {
	return first.ID == own || slices.Contains(h.classes, first.Priority) || slices.Index(classes, first.Priority) > slices.Index(classes, class)
}

// doBefore does a run on behalf of one that waits for it.
func (h *handler) doBefore(ctx context.Context, run controlplane.RunID, last bool) error {
	ctx, span := tracer.Start(ctx, "run before", trace.WithAttributes(attribute.String("skep.run", string(run))))
	defer span.End()
	err := h.do(ctx, run, last)
	if err != nil {
		span.SetStatus(codes.Error, "")
	}
	return err
}

// enter takes a queue, with the run that comes first. It takes no run from a
// worker that is there, nor from those of a higher class.
func (h *handler) enter(ctx context.Context, class controlplane.Priority, in input, inTurn bool) (context.Context, controlplane.RunID, func(), error) {
	own := controlplane.RunID(in.Run)
	var left, told controlplane.RunID // by its worker, it seems; to the engine
	for {
		wait := waitPoll
		held, leave, err := h.queues.Enter(ctx, in.Queue)
		switch {
		case err == nil:
			first, err := h.queues.First(held, own)
			does := err == nil && h.does(first, own, class)
			if does && (first.State != controlplane.RunRunning || first.ID == left) {
				return held, first.ID, leave, nil
			}
			leave()
			switch {
			case err != nil:
				return nil, "", nil, err
			case does:
				left, wait = first.ID, settle
			case !inTurn:
				return nil, "", nil, fmt.Errorf("run %s comes first: %w", first.ID, controlplane.ErrBusy)
			default:
				left, wait = "", otherPoll
				if told != first.ID {
					first.Queue, told = in.Queue, first.ID
					h.tell(ctx, first)
				}
			}
		case inTurn && errors.Is(err, controlplane.ErrBusy):
			left = ""
		default:
			return nil, "", nil, err
		}
		if err := h.pause(ctx, wait); err != nil {
			return nil, "", nil, err
		}
	}
}

// pause ends early with an error when no more runs are taken.
func (h *handler) pause(ctx context.Context, length time.Duration) error {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-h.drain:
		return errDraining
	case <-ctx.Done():
		return ctx.Err()
	}
}
