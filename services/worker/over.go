package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"skep/services/controlplane"
)

// watchTime is between two looks at whether a run was ended.
const watchTime = 2 * time.Second

// untilOver ends a context when somebody ends the run in a state that ends it.
func (w *Worker) untilOver(ctx context.Context, id controlplane.RunID, ends func(controlplane.RunState) bool) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		tick := time.NewTicker(watchTime)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if run, err := w.Store.Run(ctx, id); err == nil && run.State.Over() && ends(run.State) {
					cancel(fmt.Errorf("%w: run %s is %s", controlplane.ErrOver, id, run.State))
				}
			}
		}
	})
	return ctx, func() {
		cancel(nil)
		watch.Wait()
	}
}

// changing are the steps that change the Swarm. A run that is superseded ends
// them, as what takes its place comes after it; a cancelled one takes back what
// is not done, and has undoTime for it.
var changing = []string{"deploy", "rollback", "preview", "rotate", "destroy"}

const undoTime = 5 * time.Minute

// Changes says whether a step changes the Swarm.
func Changes(step string) bool { return slices.Contains(changing, step) }

// ends says whether the end of its run, by somebody else, ends the attempt now.
func (a *attempt) ends(s controlplane.RunState) bool {
	return s != controlplane.RunSuperseded || !a.changing.Load()
}

// begin and end are around a step.
func (a *attempt) begin(j *Job) (end func()) {
	if !Changes(j.Step) {
		return func() {}
	}
	j.Grace = undoTime
	a.changing.Store(true)
	return func() { a.changing.Store(false) }
}

// over says of a run that somebody ended what became of it, and returns how it
// was ended.
func (w *Worker) over(ctx context.Context, id controlplane.RunID, done Result) (controlplane.RunState, error) {
	run, err := w.Store.Run(ctx, id)
	if err != nil {
		return "", err
	}
	return run.State, w.reportEnd(ctx, run, done)
}

// reportEnd tells the commit and the pull request of a run that a newer one took
// its place, or that it was cancelled. It does so once: a later run of the same
// commit has the word then.
func (w *Worker) reportEnd(ctx context.Context, run controlplane.Run, done Result) error {
	ended := run.State == controlplane.RunSuperseded || run.State == controlplane.RunCancelled
	if !ended || run.Project == "" || run.Kind == controlplane.RunCommand {
		return nil
	}
	_, err := w.Store.Once(ctx, run.ID, "said", func(ctx context.Context) ([]byte, error) {
		a, err := w.attempt(ctx, run)
		if err != nil {
			return nil, err
		}
		unknown := func(context.Context) ([]byte, error) { return nil, errUnknown }
		if err := a.recall(ctx, unknown); errors.Is(err, errUnknown) {
			return []byte("{}"), nil // no commit heard that it began
		} else if err != nil {
			return nil, err
		}
		a.result = done
		return []byte("{}"), a.announceEnd(ctx)
	})
	var failed *failure
	if errors.As(err, &failed) { // there is nobody to tell
		w.Log.WarnContext(ctx, "nobody hears of the end of a run", "run", run.ID, "error", failed)
		return nil
	}
	return err
}

func (a *attempt) announceEnd(ctx context.Context) error {
	if a.run.State == controlplane.RunSuperseded {
		state := controlplane.DeploymentGone
		if a.result.Deployed {
			state = controlplane.DeploymentDone
		}
		a.deployed(ctx, state, "a newer commit took its place", "")
		return a.report(ctx, controlplane.Report{State: controlplane.ReportSuperseded, Title: "a newer commit took its place"})
	}
	r := controlplane.Report{State: controlplane.ReportCancelled, Title: oneLine(a.run.Error), Annotations: a.annotations()}
	if r.Title == "" {
		r.Title = "cancelled"
	}
	switch {
	case a.result.Deployed:
		r.Title += ", when it was deployed already"
	case a.result.Stopped:
		r.Title += " while it deployed: stacks that were not done go back to what they were, as the run's log says"
	}
	return a.announce(ctx, a.run.Kind, r)
}
