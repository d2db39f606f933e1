package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/swarm"
)

func TestAssessGlobal(t *testing.T) {
	task := func(node string, desired, state swarm.TaskState) swarm.Task {
		return swarm.Task{NodeID: node, DesiredState: desired, Status: swarm.TaskStatus{State: state}}
	}
	up := task("n1", swarm.TaskStateRunning, swarm.TaskStateRunning)
	crashed := task("n2", swarm.TaskStateShutdown, swarm.TaskStateFailed)
	for name, c := range map[string]struct {
		tasks         []swarm.Task
		phase         Phase
		running, want int
	}{
		"up":                      {[]swarm.Task{up}, PhaseRunning, 1, 1},
		"between two restarts":    {[]swarm.Task{up, crashed, task("n2", swarm.TaskStateReady, swarm.TaskStateReady)}, PhaseWaiting, 1, 2},
		"the only one restarts":   {[]swarm.Task{crashed, task("n2", swarm.TaskStateReady, swarm.TaskStatePreparing)}, PhaseWaiting, 0, 1},
		"a crash loop":            {[]swarm.Task{up, crashed, crashed, crashed, task("n2", swarm.TaskStateReady, swarm.TaskStateReady)}, PhaseFailed, 1, 2},
		"a node that was drained": {[]swarm.Task{up, task("n2", swarm.TaskStateShutdown, swarm.TaskStateRunning)}, PhaseRunning, 1, 1},
		"no node":                 {nil, PhaseRunning, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := assess(sighting{service: swarm.Service{Spec: swarm.ServiceSpec{Mode: swarm.ServiceMode{Global: &swarm.GlobalService{}}}}, tasks: c.tasks, exists: true})
			if p.Phase != c.phase || p.Running != c.running || p.Want != c.want {
				t.Errorf("it is %s with %d of %d", p.Phase, p.Running, p.Want)
			}
		})
	}
}

// Swarm gives a new global service to its nodes a moment after it is created.
func TestAGlobalServiceWithoutTasksIsNotUpAtOnce(t *testing.T) {
	none := uint64(0)
	if holdFor(swarm.Service{Spec: swarm.ServiceSpec{Mode: swarm.ServiceMode{Global: &swarm.GlobalService{}}}}, 0) == 0 {
		t.Error("it is up before it has a task")
	}
	if holdFor(swarm.Service{Spec: swarm.ServiceSpec{Mode: swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &none}}}}, 0) != 0 {
		t.Error("a service that nobody wants to run is waited for")
	}
}

// namedTasks notes how many services tasks were asked of by name.
type namedTasks struct {
	*fakeSwarm
	named int
}

func (n *namedTasks) Tasks(ctx context.Context, services ...string) ([]swarm.Task, error) {
	n.named = len(services)
	return n.fakeSwarm.Tasks(ctx, services...)
}

// A request that named them all would be too long for a proxy.
func TestTasksOfManyServices(t *testing.T) {
	f := newFake()
	var ids []string
	for i := range maxNamed + 2 {
		id := fmt.Sprint("s", i)
		f.state.Services = append(f.state.Services, swarm.Service{ID: id})
		f.state.Tasks = append(f.state.Tasks, swarm.Task{ID: fmt.Sprint("t", i), ServiceID: id})
		ids = append(ids, id)
	}
	for n, named := range map[int]int{maxNamed: maxNamed, maxNamed + 1: 0} {
		engine := &namedTasks{fakeSwarm: f}
		seen, err := (&watch{engine: engine}).read(t.Context(), ids[:n])
		if err != nil || engine.named != named || len(seen) != n {
			t.Errorf("of %d services it named %d and saw %d, %v", n, engine.named, len(seen), err)
		}
		if s := seen[ids[n-1]]; !s.exists || len(s.tasks) != 1 {
			t.Errorf("of %d services the last is %+v", n, s)
		}
	}
}

// What is not up in time names the task that is late, and what its log says.
func TestAServiceThatIsLate(t *testing.T) {
	created := swarm.ContainerStatus{ContainerID: "c"}
	late := func(state swarm.TaskState, change func(*swarm.Task)) func(swarm.TaskSpec) []swarm.Task {
		return func(spec swarm.TaskSpec) []swarm.Task {
			one := swarm.Task{ID: "up", ServiceID: "s", Slot: 1, NodeID: "n1", Spec: spec, DesiredState: swarm.TaskStateRunning, Status: swarm.TaskStatus{State: swarm.TaskStateRunning}}
			two := one
			two.ID, two.Slot, two.Status = "late", 2, swarm.TaskStatus{State: state}
			change(&two)
			return []swarm.Task{one, two}
		}
	}
	for name, c := range map[string]struct {
		tasks func(swarm.TaskSpec) []swarm.Task
		want  []string
	}{
		"a health check that does not pass": {late(swarm.TaskStateStarting, func(t *swarm.Task) { t.Status.ContainerStatus = &created }), []string{
			"task app_web.2.late on node1: starting", "likely cause: its health check has not passed yet: run the check's command in the container, or give it longer with --timeout",
			"| starting", "| cannot open the database",
		}},
		"an image that takes long": {late(swarm.TaskStatePreparing, func(*swarm.Task) {}), []string{
			"task app_web.2.late on node1: preparing", "likely cause: the node is still at its image, or at its volumes: --timeout gives it longer",
		}},
		"no node": {late(swarm.TaskStatePending, func(t *swarm.Task) {
			t.NodeID, t.Status.Err = "", "no suitable node (insufficient resources on 1 node)"
		}), []string{
			"task app_web.2.late: pending: no suitable node (insufficient resources on 1 node)", "likely cause: no node meets the constraints and has the resources that are reserved",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			two := uint64(2)
			s := swarm.Service{ID: "s", Spec: swarm.ServiceSpec{Annotations: swarm.Annotations{Name: "app_web"}, Mode: swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &two}}}}
			s.Spec.TaskTemplate.ContainerSpec = &swarm.ContainerSpec{Healthcheck: &container.HealthConfig{Test: []string{"CMD", "true"}}}
			f.state.Services, f.state.Tasks = []swarm.Service{s}, c.tasks(s.Spec.TaskTemplate)
			ctx, end := context.WithCancelCause(t.Context())
			defer end(nil)
			w := startWatch(t.Context(), f, f.state.nodeNames())
			defer w.close()
			err := w.await(ctx, "s", "app_web", true, func(Progress) { end(errTimeout) })
			var failure *Failure
			if !errors.As(err, &failure) || !errors.Is(err, errTimeout) || failure.ExitCode != nil {
				t.Fatalf("got %v, %+v", err, failure)
			}
			if got := failure.Detail(); !slices.Equal(got, c.want) {
				t.Errorf("it says\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// Only a node that waits for an image, and says why, is one without it.
func TestImageless(t *testing.T) {
	const cannot = `failed to resolve reference "docker.io/library/web:2": failed to do request: dial tcp: network is unreachable`
	for name, c := range map[string]struct {
		state swarm.TaskState
		err   string
		want  bool
	}{
		"asks in vain":  {swarm.TaskStatePreparing, cannot, true},
		"pulls":         {swarm.TaskStatePreparing, "", false},
		"was refused":   {swarm.TaskStateRejected, cannot, false},
		"other trouble": {swarm.TaskStatePreparing, "network app_default not found", false},
	} {
		tasks := []swarm.Task{{Status: swarm.TaskStatus{State: c.state, Err: c.err}}}
		if got := imageless(tasks) != nil; got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
