// Package worker does the steps of a run: it takes the tree of a commit, has
// skep check, plan and deploy it in a job that dies afterwards, and tells the
// provider what came of it. Every step may be done twice, for the engine
// delivers at least once: what it did is in the store, by run and step.
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"skep/secrets"
	"skep/services/controlplane"
)

// Store is what the worker keeps and reads.
type Store interface {
	Run(ctx context.Context, id controlplane.RunID) (controlplane.Run, error)
	Begin(ctx context.Context, id controlplane.RunID) error
	Finish(ctx context.Context, id controlplane.RunID, state controlplane.RunState, output []byte, problem string) error
	// Once does a step, or returns what it gave when it was done before.
	Once(ctx context.Context, run controlplane.RunID, step string, f func(context.Context) ([]byte, error)) ([]byte, error)
	Project(ctx context.Context, name controlplane.Name) (controlplane.Project, error)
	// Deployed is the commit of the project's last deploy, empty for none.
	Deployed(ctx context.Context, project controlplane.Name) (controlplane.Commit, error)
	AppendLog(ctx context.Context, id controlplane.RunID, lines []controlplane.LogLine) error
	// LastLine is the number of the last line of a run's log, 0 if there is none.
	LastLine(ctx context.Context, id controlplane.RunID) (int, error)
}

// Forges opens the provider of a project.
type Forges interface {
	Forge(ctx context.Context, p controlplane.Provider, integration controlplane.Name) (controlplane.Forge, error)
}

// Starter queues a run; the same key twice is one run.
type Starter interface {
	Start(ctx context.Context, run controlplane.Run) error
}

// Worker does runs.
type Worker struct {
	Store    Store
	Forges   Forges
	Starter  Starter // of what commands ask for
	Launcher Launcher
	// Environment is for jobs that may reach the Swarm: DOCKER_ variables for
	// all of them, the others for those that deploy, as are Secrets.
	Environment map[string]string
	Secrets     map[string]secrets.Value // files in /run/secrets
	URL         string                   // of the control plane, for links to the run in its API; may be empty
	Previews    Previews
	// Tasks and Credentials are for runs of tasks.
	Tasks       Tasks
	Credentials Credentials
	Metrics     *Metrics // nil: nobody asks for them
	Log         *slog.Logger
}

// failure is a run that failed on its own account: another try gives the same.
type failure struct {
	result Result
	err    error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// Handle does a run from its start to its end, or goes on where it was left. An
// error asks for another try; there is none after the last. ErrBusy asks for one
// later, also after the last: somebody else is at the run, or at one before it.
func (w *Worker) Handle(ctx context.Context, id controlplane.RunID, last bool) error {
	run, err := w.Store.Run(ctx, id)
	if errors.Is(err, controlplane.ErrNotFound) {
		w.Log.WarnContext(ctx, "a run is gone", "run", id)
		return nil
	}
	if err != nil {
		return err
	}
	if run.State.Over() {
		return w.reportEnd(ctx, run, Result{})
	}
	// ErrBusy is another run of the queue: the engine comes again.
	if err := w.Store.Begin(ctx, id); errors.Is(err, controlplane.ErrOver) {
		_, err := w.over(ctx, id, Result{})
		return err
	} else if err != nil {
		return err
	}
	about(ctx, run)
	end := w.Metrics.begin(run)
	state, err := w.try(ctx, run, last)
	end(state)
	return err
}

// try does a run, and returns the state that it ended in, or none.
func (w *Worker) try(ctx context.Context, run controlplane.Run, last bool) (controlplane.RunState, error) {
	id, log := run.ID, w.Log.With("run", run.ID, "kind", run.Kind)
	log.InfoContext(ctx, "run begins")
	var result Result
	// A run that makes the worker panic has failed, and the worker goes on.
	err := controlplane.Guard(func() (err error) {
		result, err = w.do(ctx, run, last)
		return err
	})
	var broken *controlplane.Panic
	if errors.As(err, &broken) {
		log.ErrorContext(ctx, "a run made the worker panic", "panic", broken.Kind, "stack", broken.Stack)
	}
	var failed *failure
	state, problem := controlplane.RunSucceeded, ""
	switch {
	case errors.As(err, &failed):
		state, result, problem = controlplane.RunFailed, failed.result, failed.Error()
	case errors.Is(err, controlplane.ErrOver):
		log.InfoContext(ctx, "somebody ended the run", "error", err)
		return w.over(ctx, id, result)
	case ctx.Err() != nil:
		return "", context.Cause(ctx) // the engine gives it to somebody else
	case err != nil && again(err, last):
		log.WarnContext(ctx, "run is tried again", "error", err)
		return "", err
	case err != nil:
		state, problem = controlplane.RunFailed, err.Error()
	}
	log.InfoContext(ctx, "run ends", "state", state, "problem", problem)
	ended(ctx, state)
	output, err := result.encode()
	if err != nil {
		return "", err
	}
	err = w.Store.Finish(ctx, id, state, output, problem)
	if errors.Is(err, controlplane.ErrInvalid) { // it would never end
		log.ErrorContext(ctx, "a run ends without its result, which the store does not take", "error", err)
		err = w.Store.Finish(ctx, id, state, nil, problem)
	}
	if errors.Is(err, controlplane.ErrOver) { // superseded or cancelled meanwhile
		log.InfoContext(ctx, "the run's result is not wanted any more", "error", err)
		return w.over(ctx, id, result)
	}
	if err != nil {
		return "", err
	}
	return state, nil
}

// again says whether a run that came to an error is tried again.
func again(err error, last bool) bool {
	return errors.Is(err, controlplane.ErrBusy) || !last && temporary(err)
}

// temporary says whether another try may end otherwise: all but what the run
// itself is at fault for, or what a provider or a launcher will refuse again. A
// store that is away, above all, fails no run.
func temporary(err error) bool {
	var failed *failure
	var broken *controlplane.Panic
	if errors.As(err, &failed) || errors.As(err, &broken) {
		return false
	}
	if errors.Is(err, errLaunch) && !errors.Is(err, ErrRefused) {
		return true
	}
	for _, final := range []error{ErrRefused, controlplane.ErrNotFound, controlplane.ErrDenied, controlplane.ErrInvalid, controlplane.ErrOver} {
		if errors.Is(err, final) {
			return false
		}
	}
	return true
}

func (w *Worker) do(ctx context.Context, run controlplane.Run, last bool) (Result, error) {
	switch run.Kind {
	case controlplane.RunCheck, controlplane.RunPlan, controlplane.RunDeploy, controlplane.RunPreview, controlplane.RunDestroy, controlplane.RunRotate:
		return w.doProject(ctx, run, last)
	case controlplane.RunCommand:
		return w.doCommand(ctx, run)
	case controlplane.RunTask:
		return w.doTask(ctx, run)
	}
	return Result{}, &failure{err: fmt.Errorf("nothing does runs of the kind %q", run.Kind)}
}

// deadline bounds one attempt at a run.
const deadline = time.Hour
