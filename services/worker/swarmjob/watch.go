package swarmjob

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"

	"skep/services/controlplane"
	"skep/services/worker"
	"skep/services/worker/postscript"
)

const (
	// pollTime is how often tasks are asked for: the API has no events of those
	// on other nodes.
	pollTime = 300 * time.Millisecond
	// outage is how long the managers may be away, as in an election.
	outage = time.Minute
	// restTime is what the end of a log may take to come.
	restTime = 30 * time.Second
	// lastTime is the same of a job that was removed, and may never have begun.
	lastTime = 15 * time.Second
)

// errRemoved is an end that a sweeper or an administrator made.
var errRemoved = errors.New("somebody removed the job's service")

// watch follows a job's output and waits for its end.
func (l Launcher) watch(ctx context.Context, p plan, service string) (worker.Exit, error) {
	logs := newLogs(l.API, service, p)
	defer logs.discard()
	following, stop := context.WithCancel(context.WithoutCancel(ctx)) // to the last word
	var followed sync.WaitGroup
	var broken error // what the job says passes through there
	followed.Go(func() {
		broken = controlplane.Guard(func() error {
			logs.follow(following)
			return nil
		})
	})
	defer followed.Wait() // also if this panics
	defer stop()
	exit, err := l.wait(ctx, p, service)
	late := errors.Is(err, errDeadline) || errors.Is(context.Cause(ctx), errDeadline)
	if ctx.Err() != nil && !late || errors.Is(err, errRemoved) {
		l.end(ctx, p, logs)
	}
	stop()
	followed.Wait()
	if broken != nil {
		return worker.Exit{}, broken
	}

	switch {
	case late:
		exit, err = worker.Exit{Code: -1, Killed: tooLong(p)}, nil
	case ctx.Err() != nil:
		logs.close()
		return worker.Exit{}, context.Cause(ctx)
	case err != nil:
		logs.close()
		return worker.Exit{}, err
	}
	rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), restTime)
	defer cancel()
	// skep-job has the last word, unless it was killed itself.
	due := p.job.Image == "" && !late && exit.Code != exitKilled
	if err := logs.finish(rest, due); err != nil {
		l.Log.WarnContext(ctx, "the end of a job's output is missing", "run", p.job.Run, "job", p.name, "error", err)
		p.job.Output("skep", "the end of the output may be missing: the Swarm does not tell it")
	}
	logs.close()
	return l.take(ctx, p, logs.post, exit)
}

// end ends a job that somebody cancelled or removed, while its log is followed:
// what it takes back it says until then, and no log is left of a service that is
// gone.
func (l Launcher) end(ctx context.Context, p plan, logs *logs) {
	rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), graceOf(p.job)+removeTime)
	defer cancel()
	if err := l.remove(rest, []string{p.name}, labelLaunch+"="+p.launch()); err != nil || p.job.Image != "" {
		return // Launch tries again and says so; nothing tells the end of another image's log
	}
	last := time.NewTimer(lastTime)
	defer last.Stop()
	select {
	case <-logs.ended: // skep-job's last word has come
	case <-last.C:
	}
}

// take takes what the job handed back. Without the answer that was asked for
// there is no result; a code of skep-job's own has its reason in the log.
func (l Launcher) take(ctx context.Context, p plan, post *postscript.Splitter, exit worker.Exit) (worker.Exit, error) {
	if post.Begun() {
		exit = l.unpack(ctx, p, post, exit)
	}
	if p.job.Answer && exit.Answer == nil && exit.Killed == "" && exit.Code < exitOwn {
		return worker.Exit{}, errors.New("what the job answered did not come back: is /skep-job in the image of jobs of the worker's version?")
	}
	return exit, nil
}

// unpack puts what came into its places.
func (l Launcher) unpack(ctx context.Context, p plan, post *postscript.Splitter, exit worker.Exit) worker.Exit {
	dir := ""
	if p.job.Artefacts {
		dir = p.job.Tree
	}
	note, err := post.Unpack(dir)
	if err != nil {
		l.Log.WarnContext(ctx, "what a job handed back is lost", "run", p.job.Run, "job", p.name, "error", err)
		p.job.Output("skep", "what the job handed back is lost: "+string(p.mask.Bytes([]byte(err.Error()))))
	}
	phases(ctx, note)
	if p.job.Answer {
		exit.Answer = note.Answer
	}
	for _, left := range note.Left {
		p.job.Output("skep", fmt.Sprintf("artefact %q is left out: %s", p.mask.Bytes([]byte(left.Name)), p.mask.Bytes([]byte(left.Why))))
	}
	switch {
	case note.Late:
		exit.Code, exit.Killed = -1, tooLong(p)
	case note.Memory && exit.Code != 0:
		exit.Killed = "the kernel ended it, for it needed more memory than its limit of " + memory(p)
	}
	return exit
}

func tooLong(p plan) string { return fmt.Sprintf("it took longer than %v", p.job.Deadline) }

func memory(p plan) string {
	return units.BytesSize(float64(p.service.TaskTemplate.Resources.Limits.MemoryBytes))
}

// wait returns how the job ended.
func (l Launcher) wait(ctx context.Context, p plan, service string) (worker.Exit, error) {
	place := cmp.Or(l.place, placeTime)
	tick := time.NewTicker(pollTime)
	defer tick.Stop()
	var silent, unplaced, running span
	for {
		r, err := l.API.TaskList(ctx, client.TaskListOptions{Filters: make(client.Filters).Add("service", service)})
		switch {
		case errdefs.IsNotFound(err):
			return worker.Exit{}, errRemoved
		case silent.beyond(outage, err != nil):
			return worker.Exit{}, fmt.Errorf("ask for the job's task: %w", err)
		}
		if err == nil {
			s := judge(r.Items, p)
			switch {
			case s.over:
				return s.exit, s.err
			case running.beyond(l.runTime(p.job), s.runs):
				return worker.Exit{}, errDeadline
			case unplaced.beyond(place, s.waits != ""):
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

// span is how long something has been so without a break.
type span struct{ since time.Time }

// beyond says whether it is so still, and for longer than most.
func (s *span) beyond(most time.Duration, so bool) bool {
	switch {
	case !so:
		s.since = time.Time{}
	case s.since.IsZero():
		s.since = time.Now()
	}
	return so && time.Since(s.since) > most
}

// state is what tasks say of their job.
type state struct {
	over  bool
	exit  worker.Exit
	err   error
	waits string // for a node, and why
	runs  bool
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
	case swarm.TaskStateRunning:
		return state{runs: true}
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

const (
	exitOwn    = 125 // the first of skep-job's own, which are those of containers
	exitKilled = 137 // of what SIGKILL ended
)

// killed says what that means. The API does not tell of memory that ran out;
// SIGKILL with nobody who sent it is what that looks like.
func killed(code int, p plan) string {
	if code != exitKilled {
		return ""
	}
	return fmt.Sprintf("it was killed (exit code %d), as happens to what needs more memory than its limit of %s", code, memory(p))
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
