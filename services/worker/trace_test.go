package worker

import (
	"context"
	"log/slog"
	"testing"

	"go.opentelemetry.io/otel/trace"
)

// A task goes on with the trace of its run; jobs that send no spans are not told.
func TestTaskHasTrace(t *testing.T) {
	of := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled})
	traced := trace.ContextWithSpanContext(t.Context(), of)
	const parent = "00-01000000000000000000000000000000-0200000000000000-01"
	for name, c := range map[string]struct {
		ctx  context.Context
		step string
		want string
	}{
		"a task":              {traced, taskStep, parent},
		"a task, not traced":  {t.Context(), taskStep, ""},
		"a step of a project": {traced, "deploy", ""},
	} {
		var got map[string]string
		w := &Worker{Log: slog.New(slog.DiscardHandler), Launcher: launcherFunc(func(_ context.Context, j Job) (Exit, error) {
			got = j.Env
			return Exit{}, nil
		})}
		inputs := map[string]string{"INPUT": "1"}
		if _, err := w.launch(c.ctx, Job{Step: c.step, Env: inputs}, &lines{}); err != nil {
			t.Fatal(err)
		}
		if got["TRACEPARENT"] != c.want || got["INPUT"] != "1" || len(inputs) != 1 {
			t.Errorf("%s gets %q", name, got)
		}
	}
}
