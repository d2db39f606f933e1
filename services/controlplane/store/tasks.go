package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"skep/services/controlplane"
	"skep/services/controlplane/store/internal/db"
)

// PutTask creates a task or replaces it.
func (s *Store) PutTask(ctx context.Context, t controlplane.Task) (controlplane.Task, error) {
	action := fmt.Sprintf("put task %q", t.Name)
	if t.Priority == "" {
		t.Priority = controlplane.Normal
	}
	raw, err := encode(t.TaskSpec)
	err = errors.Join(err, checkName(t.Name), checkMap("inputs", t.Inputs, 1000, maxLine))
	for _, word := range append([]string{t.Image}, t.Command...) {
		err = errors.Join(err, check(text{"a word of the command", word, maxLine}))
	}
	if err == nil {
		_, err = document("the task", raw)
	}
	if err != nil {
		return controlplane.Task{}, fmt.Errorf("%s: %w", action, err)
	}
	var stored controlplane.Task
	err = s.do(ctx, action, func(q *db.Queries) error {
		row, err := q.PutTask(ctx, string(t.Name), string(t.Priority), raw)
		if err != nil {
			return err
		}
		stored, err = task(row)
		return err
	})
	return stored, err
}

func task(r db.Task) (controlplane.Task, error) {
	t := controlplane.Task{
		ID: r.ID, Name: controlplane.Name(r.Name), Priority: controlplane.Priority(r.Priority), Created: r.Created, Updated: r.Updated,
	}
	if err := json.Unmarshal(r.Spec, &t.TaskSpec); err != nil {
		return controlplane.Task{}, fmt.Errorf("the specification of task %q: %w", r.Name, err)
	}
	return t, nil
}

// Task is one of them.
func (s *Store) Task(ctx context.Context, name controlplane.Name) (controlplane.Task, error) {
	var found controlplane.Task
	err := s.do(ctx, fmt.Sprintf("look up task %q", name), func(q *db.Queries) error {
		row, err := q.Task(ctx, string(name))
		if err != nil {
			return err
		}
		found, err = task(row)
		return err
	})
	return found, err
}

// ListTasks returns tasks by name, those after one if it is named.
func (s *Store) ListTasks(ctx context.Context, after controlplane.Name, limit int) ([]controlplane.Task, error) {
	var found []controlplane.Task
	err := s.do(ctx, "list tasks", func(q *db.Queries) error {
		rows, err := q.ListTasks(ctx, string(after), Page{Limit: limit}.rows())
		if err != nil {
			return err
		}
		found = make([]controlplane.Task, 0, len(rows))
		for _, r := range rows {
			t, err := task(r)
			if err != nil {
				return err
			}
			found = append(found, t)
		}
		return nil
	})
	return found, err
}

// DeleteTask removes a task; ErrConflict while schedules start it.
func (s *Store) DeleteTask(ctx context.Context, name controlplane.Name) error {
	return s.do(ctx, fmt.Sprintf("delete task %q", name), func(q *db.Queries) error { return one(q.DeleteTask(ctx, string(name))) })
}

// PutSchedule creates a schedule or replaces it. Next is the caller's to work
// out; Last is kept.
func (s *Store) PutSchedule(ctx context.Context, in controlplane.Schedule) (controlplane.Schedule, error) {
	action := fmt.Sprintf("put schedule %q", in.Name)
	if in.Zone == "" {
		in.Zone = "UTC"
	}
	if in.Overlap == "" {
		in.Overlap = controlplane.OverlapSkip
	}
	err := errors.Join(checkName(in.Name), checkName(in.Task), check(text{"the cron expression", in.Cron, 200}, text{"the zone", in.Zone, 100}))
	if err != nil {
		return controlplane.Schedule{}, fmt.Errorf("%s: %w", action, err)
	}
	var row db.Schedule
	err = s.do(ctx, action, func(q *db.Queries) (err error) {
		row, err = q.PutSchedule(ctx, db.PutScheduleParams{
			Name: string(in.Name), Task: string(in.Task), Cron: in.Cron, Zone: in.Zone, Overlap: string(in.Overlap),
			Paused: in.Paused, Next: column(in.Next),
		})
		return err
	})
	if err != nil {
		return controlplane.Schedule{}, err
	}
	return schedule(row), nil
}

func schedule(r db.Schedule) controlplane.Schedule {
	return controlplane.Schedule{
		ID: r.ID, Name: controlplane.Name(r.Name), Task: controlplane.Name(r.Task), Cron: r.Cron, Zone: r.Zone,
		Overlap: controlplane.OverlapPolicy(r.Overlap), Paused: r.Paused, Next: moment(r.Next), Last: moment(r.Last), Created: r.Created,
	}
}

// Schedule is one of them.
func (s *Store) Schedule(ctx context.Context, name controlplane.Name) (controlplane.Schedule, error) {
	var row db.Schedule
	err := s.do(ctx, fmt.Sprintf("look up schedule %q", name), func(q *db.Queries) (err error) {
		row, err = q.Schedule(ctx, string(name))
		return err
	})
	if err != nil {
		return controlplane.Schedule{}, err
	}
	return schedule(row), nil
}

// ListSchedules returns schedules by name, those after one if it is named.
func (s *Store) ListSchedules(ctx context.Context, after controlplane.Name, limit int) (found []controlplane.Schedule, err error) {
	err = s.do(ctx, "list schedules", func(q *db.Queries) error {
		rows, err := q.ListSchedules(ctx, string(after), Page{Limit: limit}.rows())
		found = convert(rows, schedule)
		return err
	})
	return found, err
}

// DueSchedules returns those whose time has come, the longest first.
func (s *Store) DueSchedules(ctx context.Context, limit int) (due []controlplane.Schedule, err error) {
	err = s.do(ctx, "list due schedules", func(q *db.Queries) error {
		rows, err := q.DueSchedules(ctx, Page{Limit: limit}.rows())
		due = convert(rows, schedule)
		return err
	})
	return due, err
}

// AdvanceSchedule moves a schedule on from the time that was due; a zero time
// ends it. Of several servers that try, one succeeds. Start the run first,
// under a key of schedule and time: then a crash in between loses nothing.
func (s *Store) AdvanceSchedule(ctx context.Context, name controlplane.Name, was, next time.Time) (moved bool, err error) {
	err = s.do(ctx, fmt.Sprintf("advance schedule %q", name), func(q *db.Queries) error {
		n, err := q.AdvanceSchedule(ctx, column(next), string(name), column(was))
		moved = n > 0
		return err
	})
	return moved, err
}

// DeleteSchedule removes a schedule.
func (s *Store) DeleteSchedule(ctx context.Context, name controlplane.Name) error {
	return s.do(ctx, fmt.Sprintf("delete schedule %q", name), func(q *db.Queries) error { return one(q.DeleteSchedule(ctx, string(name))) })
}
