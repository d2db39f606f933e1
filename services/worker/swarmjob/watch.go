package swarmjob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"

	"skep/services/worker"
	"skep/services/worker/output"
)

const (
	// pollTime is how often tasks are asked for: the API has no events of those
	// on other nodes.
	pollTime = 300 * time.Millisecond
	// outage is how long the managers may be away, as in an election.
	outage = time.Minute
	// restTime is what the end of a log may take to come.
	restTime = 30 * time.Second
)

// watch follows a job's output and waits for its end.
func (l Launcher) watch(ctx context.Context, p plan, service string) (worker.Exit, error) {
	logs := newLogs(l.API, service, p)
	following, stop := context.WithCancel(ctx)
	var followed sync.WaitGroup
	followed.Go(func() { logs.follow(following) })
	exit, err := l.wait(ctx, p, service)
	stop()
	followed.Wait()

	late := ctx.Err() != nil && errors.Is(context.Cause(ctx), errDeadline)
	switch {
	case late:
		exit, err = worker.Exit{Code: -1, Killed: fmt.Sprintf("it took longer than %v", p.job.Deadline)}, nil
	case ctx.Err() != nil:
		return worker.Exit{}, context.Cause(ctx)
	case err != nil:
		return worker.Exit{}, err
	}
	// What the following has not brought, as the end of it has no mark.
	rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), restTime)
	defer cancel()
	if err := logs.read(rest, false); err != nil {
		l.Log.WarnContext(ctx, "the end of a job's output is missing", "run", p.job.Run, "job", p.name, "error", err)
		p.job.Output("skep", "the end of the output may be missing: the Swarm does not tell it")
	}
	exit.Stdout = logs.close()
	return exit, err
}

// wait returns how the job ended.
func (l Launcher) wait(ctx context.Context, p plan, service string) (worker.Exit, error) {
	place := l.place
	if place == 0 {
		place = placeTime
	}
	tick := time.NewTicker(pollTime)
	defer tick.Stop()
	var unplaced, silent time.Time // since when
	for {
		r, err := l.API.TaskList(ctx, client.TaskListOptions{Filters: make(client.Filters).Add("service", service)})
		switch {
		case errdefs.IsNotFound(err):
			return worker.Exit{}, errors.New("somebody removed the job's service")
		case err == nil:
			silent = time.Time{}
		case silent.IsZero():
			silent = time.Now()
		case time.Since(silent) > outage:
			return worker.Exit{}, fmt.Errorf("ask for the job's task: %w", err)
		}
		if err == nil {
			s := judge(r.Items, p)
			switch {
			case s.over:
				return s.exit, s.err
			case s.waits == "":
				unplaced = time.Time{}
			case unplaced.IsZero():
				unplaced = time.Now()
			case time.Since(unplaced) > place:
				return worker.Exit{}, fmt.Errorf("no node took the job within %v: %s: add a node that fits, or change the constraints of jobs", place, s.waits)
			}
		}
		select {
		case <-ctx.Done():
			return worker.Exit{}, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// state is what tasks say of their job.
type state struct {
	over  bool
	exit  worker.Exit
	err   error
	waits string // for a node, and why
}

// judge reads the tasks of a job: one, unless its node was lost.
func judge(tasks []swarm.Task, p plan) state {
	var last *swarm.Task
	for i, t := range tasks {
		if t.Status.State == swarm.TaskStateComplete {
			return state{over: true}
		}
		if last == nil || t.CreatedAt.After(last.CreatedAt) {
			last = &tasks[i]
		}
	}
	if last == nil {
		return state{}
	}
	said := last.Status.Err
	if said == "" {
		said = last.Status.Message
	}
	switch last.Status.State {
	case swarm.TaskStatePending:
		if last.Status.Err != "" {
			return state{waits: last.Status.Err}
		}
	case swarm.TaskStateFailed:
		if c := last.Status.ContainerStatus; c != nil && strings.Contains(said, "non-zero exit") {
			return state{over: true, exit: worker.Exit{Code: c.ExitCode, Killed: killed(c.ExitCode, p)}}
		}
		return state{over: true, err: fmt.Errorf("the job did not start: %s", said)}
	case swarm.TaskStateRejected:
		return state{over: true, err: rejected(said, p.container().Image)}
	case swarm.TaskStateShutdown, swarm.TaskStateRemove, swarm.TaskStateOrphaned:
		return state{over: true, err: fmt.Errorf("the Swarm ended the job (%s): %s", last.Status.State, said)}
	}
	return state{}
}

// killed says what a signal's exit code means. The API does not tell of memory
// that ran out; SIGKILL with nobody who sent it is what that looks like.
func killed(code int, p plan) string {
	if code != 137 {
		return ""
	}
	limit := p.service.TaskTemplate.Resources.Limits.MemoryBytes
	return fmt.Sprintf("it was killed (exit code 137), as happens to what needs more memory than its limit of %s", units.BytesSize(float64(limit)))
}

// missing are what engines say of an image that they cannot get.
var missing = []string{"no such image", "pull access denied", "manifest unknown", "not found: manifest", "repository does not exist"}

func rejected(said, image string) error {
	for _, m := range missing {
		if strings.Contains(strings.ToLower(said), m) {
			return fmt.Errorf("the node has no image %s and cannot pull it: push it to a registry that the nodes reach, or load it on every node: %s", image, said)
		}
	}
	return fmt.Errorf("the node rejected the job: %s", said)
}

// logs hands on what a job's container writes.
type logs struct {
	api     API
	service string
	out     *stream
	errs    *stream
	said    *output.Buffer
}

// stream is one of the two, which may be read from its start again.
type stream struct {
	got    int64 // bytes that were handed on
	masked io.WriteCloser
	lines  io.WriteCloser
}

func newLogs(api API, service string, p plan) *logs {
	g := &logs{api: api, service: service, said: &output.Buffer{Most: worker.MaxOutput}}
	out := output.Lines(func(line string) { p.job.Output("stdout", line) })
	errs := output.Lines(func(line string) { p.job.Output("stderr", line) })
	g.out = &stream{lines: out, masked: p.mask.Writer(io.MultiWriter(out, g.said))}
	g.errs = &stream{lines: errs, masked: p.mask.Writer(errs)}
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

// close hands on what was held back and returns what is kept.
func (g *logs) close() []byte {
	for _, s := range []*stream{g.out, g.errs} {
		_ = s.masked.Close() // nothing behind them fails
		_ = s.lines.Close()
	}
	return g.said.Bytes()
}

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
	_, err := r.stream.masked.Write(fresh)
	return len(p), err
}
