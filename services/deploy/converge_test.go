package deploy

import (
	"testing"

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
