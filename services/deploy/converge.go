package deploy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/moby/moby/api/types/swarm"
)

// watch reads the services and tasks that somebody waits for, all in two calls
// however many there are: when an event says that something happened, and now
// and then besides, for the API has no events of tasks on other nodes.
type watch struct {
	engine Engine
	nodes  map[string]string

	mu      sync.Mutex
	wanted  map[string]int // identifiers of services, and how many wait for each
	seen    map[string]sighting
	begun   int           // looks that were begun
	seenBy  int           // the look that seen comes from
	updated chan struct{} // closed when seen changed
	err     error
	kick    chan struct{}
	stop    context.CancelFunc
	running sync.WaitGroup
}

// sighting is a service and its tasks at one moment.
type sighting struct {
	service swarm.Service
	tasks   []swarm.Task
	exists  bool
}

// settled forgets an update that Swarm took back: what runs since is what counts.
func (s sighting) settled() sighting {
	if u := s.service.UpdateStatus; u != nil && u.State == swarm.UpdateStateRollbackCompleted {
		s.service.UpdateStatus = nil
	}
	return s
}

// lookEvery is the longest time between two looks at what converges.
const lookEvery = 500 * time.Millisecond

// maxNamed is for how many services tasks are asked by name: the names are in the
// request's URL, for which proxies have room of 8 KiB.
const maxNamed = 100

// startWatch starts looking. stop must be called.
func startWatch(ctx context.Context, engine Engine, nodes map[string]string) *watch {
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{
		engine: engine, nodes: nodes, wanted: map[string]int{}, seen: map[string]sighting{},
		updated: make(chan struct{}), kick: make(chan struct{}, 1), stop: cancel,
	}
	w.running.Go(func() {
		// Without events there still are the regular looks.
		_ = engine.Changes(ctx, w.look)
	})
	w.running.Go(func() { w.run(ctx) })
	return w
}

func (w *watch) close() {
	w.stop()
	w.running.Wait()
}

// look asks for a look soon.
func (w *watch) look() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

func (w *watch) run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	// Events come in bursts; one look answers all of them.
	const settle = 50 * time.Millisecond
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-w.kick:
			pause := time.NewTimer(settle)
			select {
			case <-pause.C:
			case <-ctx.Done():
				pause.Stop()
				return
			}
		}
		w.mu.Lock()
		ids := slices.Sorted(maps.Keys(w.wanted))
		w.begun++
		this := w.begun
		w.mu.Unlock()
		if len(ids) == 0 {
			continue
		}
		seen, err := w.read(ctx, ids)
		w.mu.Lock()
		if err == nil {
			w.seen, w.seenBy = seen, this
		} else if ctx.Err() == nil {
			w.err = err
		}
		close(w.updated)
		w.updated = make(chan struct{})
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (w *watch) read(ctx context.Context, ids []string) (map[string]sighting, error) {
	// The services first: a task that is seen then may be newer than its
	// service, never older, so nothing looks done that is not.
	services, err := w.engine.Services(ctx)
	if err != nil {
		return nil, err
	}
	named := ids
	if len(ids) > maxNamed {
		named = nil
	}
	tasks, err := w.engine.Tasks(ctx, named...)
	if err != nil {
		return nil, err
	}
	byService := map[string][]swarm.Task{}
	for _, t := range tasks {
		byService[t.ServiceID] = append(byService[t.ServiceID], t)
	}
	seen := map[string]sighting{}
	for _, id := range ids {
		seen[id] = sighting{tasks: byService[id]}
	}
	for _, s := range services {
		if _, ok := seen[s.ID]; ok {
			seen[s.ID] = sighting{service: s, tasks: byService[s.ID], exists: true}
		}
	}
	return seen, nil
}

