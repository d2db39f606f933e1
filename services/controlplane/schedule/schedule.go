package schedule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"skep/services/controlplane"
)

// Store keeps schedules, tasks and runs.
type Store interface {
	DueSchedules(ctx context.Context, limit int) ([]controlplane.Schedule, error)
	Schedule(ctx context.Context, name controlplane.Name) (controlplane.Schedule, error)
	// AdvanceSchedule moves a schedule on unless somebody else has.
	AdvanceSchedule(ctx context.Context, name controlplane.Name, was, next time.Time) (moved bool, err error)
	Task(ctx context.Context, name controlplane.Name) (controlplane.Task, error)
	Project(ctx context.Context, name controlplane.Name) (controlplane.Project, error)
	// Start stores a run; the same key never makes a second one.
	Start(ctx context.Context, r controlplane.Run) (id controlplane.RunID, created bool, err error)
	// Unfinished are the runs of a task that wait or work, without inputs.
	Unfinished(ctx context.Context, task controlplane.Name) ([]controlplane.Run, error)
	Cancel(ctx context.Context, id controlplane.RunID, reason string) error
}

// Starter hands a stored run to the engine. The same run twice is one.
type Starter interface {
	Start(context.Context, controlplane.Run) error
}

// Scheduler is one of any number that share a store.
type Scheduler struct {
	Store   Store
	Starter Starter
	Log     *slog.Logger
}

const (
	// pollTime is how late a run may be. Cron counts minutes.
	pollTime = 5 * time.Second
	// startTime bounds one schedule's turn, for the engine may be away.
	startTime = 10 * time.Second
	batch     = 100
)

// Run starts what is due, until ctx ends.
func (s *Scheduler) Run(ctx context.Context) error {
	tick := time.NewTicker(pollTime)
	defer tick.Stop()
	for {
		if err := s.Tick(ctx); err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "not all that is due was started; it is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Tick starts what is due now. A schedule that fails holds up no other.
func (s *Scheduler) Tick(ctx context.Context) error {
	due, err := s.Store.DueSchedules(ctx, batch)
	if err != nil {
		return err
	}
	for _, d := range due {
		turn, cancel := context.WithTimeout(ctx, startTime)
		if e := s.start(turn, d); e != nil {
			err = errors.Join(err, fmt.Errorf("schedule %s: %w", d.Name, e))
		}
		cancel()
	}
	return err
}

// start does one schedule's turn. The run is stored first, under a key of the
// schedule and the time, then handed on, and the schedule moved last: whoever
// dies in between leaves a turn that is done again and starts nothing twice.
func (s *Scheduler) start(ctx context.Context, d controlplane.Schedule) error {
	// What was listed may be old by now.
	now, err := s.Store.Schedule(ctx, d.Name)
	if errors.Is(err, controlplane.ErrNotFound) || err == nil && (now.Paused || !now.Next.Equal(d.Next)) {
		return nil
	}
	if err != nil {
		return err
	}
	next, err := following(now, time.Now())
	if err != nil {
		return err
	}
	run, err := s.run(ctx, now)
	if errors.Is(err, errNoProject) {
		s.Log.ErrorContext(ctx, "a schedule skips a time", "schedule", now.Name, "due", now.Next, "error", err)
		_, err = s.Store.AdvanceSchedule(ctx, now.Name, now.Next, next)
	}
	if err != nil || run.Key == "" {
		return err
	}
	before, err := s.unfinished(ctx, now, run.Key)
	if err != nil {
		return err
	}
	if len(before) > 0 && now.Overlap == controlplane.OverlapSkip {
		s.Log.InfoContext(ctx, "a schedule skips a time, as its last run goes on", "schedule", now.Name, "due", now.Next, "run", before[0].ID)
	} else if err := s.begin(ctx, now, run, before); err != nil {
		return err
	}
	_, err = s.Store.AdvanceSchedule(ctx, now.Name, now.Next, next)
	return err
}

var errNoProject = errors.New("the task's project is gone")

// run is what a schedule starts.
func (s *Scheduler) run(ctx context.Context, d controlplane.Schedule) (controlplane.Run, error) {
	task, err := s.Store.Task(ctx, d.Task)
	if err != nil {
		return controlplane.Run{}, err
	}
	var project controlplane.Project
	if task.Builtin != nil {
		project, err = s.Store.Project(ctx, task.Builtin.Project)
		if errors.Is(err, controlplane.ErrNotFound) {
			return controlplane.Run{}, fmt.Errorf("%w: %s", errNoProject, task.Builtin.Project)
		}
		if err != nil {
			return controlplane.Run{}, err
		}
	}
	run, err := task.Run(controlplane.TaskInput{Schedule: d.Name, Due: d.Next}, project)
	run.Key = key(d, d.Next)
	if run.Queue == "" && d.Overlap != controlplane.OverlapSkip {
		run.Queue = prefix(d.Name) // one at a time
	}
	return run, err
}

// begin starts a run, and ends those that it replaces.
func (s *Scheduler) begin(ctx context.Context, d controlplane.Schedule, run controlplane.Run, before []controlplane.Run) error {
	id, created, err := s.Store.Start(ctx, run)
	if err != nil {
		return err
	}
	run.ID = id
	if d.Overlap == controlplane.OverlapReplace {
		for _, b := range before {
			err := s.Store.Cancel(ctx, b.ID, "run "+string(id)+" of the same schedule took its place")
			if err != nil && !errors.Is(err, controlplane.ErrOver) {
				return err
			}
		}
	}
	if created {
		s.Log.InfoContext(ctx, "a schedule starts a run", "schedule", d.Name, "task", d.Task, "due", d.Next, "run", id)
	}
	return s.Starter.Start(ctx, run)
}

// unfinished are earlier runs of a schedule that are not over.
func (s *Scheduler) unfinished(ctx context.Context, d controlplane.Schedule, own string) ([]controlplane.Run, error) {
	if d.Overlap == controlplane.OverlapQueue {
		return nil, nil
	}
	all, err := s.Store.Unfinished(ctx, d.Task)
	if err != nil {
		return nil, err
	}
	var before []controlplane.Run
	for _, r := range all {
		if due, ok := dueOf(d.Name, r.Key); ok && r.Key != own && due.Before(d.Next) {
			before = append(before, r)
		}
	}
	return before, nil
}

// following is when a schedule is due after now: times that were missed are
// made up for by one run.
func following(d controlplane.Schedule, now time.Time) (time.Time, error) {
	if d.Cron == "" {
		return time.Time{}, nil
	}
	times, err := Parse(d.Cron, d.Zone)
	if err != nil {
		return time.Time{}, err
	}
	return times.Next(now), nil
}

func prefix(name controlplane.Name) string { return "schedule/" + string(name) }

// key is that of the run which a schedule starts for a time.
func key(d controlplane.Schedule, due time.Time) string {
	return prefix(d.Name) + "/" + due.UTC().Format(time.RFC3339Nano)
}

func dueOf(name controlplane.Name, key string) (time.Time, bool) {
	start := prefix(name) + "/"
	if len(key) <= len(start) || key[:len(start)] != start {
		return time.Time{}, false
	}
	due, err := time.Parse(time.RFC3339Nano, key[len(start):])
	return due, err == nil
}
