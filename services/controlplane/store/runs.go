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

// Start stores a run that waits for a worker, under an id of its own unless it
// has one. The same key never makes a second run: what is returned then is the
// id of the first, and not created. A run that supersedes ends those before it
// in its queue; they may be at work, and end when they see it.
//
// Each change of a run's state is an event too, in the same transaction:
// run.queued, run.started or run.ended, of the topics run/<id> and
// project/<name> or task/<name>.
func (s *Store) Start(ctx context.Context, r controlplane.Run) (id controlplane.RunID, created bool, err error) {
	action := fmt.Sprintf("start a run for %q", r.Key)
	if r.ID == "" {
		fresh, err := uuid.NewV7()
		if err != nil {
			return "", false, fmt.Errorf("%s: %w", action, err)
		}
		r.ID = controlplane.RunID(fresh.String())
	}
	if r.Priority == "" {
		r.Priority = controlplane.Normal
	}
	_, err = controlplane.ParseRunID(string(r.ID))
	err = errors.Join(err, check(text{"the key", r.Key, 400}, text{"the queue", r.Queue, 400}, text{"the kind", string(r.Kind), 32},
		text{"the project", string(r.Project), 63}, text{"the task", string(r.Task), 63}))
	input, problem := document("the input", r.Input)
	if err := errors.Join(err, problem); err != nil {
		return "", false, fmt.Errorf("%s: %w", action, err)
	}
	params := db.StartRunParams{
		ID: string(r.ID), Key: r.Key, Kind: string(r.Kind), Project: string(r.Project), Task: string(r.Task), Queue: r.Queue,
		Priority: string(r.Priority), Input: input, Delivery: r.Delivery, Supersedes: r.Supersedes,
	}
	var row db.StartRunRow
	if r.Queue == "" {
		err = s.do(ctx, action, func(q *db.Queries) (err error) {
			row, err = start(ctx, q, params)
			return err
		})
	} else {
		err = s.inTx(ctx, action, func(q *db.Queries) (err error) {
			row, err = startInLine(ctx, q, params)
			return err
		})
	}
	if row.Created {
		s.published.strike()
	}
	return controlplane.RunID(row.ID), row.Created, err
}

func start(ctx context.Context, q *db.Queries, r db.StartRunParams) (db.StartRunRow, error) {
	row, err := q.StartRun(ctx, r)
	if errors.Is(err, pgx.ErrNoRows) {
		// The first one was committed after this statement had begun.
		var first db.Run
		first, err = q.RunByKey(ctx, r.Key)
		row.ID = first.ID
	}
	return row, err
}

// startInLine gives a run its place in its queue: it ends those that it takes
// the place of, or itself, with its first appearance.
func startInLine(ctx context.Context, q *db.Queries, r db.StartRunParams) (db.StartRunRow, error) {
	if err := q.LockQueue(ctx, r.Queue); err != nil {
		return db.StartRunRow{}, err
	}
	row, err := start(ctx, q, r)
	if err != nil || !row.Created || !r.Supersedes {
		return row, err
	}
	if err := q.SupersedeRuns(ctx, "run "+row.ID+" took its place", row.ID); err != nil {
		return row, err
	}
	return row, q.YieldRun(ctx, row.ID)
}

// Begin marks a run as running. ErrBusy while another of its queue is, or comes
// first; ErrOver if it has ended or was cancelled. Beginning again, after the worker
// has died, changes nothing.
func (s *Store) Begin(ctx context.Context, id controlplane.RunID) error {
	err := s.transition(ctx, "begin", id, "", func(q *db.Queries) (int64, error) { return q.BeginRun(ctx, string(id)) })
	if errors.Is(err, controlplane.ErrConflict) { // the index run_queue
		return fmt.Errorf("begin run %s: another one of its queue runs: %w", id, controlplane.ErrBusy)
	}
	return err
}

// Finish ends a run: succeeded or failed. Saying so again changes nothing;
// ErrOver if it has ended in another way meanwhile.
func (s *Store) Finish(ctx context.Context, id controlplane.RunID, state controlplane.RunState, output []byte, problem string) error {
	if !state.Over() {
		return fmt.Errorf("finish run %s: %w: %q is no end", id, controlplane.ErrInvalid, state)
	}
	result, err := document("the output", output)
	if err != nil {
		return fmt.Errorf("finish run %s: %w", id, err)
	}
	return s.transition(ctx, "finish", id, state, func(q *db.Queries) (int64, error) {
		return q.FinishRun(ctx, db.FinishRunParams{State: string(state), Output: result, Error: clean(problem, maxError), ID: string(id)})
	})
}

// Cancel ends a run that waits or works; ErrOver if it has ended otherwise.
func (s *Store) Cancel(ctx context.Context, id controlplane.RunID, reason string) error {
	return s.transition(ctx, "cancel", id, controlplane.RunCancelled, func(q *db.Queries) (int64, error) {
		return q.CancelRun(ctx, clean(reason, maxError), string(id))
	})
}