// until calls check with every sighting of a service from now on until it is
// done or fails. A look that began before may have missed what was just changed.
func (w *watch) until(ctx context.Context, id string, check func(sighting) (done bool, err error)) error {
	w.mu.Lock()
	w.wanted[id]++
	before := w.begun
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.wanted[id]--; w.wanted[id] == 0 {
			delete(w.wanted, id)
		}
	}()
	w.look()
	for {
		w.mu.Lock()
		s, ok := w.seen[id]
		ok = ok && w.seenBy > before
		updated, err := w.updated, w.err
		w.mu.Unlock()
		if err != nil {
			return err
		}
		if ok {
			if done, err := check(s); done || err != nil {
				return err
			}
		}
		select {
		case <-updated:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Phase is where a service is on its way.
type Phase string

const (
	PhaseWaiting Phase = "waiting" // for tasks to start
	PhaseRunning Phase = "running" // all run; they must keep running for a while
	PhaseDone    Phase = "done"
	PhaseFailed  Phase = "failed"
)

// Progress is how far a service came.
type Progress struct {
	Phase Phase
	// Running of Want tasks run, or of a job completed.
	Running, Want int
	Detail        string
	// tentative says that a failure must last: SwarmKit replaces an ended task a
	// moment after it ended.
	tentative bool
	// task is the one that a failure is about, if it is about one.
	task *swarm.Task
}

// crashes is how many failed tasks of one service say that it will not come up.
const crashes = 3

// assess judges a sighting. It keeps no memory: whoever waits adds how long
// something has been so.
func assess(s sighting) Progress {
	if !s.exists {
		return Progress{Phase: PhaseFailed, Detail: "somebody removed the service"}
	}
	run := current(s.service, s.tasks)
	if isJob(s.service.Spec.Mode) {
		return assessJob(s.service, run)
	}
	p := Progress{Phase: PhaseWaiting, Want: wantedTasks(s.service, s.tasks)}
	for i := range run {
		if run[i].DesiredState == swarm.TaskStateRunning && run[i].Status.State == swarm.TaskStateRunning {
			p.Running++
		}
	}
	bad := ends(run)
	if u := s.service.UpdateStatus; u != nil {
		switch u.State {
		case swarm.UpdateStateRollbackCompleted, swarm.UpdateStatePaused, swarm.UpdateStateRollbackPaused:
			p.Phase, p.Detail, p.task = PhaseFailed, updateVerdict(u), newest(ends(s.tasks))
			return p
		case swarm.UpdateStateRollbackStarted:
			p.Detail = "Swarm rolls back"
			return p
		case swarm.UpdateStateUpdating:
			p.Detail = pending(run)
			if c := s.service.Spec.UpdateConfig; c == nil || c.FailureAction != swarm.UpdateFailureActionContinue {
				return p // Swarm counts the failures itself
			}
		}
	}
	switch {
	case len(bad) >= crashes, len(bad) > 0 && givesUp(s.service) && allEnded(run):
		p.Phase, p.task, p.tentative = PhaseFailed, newest(bad), len(bad) < crashes
		p.Detail = fmt.Sprintf("%d tasks ended", len(bad))
	case p.Running >= p.Want && !(s.service.UpdateStatus != nil && s.service.UpdateStatus.State == swarm.UpdateStateUpdating):
		p.Phase = PhaseRunning
	default:
		p.Detail = pending(run)
	}
	return p
}

func assessJob(s swarm.Service, run []swarm.Task) Progress {
	done, want := jobDone(s, run)
	p := Progress{Phase: PhaseWaiting, Running: done, Want: want, Detail: pending(run)}
	switch {
	case done >= want && len(run) > 0:
		p.Phase = PhaseDone
	case len(run) > 0 && allEnded(run):
		p.Phase, p.task, p.Detail, p.tentative = PhaseFailed, newest(failures(run)), "the job failed", true
	}
	return p
}

func updateVerdict(u *swarm.UpdateStatus) string {
	switch u.State {
	case swarm.UpdateStateRollbackCompleted:
		return "Swarm rolled it back: " + u.Message
	case swarm.UpdateStateRollbackPaused:
		return "Swarm could not roll it back: " + u.Message
	}
	return "Swarm paused the update: " + u.Message
}

// wantedTasks is how many tasks a service wants: of a global one, one for each
// node that Swarm gave it to. A task that replaces one which ended waits with
// the desired state "ready" until its restart is due; it is wanted all the same.
func wantedTasks(s swarm.Service, tasks []swarm.Task) int {
	if r := s.Spec.Mode.Replicated; r != nil {
		if r.Replicas == nil {
			return 1
		}
		return int(*r.Replicas)
	}
	nodes := map[string]bool{}
	for _, t := range tasks {
		switch t.DesiredState {
		case swarm.TaskStateShutdown, swarm.TaskStateRemove:
		default:
			nodes[t.NodeID] = true
		}
	}
	return len(nodes)
}

// givesUp reports whether Swarm restarts a failed task at all.
func givesUp(s swarm.Service) bool {
	p := s.Spec.TaskTemplate.RestartPolicy
	return p != nil && (p.Condition == swarm.RestartPolicyConditionNone || (p.MaxAttempts != nil && *p.MaxAttempts > 0))
}

func failures(tasks []swarm.Task) []swarm.Task {
	return slices.DeleteFunc(slices.Clone(tasks), func(t swarm.Task) bool { return !failed(t.Status.State) })
}

// ends are the tasks of a service that should have gone on: besides those that
// failed, those whose program ended well, which it also does when it is told to
// stop because its health check fails.
func ends(tasks []swarm.Task) []swarm.Task {
	return slices.DeleteFunc(slices.Clone(tasks), func(t swarm.Task) bool {
		return !failed(t.Status.State) && t.Status.State != swarm.TaskStateComplete
	})
}

func allEnded(tasks []swarm.Task) bool {
	return !slices.ContainsFunc(tasks, func(t swarm.Task) bool { return !ended(t.Status.State) })
}

func newest(tasks []swarm.Task) *swarm.Task {
	if len(tasks) == 0 {
		return nil
	}
	t := slices.MaxFunc(tasks, func(a, b swarm.Task) int { return a.Status.Timestamp.Compare(b.Status.Timestamp) })
	return &t
}

// pending says what the newest task that is under way waits for.
func pending(tasks []swarm.Task) string {
	t := newest(slices.DeleteFunc(slices.Clone(tasks), func(t swarm.Task) bool {
		return ended(t.Status.State) || t.Status.State == swarm.TaskStateRunning
	}))
	switch {
	case t == nil:
		return ""
	case t.Status.Err != "":
		return string(t.Status.State) + ": " + t.Status.Err
	}
	return string(t.Status.State)
}
