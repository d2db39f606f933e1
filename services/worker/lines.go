package worker

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"skep/services/controlplane"
	"skep/services/worker/output"
)

// lines collects what jobs write, and keeps it in the store in lots.
type lines struct {
	store   Store
	metrics *Metrics
	run     controlplane.RunID
	from    int // the number of the line before the first

	mu      sync.Mutex
	n       int
	waiting []controlplane.LogLine
	final   string // the last line of standard error that begins a message
}

// What a run may say. The rest is counted.
const (
	maxLines = 10_000
	maxLine  = 4 << 10
	// maxLog is the number of the last line that a store takes.
	maxLog = 1_000_000

	flushTime = time.Second
	// lastFlush is for the last lines of a job, whose run may be over.
	lastFlush = 10 * time.Second
)

// lines goes on after what another worker, or another try, has said. from is the
// least that it goes on after.
func (w *Worker) lines(ctx context.Context, run controlplane.RunID, from int) (*lines, error) {
	last, err := w.Store.LastLine(ctx, run)
	if err != nil {
		return nil, err
	}
	return &lines{store: w.Store, metrics: w.Metrics, run: run, from: min(max(from, last), maxLog-maxLines)}, nil
}

func (l *lines) add(stream, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	l.metrics.line(strings.Contains(line, output.Redacted), l.n < maxLines)
	// What is indented goes on from the line before, as skep's remedies do.
	if text := strings.TrimSpace(oneLine(line)); stream == "stderr" && text != "" && (l.final == "" || line[0] != ' ' && line[0] != '\t') {
		l.final = text
	}
	switch {
	case l.n == maxLines:
		line = "... the rest is left out"
	case l.n > maxLines:
		return
	}
	if len(line) > maxLine {
		line = line[:maxLine]
	}
	l.waiting = append(l.waiting, controlplane.LogLine{N: l.from + l.n, At: time.Now(), Stream: stream, Text: line})
}

func (l *lines) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.final
}

// during stores what is said while f runs, so that it can be followed, and is
// there if this worker dies.
func (l *lines) during(ctx context.Context, log *slog.Logger, f func()) {
	ended := make(chan struct{})
	var flushes sync.WaitGroup
	flushes.Go(func() {
		tick := time.NewTicker(flushTime)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
				if err := l.finish(ctx); err != nil {
					log.WarnContext(ctx, "lines of a run wait to be stored", "run", l.run, "error", err)
				}
			}
		}
	})
	defer flushes.Wait()
	defer close(ended)
	f()
}

// finish is flush for a run that somebody may have ended.
func (l *lines) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
	defer cancel()
	return l.flush(ctx)
}

// flush stores what waits. What could not be stored waits on.
func (l *lines) flush(ctx context.Context) error {
	l.mu.Lock()
	waiting := l.waiting
	l.waiting = nil
	l.mu.Unlock()
	if len(waiting) == 0 {
		return nil
	}
	err := l.store.AppendLog(ctx, l.run, waiting)
	if err != nil {
		l.mu.Lock()
		l.waiting = append(waiting, l.waiting...)
		l.mu.Unlock()
	}
	return err
}