// transition explains why no row was changed: the run is not there, over, or not
// the first of its queue.
func (s *Store) transition(ctx context.Context, verb string, id controlplane.RunID, to controlplane.RunState, change func(*db.Queries) (int64, error)) error {
	action := fmt.Sprintf("%s run %s", verb, id)
	if _, err := controlplane.ParseRunID(string(id)); err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	defer s.published.strike()
	return s.do(ctx, action, func(q *db.Queries) error {
		n, err := change(q)
		if err != nil || n > 0 {
			return err
		}
		now, err := q.Run(ctx, string(id))
		switch state := controlplane.RunState(now.State); {
		case err == nil && !state.Over():
			err = fmt.Errorf("another one of its queue comes first: %w", controlplane.ErrBusy)
		case err == nil && state != to:
			err = fmt.Errorf("%w: it is %s", controlplane.ErrOver, state)
		}
		return err
	})
}

// Run is one of them.
func (s *Store) Run(ctx context.Context, id controlplane.RunID) (controlplane.Run, error) {
	action := fmt.Sprintf("look up run %s", id)
	if _, err := controlplane.ParseRunID(string(id)); err != nil {
		return controlplane.Run{}, fmt.Errorf("%s: %w", action, err)
	}
	var row db.Run
	err := s.do(ctx, action, func(q *db.Queries) (err error) {
		row, err = q.Run(ctx, string(id))
		return err
	})
	if err != nil {
		return controlplane.Run{}, err
	}
	return run(row), nil
}

func run(r db.Run) controlplane.Run {
	return controlplane.Run{
		ID: controlplane.RunID(r.ID), Key: r.Key, Kind: controlplane.RunKind(r.Kind), Project: controlplane.Name(r.Project),
		Task: controlplane.Name(r.Task), Queue: r.Queue,
		Delivery: r.Delivery, Supersedes: r.Supersedes, Priority: controlplane.Priority(r.Priority),
		State: controlplane.RunState(r.State), Input: r.Input, Output: r.Output, Error: r.Error,
		Created: r.Created, Started: moment(r.Started), Ended: moment(r.Ended),
	}
}

// RunFilter narrows a list; what is empty does not.
type RunFilter struct {
	Project controlplane.Name
	Task    controlplane.Name
	State   controlplane.RunState
}

// ListRuns returns a page without inputs and outputs, and where the next one
// begins: 0 after the last.
func (s *Store) ListRuns(ctx context.Context, filter RunFilter, page Page) (runs []controlplane.Run, next int64, err error) {
	err = s.do(ctx, "list runs", func(q *db.Queries) error {
		rows, err := q.ListRuns(ctx, db.ListRunsParams{
			Before: page.Before, Project: string(filter.Project), Task: string(filter.Task), State: string(filter.State), MaxRows: page.rows(),
		})
		runs = convert(rows, func(r db.ListRunsRow) controlplane.Run {
			return run(db.Run{
				ID: r.ID, Key: r.Key, Kind: r.Kind, Project: r.Project, Task: r.Task, Queue: r.Queue, Priority: r.Priority,
				State: r.State, Error: r.Error, Created: r.Created, Started: r.Started, Ended: r.Ended,
			})
		})
		if n := len(rows); n > 0 {
			next = page.next(n, rows[n-1].Seq)
		}
		return err
	})
	return runs, next, err
}

// WaitingRuns are some of the runs that were stored before a time, are not over,
// and of which no worker has a step: by id, queue and priority.
func (s *Store) WaitingRuns(ctx context.Context, before time.Time) (runs []controlplane.Run, err error) {
	err = s.do(ctx, "list the runs that wait", func(q *db.Queries) error {
		rows, err := q.WaitingRuns(ctx, before, maxPage)
		runs = convert(rows, func(r db.WaitingRunsRow) controlplane.Run {
			return controlplane.Run{ID: controlplane.RunID(r.ID), Queue: r.Queue, Priority: controlplane.Priority(r.Priority)}
		})
		return err
	})
	return runs, err
}

// Unfinished returns the runs of a task that wait or work, without inputs and
// outputs.
func (s *Store) Unfinished(ctx context.Context, task controlplane.Name) ([]controlplane.Run, error) {
	var found []controlplane.Run
	for _, state := range []controlplane.RunState{controlplane.RunQueued, controlplane.RunRunning} {
		page := Page{Limit: maxPage}
		for more := true; more; more = page.Before != 0 {
			runs, next, err := s.ListRuns(ctx, RunFilter{Task: task, State: state}, page)
			if err != nil {
				return nil, err
			}
			found, page.Before = append(found, runs...), next
		}
	}
	return found, nil
}

// Deployed is the commit of a project's last deploy of all stacks that
// succeeded, empty if there is none.
func (s *Store) Deployed(ctx context.Context, project controlplane.Name) (controlplane.Commit, error) {
	var commit string
	err := s.do(ctx, fmt.Sprintf("look up what is deployed of project %q", project), func(q *db.Queries) (err error) {
		commit, err = q.DeployedCommit(ctx, string(project))
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	return controlplane.Commit(commit), err
}

// PruneRuns removes runs that ended before a time, with their logs, effects and
// artefacts.
func (s *Store) PruneRuns(ctx context.Context, before time.Time) (int64, error) {
	return s.prune(ctx, "prune runs", func(q *db.Queries) (int64, error) { return q.PruneRuns(ctx, &before, pruneBatch) })
}
