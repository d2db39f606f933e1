package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"skep/generator/problem"
	"skep/services/deploy"
)

// progress tells a person how a deploy goes: a line for what happened and, on
// a terminal, a bar for each service that is coming up.
type progress struct {
	mu    sync.Mutex
	out   io.Writer
	paint problem.Paint
	bars  *mpb.Progress // nil when the output is no terminal
	open  map[string]*serviceBar
	last  map[string]string // what was said of a subject that waits
	pipe  chan os.Signal
}

type serviceBar struct {
	bar    *mpb.Bar
	detail atomic.Pointer[string] // read while the bars are drawn
}

func newProgress(out io.Writer) *progress {
	p := &progress{
		out: out, paint: problem.Paint{On: colored(out)}, open: map[string]*serviceBar{}, last: map[string]string{},
		pipe: make(chan os.Signal, 1),
	}
	// A reader that goes away, as the tee of `skep deploy | tee log` does at an
	// interrupt, must not end the process in the middle: writing fails instead.
	signal.Notify(p.pipe, syscall.SIGPIPE)
	if isTerminal(out) {
		p.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(24))
		p.out = p.bars // lines go above the bars
	}
	return p
}

// close waits until everything is drawn.
func (p *progress) close() {
	defer signal.Stop(p.pipe)
	p.mu.Lock()
	for _, b := range p.open {
		b.bar.Abort(true)
	}
	p.mu.Unlock()
	if p.bars != nil {
		p.bars.Wait()
	}
}

func (p *progress) report(e deploy.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := string(e.Stack) + "/" + e.Subject
	switch e.Verb {
	case deploy.Waiting:
		if p.bars != nil {
			p.draw(key, e)
			return
		}
		// Only what is new is worth a line.
		text := fmt.Sprintf("%d of %d %s", e.Running, e.Want, e.Text)
		if p.last[key] == text {
			return
		}
		p.last[key] = text
	case deploy.Converged, deploy.Failed:
		if b, ok := p.open[key]; ok {
			b.bar.Abort(true)
			delete(p.open, key)
		}
	}
	fmt.Fprintln(p.out, p.line(e))
}

// draw moves a service's bar.
func (p *progress) draw(key string, e deploy.Event) {
	detail := problem.Printable(e.Text)
	b, ok := p.open[key]
	if !ok {
		b = &serviceBar{}
		b.detail.Store(&detail)
		name := fmt.Sprintf("%s: %s", e.Stack, e.Subject)
		b.bar = p.bars.AddBar(int64(max(e.Want, 1)), mpb.BarRemoveOnComplete(), mpb.PrependDecorators(
			decor.Name(problem.Printable(name), decor.WCSyncSpaceR), decor.CountersNoUnit("%d/%d", decor.WCSyncSpace),
		), mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
			return *b.detail.Load()
		})))
		p.open[key] = b
	}
	b.detail.Store(&detail)
	// A full bar would end; it stays until the service counts as up.
	b.bar.SetTotal(int64(max(e.Want, 1))+1, false)
	b.bar.SetCurrent(int64(e.Running))
}

func (p *progress) line(e deploy.Event) string {
	var words []string
	if e.Stack != "" {
		words = append(words, p.paint.Bold(string(e.Stack)+":"))
	}
	switch e.Verb {
	case deploy.Began:
		words = append(words, "begins")
	case deploy.Finished:
		words = append(words, p.paint.Green("done,"), e.Text)
	case deploy.Waiting:
		words = append(words, e.Subject, fmt.Sprintf("%d of %d", e.Running, e.Want), p.paint.Dim(problem.Printable(e.Text)))
	case deploy.Converged:
		words = append(words, e.Subject, p.paint.Green("is up"))
	case deploy.Failed:
		words = append(words, e.Subject, p.paint.Red("failed:"), indent(e.Text))
	case deploy.Restoring:
		words = append(words, p.paint.Yellow("goes back to what it was"))
	case deploy.Restored:
		words = append(words, "is back at what it was")
	case deploy.Pausing:
		words = append(words, p.paint.Yellow("waits:"), problem.Printable(e.Text))
	case deploy.Warned:
		words = append(words, p.paint.Yellow("warning:"), problem.Printable(e.Text))
	case deploy.Skipped:
		words = append(words, p.paint.Yellow("skipped, for what it needs failed"))
	default: // created, updated, removed
		words = append(words, string(e.Verb), e.Subject, p.paint.Dim(problem.Printable(e.Text)))
	}
	return strings.TrimSpace(strings.Join(strings.Fields(strings.Join(words[:len(words)-1], " ")), " ") + " " + words[len(words)-1])
}

// indent keeps the lines of a text, each made harmless for a terminal.
func indent(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = problem.Printable(line)
	}
	return strings.Join(lines, "\n    ")
}
