package worker

import (
	"errors"
	"slices"
	"testing"

	"skep/services/controlplane"
)

// A deploy that ended is not done again by who takes over, in whatever way it
// ended; what comes before it is.
func TestDeployOnce(t *testing.T) {
	for _, code := range []int{0, 1} {
		w := newWorld(controlplane.RunDeploy, push())
		w.exits["deploy"] = Exit{Code: code}
		for range 2 {
			if err := w.handle(t); err != nil {
				t.Fatal(err)
			}
		}
		want := []string{"check", "secrets", "plan", "deploy", "check", "secrets", "plan"}
		if got := w.steps(); !slices.Equal(got, want) || w.finished[0] != w.finished[1] {
			t.Errorf("steps %q, finished %q", got, w.finished)
		}
	}
}

// What is away for a while fails no run before the last try, and then the
// commit hears of it. What somebody else does fails none.
func TestTriedAgain(t *testing.T) {
	for name, err := range map[string]error{"busy": controlplane.ErrBusy, "away": errors.New("connection refused")} {
		w := newWorld(controlplane.RunDeploy, push())
		w.onceError = err
		if got := w.handle(t); !errors.Is(got, err) || len(w.finished) != 0 || len(w.reports) != 1 {
			t.Errorf("%s: got %v, finished %q, reports %q", name, got, w.finished, w.states())
		}
		w.last = true
		if name == "busy" {
			if got := w.handle(t); !errors.Is(got, err) || len(w.finished) != 0 {
				t.Errorf("busy, the last time: got %v, finished %q", got, w.finished)
			}
			continue
		}
		if got := w.handle(t); got != nil || len(w.finished) != 1 || w.reports[len(w.reports)-1].State != controlplane.ReportError {
			t.Errorf("%s, the last time: got %v, finished %q, reports %q", name, got, w.finished, w.states())
		}
	}
}
