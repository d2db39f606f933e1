package worker

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"skep/services/controlplane"
)

// ending is a world in which somebody ends the run at a step.
type ending struct {
	*world
	mu    sync.Mutex
	state controlplane.RunState // zero: as the world has it
	at    string
	to    controlplane.RunState
	grace time.Duration // that the job got
}

func (e *ending) Run(context.Context, controlplane.RunID) (controlplane.Run, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	run := e.run
	if e.state != "" {
		run.State, run.Error = e.state, "cancelled by token/ann"
	}
	return run, nil
}

func (e *ending) Finish(ctx context.Context, id controlplane.RunID, s controlplane.RunState, output []byte, problem string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state != "" {
		return fmt.Errorf("finish: %w", controlplane.ErrOver)
	}
	return e.world.Finish(ctx, id, s, output, problem)
}

// Launch runs a job for a minute of a clock that is not the machine's.
func (e *ending) Launch(ctx context.Context, j Job) (Exit, error) {
	if j.Step != e.at {
		return e.world.Launch(ctx, j)
	}
	e.grace = j.Grace
	e.mu.Lock()
	e.state = e.to
	e.mu.Unlock()
	select {
	case <-ctx.Done():
		return Exit{}, context.Cause(ctx)
	case <-time.After(time.Minute):
		return e.world.Launch(ctx, j)
	}
}

// A run that somebody ends stops at once, or where it is safe to, and its
// commit hears of it, once.
func TestEnded(t *testing.T) {
	for name, test := range map[string]struct {
		kind  controlplane.RunKind
		at    string
		to    controlplane.RunState
		steps []string // that came to their end
		last  string   // the last report
		grace time.Duration
	}{
		"a plan is cancelled":     {controlplane.RunPlan, "plan", controlplane.RunCancelled, []string{"check", "lock"}, "cancelled cancelled by token/ann", 0},
		"a check is superseded":   {controlplane.RunCheck, "check", controlplane.RunSuperseded, nil, "superseded a newer commit took its place", 0},
		"a sync is superseded":    {controlplane.RunDeploy, "secrets", controlplane.RunSuperseded, []string{"check"}, "superseded a newer commit took its place", 0},
		"a deploy is superseded":  {controlplane.RunDeploy, "deploy", controlplane.RunSuperseded, []string{"check", "secrets", "plan", "deploy"}, "superseded a newer commit took its place", undoTime},
		"a preview is cancelled":  {controlplane.RunPreview, "preview", controlplane.RunCancelled, []string{"check"}, "cancelled cancelled by token/ann while it deployed", undoTime},
		"a deploy is cancelled":   {controlplane.RunDeploy, "deploy", controlplane.RunCancelled, []string{"check", "secrets", "plan"}, "cancelled cancelled by token/ann while it deployed", undoTime},
		"a plan before its steps": {controlplane.RunDeploy, "check", controlplane.RunCancelled, nil, "cancelled cancelled by token/ann", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &ending{world: newWorld(test.kind, pull(false)), at: test.at, to: test.to}
				e.project.Previews = controlplane.Previews{Enabled: true}
				w := &Worker{
					Store: e, Previews: e, Forges: e, Starter: e, Launcher: e, Log: slog.New(slog.DiscardHandler),
					Environment: map[string]string{"OP_CONNECT_HOST": "http://c"},
				}
				for range 2 { // the engine comes twice
					if err := w.Handle(t.Context(), e.run.ID, false); err != nil {
						t.Fatal(err)
					}
				}
				if got := e.steps(); !slices.Equal(got, test.steps) || e.grace != test.grace {
					t.Errorf("steps %q, want %q; the last had %v to end", got, test.steps, e.grace)
				}
				got := e.states()
				if len(got) != 2 || !strings.HasPrefix(got[1], test.last) || strings.Contains(got[1], "while") != (test.grace > 0 && test.to == controlplane.RunCancelled) {
					t.Errorf("reports %q", got)
				}
				said := strings.Join([]string{e.comments["plan/home"], e.comments["preview/home"]}, "")
				if strings.Contains(said, "cancelled by token/ann") != (test.to == controlplane.RunCancelled) {
					t.Errorf("the comment is %q", said)
				}
			})
		})
	}
}

// A run that never began says so as well.
func TestCancelledBefore(t *testing.T) {
	w := newWorld(controlplane.RunPlan, pull(false))
	w.run.State, w.run.Error = controlplane.RunCancelled, "cancelled by token/ann"
	for range 2 {
		if err := w.handle(t); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.states(); !slices.Equal(got, []string{"cancelled cancelled by token/ann"}) || len(w.jobs) != 0 || !strings.Contains(w.comments["plan/home"], "cancelled by") {
		t.Errorf("reports %q, jobs %q, comments %q", got, w.steps(), w.comments)
	}
}
