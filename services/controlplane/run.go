package controlplane

import (
	"fmt"
	"regexp"
	"time"
)

// RunID names a run: a UUID.
type RunID string

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// ParseRunID takes the one spelling that RFC 9562 has for output.
func ParseRunID(s string) (RunID, error) {
	if !uuid.MatchString(s) {
		return "", fmt.Errorf("%w: run id %q is no UUID", ErrInvalid, s)
	}
	return RunID(s), nil
}

// Run is one durable piece of work: a delivery's, a task's.
type Run struct {
	ID      RunID
	Key     string // of what asked for it; the same key never runs twice
	Kind    RunKind
	Project Name // empty for a task
	Task    Name // empty for a delivery
	// Queue is where runs wait for one another, in the order of deliveries:
	// cluster/branch.
	Queue string
	// Delivery asked for it, directly or through a run that it led to. A run that
	// none asked for is given the last that there is.
	Delivery int64
	// Supersedes says that those before it in the queue, of the same project, need
	// not run where they are of its kind, or only look: the newest wins.
	Supersedes bool
	Priority   Priority
	State      RunState
	Input      []byte // JSON, never a secret
	Output     []byte // JSON: summary, problems, plan
	Error      string
	Created    time.Time
	Started    time.Time
	Ended      time.Time
}

type RunKind string

const (
	RunCheck   RunKind = "check"
	RunPlan    RunKind = "plan"
	RunDeploy  RunKind = "deploy"
	RunPreview RunKind = "preview"
	RunDestroy RunKind = "destroy" // of a preview
	RunRotate  RunKind = "rotate"
	RunTask    RunKind = "task"
	RunCommand RunKind = "command" // a comment that starts with /skep
)

type RunState string

const (
	RunQueued     RunState = "queued"
	RunRunning    RunState = "running"
	RunSucceeded  RunState = "succeeded"
	RunFailed     RunState = "failed"
	RunCancelled  RunState = "cancelled"
	RunSuperseded RunState = "superseded"
)

// RunStates are all of them, in the order of a run's life.
var RunStates = []RunState{RunQueued, RunRunning, RunSucceeded, RunFailed, RunCancelled, RunSuperseded}

// Over says that the state does not change any more.
func (s RunState) Over() bool { return s != RunQueued && s != RunRunning }

// Priority orders runs that wait for a worker.
type Priority string

const (
	Critical Priority = "critical"
	Normal   Priority = "normal"
	Batch    Priority = "batch"
)

// Event is something that happened, for whoever watches. It is durable: a
// client that was away continues after the last ID that it saw.
type Event struct {
	ID    int64
	Topic string // run/<id>, project/<name>, delivery
	Type  string // run.started, run.ended, ...
	At    time.Time
	Data  []byte // JSON, never a secret
}

// ParsePriority takes its name.
func ParsePriority(s string) (Priority, error) {
	switch p := Priority(s); p {
	case Critical, Normal, Batch:
		return p, nil
	}
	return "", fmt.Errorf("%w: priority %q; there are %s, %s and %s", ErrInvalid, s, Critical, Normal, Batch)
}
