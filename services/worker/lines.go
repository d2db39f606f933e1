package worker

import (
	"context"
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
	from    int // the number before the first line's

	mu      sync.Mutex
	n       int
	waiting []controlplane.LogLine
	final   string // the last line of standard error that begins a message
}

// What a run may say. The rest is counted.
const (
	maxLines = 10_000
	maxLine  = 4 << 10
)

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

func (l *lines) flush(ctx context.Context) error {
	l.mu.Lock()
	waiting := l.waiting
	l.waiting = nil
	l.mu.Unlock()
	if len(waiting) == 0 {
		return nil
	}
	return l.store.AppendLog(ctx, l.run, waiting)
}
