package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/worker/artefact"
)

// Tasks keeps tasks, and the files that their runs leave behind.
type Tasks interface {
	Task(ctx context.Context, name controlplane.Name) (controlplane.Task, error)
	Delivery(ctx context.Context, id int64) (controlplane.Delivery, error)
	// PutArtefact is ErrInvalid beyond what a run may leave.
	PutArtefact(ctx context.Context, id controlplane.RunID, name, media string, content []byte) error
}

// Credentials are the values of integrations, by the names of their fields.
// They are wiped when use returns.
type Credentials interface {
	Credentials(ctx context.Context, provider controlplane.Provider, name controlplane.Name, use func(map[string]secrets.Value) error) error
}

const (
	maxAttempts   = 50 // of a task, each with lines of its own
	firstBackoff  = 10 * time.Second
	longestBack   = time.Hour
	maxCredential = 64
)

// taskStep is the one of a task's jobs.
const taskStep = "task"

// task is a run of one.
type task struct {
	w     *Worker
	run   controlplane.Run
	input controlplane.TaskInput
	spec  controlplane.TaskSpec
}

// doTask tries a task until an attempt succeeds or all have failed. What came
// of an attempt is recorded, so that another worker goes on with the next.
func (w *Worker) doTask(ctx context.Context, run controlplane.Run) (Result, error) {
	if w.Tasks == nil || w.Credentials == nil {
		return Result{}, &failure{err: errors.New("this worker runs no tasks")}
	}
	ctx, stop := w.untilOver(ctx, run.ID, controlplane.RunState.Over)
	defer stop()
	t := &task{w: w, run: run}
	if err := t.define(ctx); err != nil {
		return Result{}, err
	}
	most := 1 + min(max(t.spec.Retries.Max, 0), maxAttempts-1)
	var last tried
	for n := 1; n <= most; n++ {
		if err := t.wait(ctx, n, last); err != nil {
			return Result{}, err
		}
		recorded, err := w.Store.Once(ctx, run.ID, fmt.Sprintf("attempt/%d", n), func(ctx context.Context) ([]byte, error) {
			done, err := t.try(ctx, n)
			if err != nil {
				return nil, err
			}
			return json.Marshal(done)
		})
		if cause := context.Cause(ctx); cause != nil {
			return Result{}, cause
		}
		if err != nil {
			return Result{}, fmt.Errorf("%w: attempt %d: %w", errLaunch, n, err)
		}
		last = tried{}
		if err := json.Unmarshal(recorded, &last); err != nil {
			return Result{}, fmt.Errorf("read what came of attempt %d: %w", n, err)
		}
		if last.Problem == "" {
			return Result{Summary: "done" + nth(n, most)}, nil
		}
		if last.Final {
			most = n
		}
	}
	summary := last.Problem + nth(most, most)
	return Result{}, &failure{result: Result{Summary: summary}, err: errors.New(summary)}
}

func nth(n, most int) string {
	if most == 1 {
		return ""
	}
	return fmt.Sprintf(", attempt %d of %d", n, most)
}

// tried is what came of an attempt.
type tried struct {
	Problem string    `json:"problem,omitempty"`
	Final   bool      `json:"final,omitempty"` // another attempt gives the same
	Ended   time.Time `json:"ended"`
}

// define takes the task as it is when the run begins, for all attempts.
func (t *task) define(ctx context.Context) error {
	var missing error
	spec, err := t.w.Store.Once(ctx, t.run.ID, "task", func(ctx context.Context) ([]byte, error) {
		found, err := t.w.Tasks.Task(ctx, t.run.Task)
		if errors.Is(err, controlplane.ErrNotFound) {
			missing = &failure{err: fmt.Errorf("task %s is gone", t.run.Task)}
		}
		if err != nil {
			return nil, err
		}
		return json.Marshal(found.TaskSpec)
	})
	if missing != nil {
		return missing
	}
	if err != nil {
		return fmt.Errorf("%w: look up task %s: %w", errLaunch, t.run.Task, err)
	}
	if err := json.Unmarshal(spec, &t.spec); err != nil {
		return &failure{err: fmt.Errorf("read task %s: %w", t.run.Task, err)}
	}
	if len(t.run.Input) > 0 {
		if err := json.Unmarshal(t.run.Input, &t.input); err != nil {
			return &failure{err: fmt.Errorf("read the run's input: %w", err)}
		}
	}
	inputs := maps.Clone(t.spec.Inputs)
	for name, value := range t.input.Inputs {
		if _, declared := inputs[name]; declared {
			inputs[name] = value
		}
	}
	t.spec.Inputs = inputs
	return nil
}

