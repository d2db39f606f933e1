package worker

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"skep/services/controlplane"
)

// A run that makes the worker panic has failed: the commit hears of it, the log
// says where it was, and nobody reads what was panicked with.
func TestPanic(t *testing.T) {
	const problem = "a fault of Skep's own: it panicked (string), and the log of its process says where"
	var log bytes.Buffer
	said := slog.New(slog.NewTextHandler(&log, nil))

	w := newWorld(controlplane.RunDeploy, push())
	w.panics = "deploy"
	worker := w.worker()
	worker.Log = said
	if err := worker.Handle(t.Context(), w.run.ID, false); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(w.finished, []string{"failed: " + problem}) || !w.result.Changes && w.result.Summary == "" {
		t.Errorf("finished %q with %+v", w.finished, w.result)
	}
	if got := w.states(); !slices.Equal(got, []string{"pending under way", "error " + problem}) {
		t.Errorf("reports %q", got)
	}

	s := newTaskStore(&controlplane.TaskSpec{Retries: controlplane.Retries{Max: 3}})
	of := s.worker(func(_ context.Context, j Job) (Exit, error) { return Exit{Code: len(j.Command[j.Attempt])}, nil })
	of.Log = said
	if err := of.Handle(t.Context(), s.run.ID, false); err != nil {
		t.Fatal(err)
	}
	if s.run.State != controlplane.RunFailed || !strings.Contains(s.run.Error, "it panicked (runtime error: index out of range [1] with length 0)") {
		t.Errorf("the task is %s: %s", s.run.State, s.run.Error)
	}
	if text := log.String(); strings.Contains(text, "planted") || strings.Count(text, "panic_test.go") == 0 || strings.Count(text, "harness_test.go") == 0 {
		t.Errorf("the log is\n%s", text)
	}
}
