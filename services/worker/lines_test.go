package worker

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"skep/services/controlplane"
)

// What a job says can be read while it runs, also if the store is away for a
// moment: nothing of it is lost.
func TestLinesAreStoredMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &awayStore{taskStore: newTaskStore(nil)}
		store.away.Store(true)
		w := &Worker{Store: store, Log: slog.New(slog.DiscardHandler), Launcher: launcherFunc(func(_ context.Context, j Job) (Exit, error) {
			j.Output("stdout", "begun")
			<-time.After(2 * flushTime)
			store.away.Store(false)
			j.Output("stdout", "again")
			<-time.After(2 * flushTime)
			if got := store.text(); got != "1 stdout begun\n2 stdout again" {
				t.Errorf("while it runs the log is %q", got)
			}
			j.Output("stdout", "done")
			return Exit{}, nil
		})}
		said, err := w.lines(t.Context(), store.run.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel() // what a run says that was cancelled is stored too
		if _, err := w.launch(ended, Job{}, said); err != nil {
			t.Fatal(err)
		}
		if err := said.finish(ended); err != nil || store.text() != "1 stdout begun\n2 stdout again\n3 stdout done" {
			t.Errorf("%v, in the end the log is %q", err, store.text())
		}
	})
}

type awayStore struct {
	*taskStore
	away atomic.Bool
}

func (s *awayStore) AppendLog(ctx context.Context, id controlplane.RunID, lines []controlplane.LogLine) error {
	if s.away.Load() {
		return errors.New("the database is away")
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.taskStore.AppendLog(ctx, id, lines)
}

// Another try, of another worker maybe, goes on after what the last one said: a
// store keeps the first line of a number.
func TestLinesGoOn(t *testing.T) {
	w := newWorld(controlplane.RunDeploy, push())
	w.exits["deploy"] = Exit{Code: 1}
	w.lastLine = 41
	if err := w.handle(t); err != nil {
		t.Fatal(err)
	}
	want := []string{"the run is tried again", "Error: service app_web: the health check fails"}
	if !slices.Equal(w.logged, want) || w.lastLine != 43 {
		t.Errorf("line %d is the last of %q", w.lastLine, w.logged)
	}
	w.lastLine = maxLog
	if said, err := w.worker().lines(t.Context(), w.run.ID, 0); err != nil || said.from+maxLines > maxLog {
		t.Errorf("lines after %d, %v", said.from, err)
	}
}

// What is told of a command that failed is what it said last, not how to mend
// it, which would make no sense alone.
func TestLastWords(t *testing.T) {
	for name, test := range map[string]struct {
		lines []string
		want  string
	}{
		"a remedy":       {[]string{"warning: it is late", "skep: the plan has problems", "    see to what it marks with !"}, "skep: the plan has problems"},
		"a trace":        {[]string{"panic: out of bees", "\t/hive.go:3"}, "panic: out of bees"},
		"nothing else":   {[]string{"   it is indented"}, "it is indented"},
		"an empty line":  {[]string{"it is broken", "", "  "}, "it is broken"},
		"nothing at all": {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			metrics, err := NewMetrics(prometheus.NewRegistry())
			if err != nil {
				t.Fatal(err)
			}
			l := &lines{metrics: metrics}
			for _, line := range test.lines {
				l.add("stderr", line)
			}
			l.add("stdout", "and that is all")
			if got := l.last(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