// wait lets the time pass that follows an attempt which failed: twice as much
// each time.
func (t *task) wait(ctx context.Context, n int, last tried) error {
	if n == 1 {
		return nil
	}
	pause := t.spec.Retries.Backoff
	if pause <= 0 {
		pause = firstBackoff
	}
	for range n - 2 {
		pause = min(2*pause, longestBack)
	}
	timer := time.NewTimer(time.Until(last.Ended.Add(min(pause, longestBack))))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// try runs the task's job once. An error says that nothing came of it.
func (t *task) try(ctx context.Context, n int) (done tried, err error) {
	dir, err := os.MkdirTemp("", "skep-task-")
	if err != nil {
		return tried{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Mkdir(filepath.Join(dir, artefact.Folder), 0o755); err != nil {
		return tried{}, err
	}
	files, wipe, err := t.credentials(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return tried{}, err
		}
		return tried{Problem: err.Error(), Final: errors.Is(err, controlplane.ErrNotFound), Ended: time.Now()}, nil
	}
	defer wipe()
	event, err := t.delivered(ctx)
	if err != nil {
		return tried{}, err
	}
	said, err := t.w.lines(ctx, t.run.ID, (n-1)*maxLines)
	if err != nil {
		return tried{}, err
	}
	j := Job{
		Run: t.run.ID, Step: taskStep, Attempt: n, Tree: dir, Image: t.spec.Image, Command: t.spec.Command, Env: t.spec.Inputs,
		Secrets: files, Files: event, Limits: t.spec.Limits, Deadline: t.spec.Deadline, Artefacts: true,
	}
	if j.Deadline <= 0 {
		j.Deadline = deadline
	}
	exit, err := t.w.launch(ctx, j, said)
	switch {
	case ctx.Err() != nil:
		return tried{}, errors.Join(context.Cause(ctx), said.finish(ctx))
	case err != nil:
		return tried{Problem: oneLine(fmt.Sprintf("%v: %v", errLaunch, err)), Final: errors.Is(err, ErrRefused), Ended: time.Now()}, said.flush(ctx)
	}
	if err := t.keep(ctx, dir, files, said); err != nil {
		return tried{}, err
	}
	return tried{Problem: problem(exit, said), Ended: time.Now()}, said.flush(ctx)
}

func problem(exit Exit, said *lines) string {
	switch {
	case exit.Killed != "":
		return exit.Killed
	case exit.Code == 0:
		return ""
	}
	why := fmt.Sprintf("exit code %d", exit.Code)
	if last := said.last(); last != "" {
		why += ": " + last
	}
	return why
}

// credentials are the files that the task named, and what wipes them.
func (t *task) credentials(ctx context.Context) (files map[string]secrets.Value, wipe func(), err error) {
	files = map[string]secrets.Value{}
	wipe = func() {
		for _, v := range files {
			v.Wipe()
		}
	}
	for _, c := range t.spec.Credentials {
		err := t.w.Credentials.Credentials(ctx, c.Provider, c.Name, func(values map[string]secrets.Value) error {
			for field, value := range maps.All(values) {
				own, err := value.Clone() // values are wiped when this returns
				if err != nil {
					return err
				}
				files[fmt.Sprintf("%s-%s-%s", c.Provider, c.Name, field)] = own
			}
			return nil
		})
		if err == nil && len(files) > maxCredential {
			err = fmt.Errorf("%w: more than %d of them", controlplane.ErrInvalid, maxCredential)
		}
		if err != nil {
			wipe()
			return nil, nil, fmt.Errorf("credentials of %s/%s: %w", c.Provider, c.Name, err)
		}
	}
	return files, wipe, nil
}
