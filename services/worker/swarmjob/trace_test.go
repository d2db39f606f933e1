package swarmjob

import (
	"bytes"
	"io"
	"log/slog"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"skep/services/worker"
	"skep/services/worker/postscript"
)

// The trace of a job goes on in its container, by what that hands back.
func TestPhasesInContainer(t *testing.T) {
	recorded := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(recorded))
	ctx, job := provider.Tracer("test").Start(t.Context(), "deploy")
	p, err := newPlan(Launcher{Image: "skep:1"}, worker.Job{
		Run: "01234567-89ab-7def-8123-456789abcdef", Step: "deploy", Tree: t.TempDir(), Command: []string{"skep", "deploy"},
		Output: func(stream, line string) { t.Errorf("%s: %s", stream, line) },
	}, "launch")
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, c := range map[string]struct {
		note postscript.Note
		want map[string]time.Duration
	}{
		"both":            {postscript.Note{Begun: begun, Ready: begun.Add(time.Second), Ended: begun.Add(time.Minute)}, map[string]time.Duration{"unpack tree": time.Second, "command": 59 * time.Second}},
		"back in time":    {postscript.Note{Begun: begun, Ready: begun.Add(-time.Hour), Ended: begun}, map[string]time.Duration{"command": time.Hour}},
		"nothing is said": {postscript.Note{}, map[string]time.Duration{}},
	} {
		recorded.Reset()
		var said bytes.Buffer
		if err := postscript.Write(&said, p.key.Token(), "", c.note); err != nil {
			t.Fatal(err)
		}
		post := postscript.NewSplitter(p.key, io.Discard)
		if _, err := post.Write(said.Bytes()); err != nil {
			t.Fatal(err)
		}
		if _, err := (Launcher{Log: slog.New(slog.DiscardHandler)}).take(ctx, p, post, worker.Exit{}); err != nil {
			t.Fatal(err)
		}
		spans := recorded.GetSpans()
		for _, s := range spans {
			if took, ok := c.want[s.Name]; !ok || s.EndTime.Sub(s.StartTime) != took || s.Parent.SpanID() != job.SpanContext().SpanID() {
				t.Errorf("%s: a span %s of %v", name, s.Name, s.EndTime.Sub(s.StartTime))
			}
		}
		if len(spans) != len(c.want) {
			t.Errorf("%s: %d spans, want %d", name, len(spans), len(c.want))
		}
		if err := post.Discard(); err != nil {
			t.Error(err)
		}
	}
}
