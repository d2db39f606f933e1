package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/swarm"
)

// settleFor is how long a failure that Swarm may still answer must last.
const settleFor = time.Second

// imagePatience is how long a node may fail to find an image: current engines
// ask the registry every second, without an end.
const imagePatience = 20 * time.Second

// maxHold bounds how long tasks that run are watched. Updates are monitored by
// Swarm, for as long as the service says.
const maxHold = 5 * time.Second

// holdFor is how long all tasks that a service wants must run for it to count as up.
func holdFor(s swarm.Service, want int) time.Duration {
	switch u := s.Spec.UpdateConfig; {
	case want == 0 && s.Spec.Mode.Replicated != nil:
		return 0 // nothing is to run
	case want == 0:
		return settleFor // no node has got a global service, or not yet
	case u != nil && u.Monitor > 0:
		return min(u.Monitor, maxHold)
	}
	return min(defaultMonitor, maxHold)
}

// await waits until a service converged, and tells how it goes. The error is a
// *Failure when the service is to blame. changed says that this deploy updated
// the service: how an earlier update ended says nothing about one that it did not.
func (w *watch) await(ctx context.Context, id, name string, changed bool, tell func(Progress)) error {
	var last Progress
	var seen sighting
	var running []string // the tasks that run, and since when just these do
	var since, failing, missing time.Time
	err := w.until(ctx, id, func(s sighting) (bool, error) {
		if !changed {
			s = s.settled()
		}
		seen = s
		p := assess(s)
		switch t := imageless(current(s.service, s.tasks)); {
		case t == nil || p.Phase != PhaseWaiting:
			missing = time.Time{}
		case missing.IsZero():
			missing = time.Now()
		case time.Since(missing) > imagePatience:
			p.task, last = t, p
			return false, w.diagnose(ctx, name, p, "its image cannot be had")
		}
		switch p.Phase {
		case PhaseFailed:
			if failing.IsZero() {
				failing = time.Now()
			}
			if p.tentative && time.Since(failing) < settleFor {
				p.Phase = PhaseWaiting
				break
			}
			last = p
			return false, w.diagnose(ctx, name, p, p.Detail)
		case PhaseRunning:
			failing = time.Time{}
			if now := runningTasks(s); !slices.Equal(now, running) || since.IsZero() {
				running, since = now, time.Now()
			}
			rest := holdFor(s.service, p.Want) - time.Since(since)
			if rest <= 0 || updated(s.service) {
				p.Phase = PhaseDone
			} else if rest < lookEvery {
				time.AfterFunc(rest, w.look)
			}
		default:
			failing, since = time.Time{}, time.Time{}
		}
		last = p
		tell(p)
		return p.Phase == PhaseDone, nil
	})
	var failure *Failure
	if err == nil || errors.As(err, &failure) || !errors.Is(err, errTimeout) {
		return err
	}
	reason := fmt.Sprintf("not up in time: %d of %d tasks", last.Running, last.Want)
	if last.Detail != "" {
		reason += ", " + last.Detail
	}
	if last.task == nil {
		last.task = late(seen.service, current(seen.service, seen.tasks))
	}
	// The time is over, the log is still wanted.
	return errors.Join(w.diagnose(context.WithoutCancel(ctx), name, last, reason), errTimeout)
}

// updated reports whether Swarm itself watched the tasks through an update.
func updated(s swarm.Service) bool {
	return s.UpdateStatus != nil && s.UpdateStatus.State == swarm.UpdateStateCompleted
}

func runningTasks(s sighting) []string {
	var ids []string
	for _, t := range current(s.service, s.tasks) {
		if t.Status.State == swarm.TaskStateRunning && t.DesiredState == swarm.TaskStateRunning {
			ids = append(ids, t.ID)
		}
	}
	slices.SortFunc(ids, strings.Compare)
	return ids
}

// late is the task that says most of why a service is not up in time: one that
// ended, else one that is on its way. That of a job may run.
func late(s swarm.Service, tasks []swarm.Task) *swarm.Task {
	bad := ends(tasks)
	if isJob(s.Spec.Mode) {
		bad = failures(tasks)
	}
	if len(bad) > 0 {
		return newest(bad)
	}
	return newest(slices.DeleteFunc(slices.Clone(tasks), func(t swarm.Task) bool {
		up := t.Status.State == swarm.TaskStateRunning && !isJob(s.Spec.Mode)
		return up || ended(t.Status.State) || t.DesiredState == swarm.TaskStateShutdown || t.DesiredState == swarm.TaskStateRemove
	}))
}

// imageless is a task whose node asks for its image in vain.
func imageless(tasks []swarm.Task) *swarm.Task {
	return newest(slices.DeleteFunc(slices.Clone(tasks), func(t swarm.Task) bool {
		return t.Status.State != swarm.TaskStatePreparing || likelyCause(t.Status.Err, nil, false) != noImage
	}))
}

var errTimeout = errors.New("the time is over")
