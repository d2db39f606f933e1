package deploy

import (
	"reflect"

	"github.com/moby/moby/api/types/swarm"
)

// ended reports whether a task will do nothing more.
func ended(s swarm.TaskState) bool {
	switch s {
	case swarm.TaskStateComplete, swarm.TaskStateShutdown, swarm.TaskStateFailed, swarm.TaskStateRejected, swarm.TaskStateRemove, swarm.TaskStateOrphaned:
		return true
	}
	return false
}

func failed(s swarm.TaskState) bool {
	return s == swarm.TaskStateFailed || s == swarm.TaskStateRejected
}

// current are the tasks that run what the service says now: of a job those of
// its last run. SwarmKit keeps a task whose constraints alone changed.
func current(s swarm.Service, tasks []swarm.Task) []swarm.Task {
	var out []swarm.Task
	for _, t := range tasks {
		if isJob(s.Spec.Mode) {
			if s.JobStatus == nil || (t.JobIteration != nil && t.JobIteration.Index == s.JobStatus.JobIteration.Index) {
				out = append(out, t)
			}
			continue
		}
		a, b := t.Spec, s.Spec.TaskTemplate
		a.Placement, b.Placement = nil, nil
		a.Runtime, b.Runtime = "", "" // the engine says it of services alone
		if reflect.DeepEqual(a, b) {
			out = append(out, t)
		}
	}
	return out
}

// jobDone counts the completed tasks of a job's last run, and how many it wants;
// of a global job it wants one of each node that got a task.
func jobDone(s swarm.Service, tasks []swarm.Task) (done, want int) {
	nodes := map[string]bool{}
	for _, t := range current(s, tasks) {
		nodes[t.NodeID] = true
		if t.Status.State == swarm.TaskStateComplete {
			done++
		}
	}
	want = len(nodes)
	if j := s.Spec.Mode.ReplicatedJob; j != nil {
		want = 1
		if j.TotalCompletions != nil {
			want = int(*j.TotalCompletions)
		}
	}
	return done, want
}

// jobFailed reports whether the last run of a job ended without success. A job
// without tasks ended long ago: Swarm forgets them.
func jobFailed(s swarm.Service, tasks []swarm.Task) bool {
	run := current(s, tasks)
	done, want := jobDone(s, tasks)
	if done >= want || len(run) == 0 {
		return false
	}
	for _, t := range run {
		if !ended(t.Status.State) {
			return false
		}
	}
	return true
}
