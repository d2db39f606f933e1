package swarmjob

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"skep/services/worker/output"
	"skep/services/worker/postscript"
)

// logs hands on what a job's container writes.
type logs struct {
	api     API
	service string
	out     *stream
	errs    *stream
	post    *postscript.Splitter
	ended   chan struct{} // closed when all of the postscript has come
}

// stream is one of the two, which may be read from its start again.
type stream struct {
	got   int64            // bytes that were handed on
	heard func()           // after each of them; nil: nobody wants to know
	parts []io.WriteCloser // each writes to the next
}

func newLogs(api API, service string, p plan) *logs {
	g := &logs{api: api, service: service, ended: make(chan struct{})}
	out := output.Lines(func(line string) { p.job.Output("stdout", line) })
	errs := output.Lines(func(line string) { p.job.Output("stderr", line) })
	hideOut, hideErrs := p.mask.Writer(out), p.mask.Writer(errs)
	g.post = postscript.NewSplitter(p.key, hideOut)
	ended := sync.OnceFunc(func() { close(g.ended) })
	g.out = &stream{parts: []io.WriteCloser{g.post, hideOut, out}, heard: func() {
		if g.post.Ended() {
			ended()
		}
	}}
	g.errs = &stream{parts: []io.WriteCloser{hideErrs, errs}}
	return g
}

// follow reads until ctx ends: the engine does not say that a log is over.
func (g *logs) follow(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		_ = g.read(ctx, true) // again, and what is missing in the end is read then
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// finish reads what the following has not brought, until the postscript is
// there, if it is due or begun: the end of a log has no mark of its own.
func (g *logs) finish(ctx context.Context, due bool) error {
	tick := time.NewTicker(pollTime)
	defer tick.Stop()
	for {
		err := g.read(ctx, false)
		if g.post.Ended() || err == nil && !due && !g.post.Begun() {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// read takes the log from its start and hands on what is new.
func (g *logs) read(ctx context.Context, follow bool) error {
	r, err := g.api.ServiceLogs(ctx, g.service, client.ServiceLogsOptions{ShowStdout: true, ShowStderr: true, Follow: follow, Tail: "all"})
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = stdcopy.StdCopy(&rest{stream: g.out}, &rest{stream: g.errs}, r)
	return err
}

// close hands on what was held back.
func (g *logs) close() {
	for _, s := range []*stream{g.out, g.errs} {
		for _, part := range s.parts {
			_ = part.Close() // nothing behind them fails
		}
	}
}

// discard drops what was handed back.
func (g *logs) discard() { _ = g.post.Discard() } // a file that has no name any more

// rest leaves out what its stream has.
type rest struct {
	stream *stream
	seen   int64
}

func (r *rest) Write(p []byte) (int, error) {
	n := int64(len(p))
	fresh := p[min(max(r.stream.got-r.seen, 0), n):]
	r.seen += n
	r.stream.got = max(r.stream.got, r.seen)
	_, err := r.stream.parts[0].Write(fresh)
	if r.stream.heard != nil {
		r.stream.heard()
	}
	return len(p), err
}
