package controlplane

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Task is work as somebody defined it: in a container, and then a Run of the
// kind RunTask is one execution of it, or a built-in one. Schedules and sources
// start tasks by their names.
type Task struct {
	ID       int64
	Name     Name
	Priority Priority
	TaskSpec
	Created time.Time
	Updated time.Time
}

// TaskSpec is what a run of a task gets. It is stored as JSON and holds no
// secret: credentials are named.
type TaskSpec struct {
	Builtin     *Builtin          `json:"builtin,omitempty"` // in place of all the rest
	Image       string            `json:"image,omitempty"`
	Command     []string          `json:"command,omitempty"`
	Inputs      map[string]string `json:"inputs,omitempty"` // the container's environment
	Credentials []CredentialName  `json:"credentials,omitempty"`
	Limits      Limits            `json:"limits,omitzero"`
	Deadline    time.Duration     `json:"deadline,omitempty"` // of one attempt
	Retries     Retries           `json:"retries,omitzero"`
}

// TaskInput is what a run of a task starts from: Run.Input in JSON.
type TaskInput struct {
	Inputs   map[string]string `json:"inputs,omitempty"` // in place of the task's
	Schedule Name              `json:"schedule,omitempty"`
	Due      time.Time         `json:"due,omitzero"`
	Delivery int64             `json:"delivery,omitempty"` // that started it; the task gets it as a file
}

// Run is one of the task, without an id and a key. A built-in one has to know
// its project.
func (t Task) Run(in TaskInput, project Project) (Run, error) {
	if t.Builtin != nil {
		return t.Builtin.run(t, project)
	}
	input, err := json.Marshal(in)
	if err != nil {
		return Run{}, fmt.Errorf("encode the input of task %s: %w", t.Name, err)
	}
	return Run{Kind: RunTask, Task: t.Name, Priority: t.Priority, State: RunQueued, Input: input}, nil
}

// Builtin is a run of a project, in our own image.
type Builtin struct {
	Kind    RunKind `json:"kind"`
	Project Name    `json:"project"`
	Stacks  []Name  `json:"stacks,omitempty"` // empty: all of them
	Number  int     `json:"number,omitempty"` // of the pull request; 0: the branch that the cluster follows
}

// BuiltinKinds are what a built-in task may do.
var BuiltinKinds = []RunKind{RunCheck, RunPlan, RunDeploy, RunPreview, RunRotate}

// Check says what is wrong with it.
func (b Builtin) Check() error {
	switch {
	case !slices.Contains(BuiltinKinds, b.Kind):
		return fmt.Errorf("%w: kind %q; there are %v", ErrInvalid, b.Kind, BuiltinKinds)
	case b.Kind == RunPreview && b.Number <= 0:
		return fmt.Errorf("%w: a preview is that of a pull request: it needs a number", ErrInvalid)
	case b.Kind != RunPreview && b.Number != 0:
		return fmt.Errorf("%w: a number is for previews alone", ErrInvalid)
	case b.Kind == RunCheck && len(b.Stacks) > 0:
		return fmt.Errorf("%w: a check is of all stacks", ErrInvalid)
	}
	return nil
}

func (b Builtin) run(t Task, p Project) (Run, error) {
	in := Input{Change: Change{Kind: ChangeAsked, Repository: p.Repository}}
	if b.Number > 0 {
		in.Change.PullRequest = &PullRequest{Number: b.Number, Fork: true} // until somebody has asked
	}
	if len(b.Stacks) > 0 {
		in.Command = &Command{Verb: Verb(b.Kind), Stacks: b.Stacks}
	}
	input, err := json.Marshal(in)
	if err != nil {
		return Run{}, fmt.Errorf("encode the input of a run of %s: %w", p.Name, err)
	}
	run := Run{Kind: b.Kind, Project: p.Name, Task: t.Name, Priority: t.Priority, State: RunQueued, Input: input}
	switch b.Kind {
	case RunDeploy, RunRotate:
		run.Queue = p.DeployQueue()
	case RunPreview:
		run.Queue = p.PreviewQueue(b.Number)
	}
	return run, nil
}

// CredentialName names the credentials of an integration.
type CredentialName struct {
	Provider Provider `json:"provider"`
	Name     Name     `json:"name"`
}

// Limits are what a worker may use; 0 is the launcher's default.
type Limits struct {
	CPU    float64 `json:"cpu,omitempty"`    // cores
	Memory int64   `json:"memory,omitempty"` // bytes
	PIDs   int64   `json:"pids,omitempty"`
}

// Retries says what follows an attempt that failed: Max more, the first after
// Backoff, each later one after twice the time.
type Retries struct {
	Max     int           `json:"max,omitempty"`
	Backoff time.Duration `json:"backoff,omitempty"`
}

// Schedule starts a task at a time, or again and again.
type Schedule struct {
	ID      int64
	Name    Name
	Task    Name
	Cron    string // five fields; empty: once, at Next
	Zone    string // of the IANA time zone database
	Overlap OverlapPolicy
	Paused  bool
	Next    time.Time // zero: never again
	Last    time.Time
	Created time.Time
}

// OverlapPolicy says what happens when the last run is not over yet.
type OverlapPolicy string

const (
	OverlapSkip    OverlapPolicy = "skip"    // this time it does not run
	OverlapQueue   OverlapPolicy = "queue"   // it runs after the last one
	OverlapReplace OverlapPolicy = "replace" // the last one is cancelled
)

// LogLine is a line that a run wrote, with secrets masked. Its number is the
// writer's, so that writing it again changes nothing.
type LogLine struct {
	N      int // from 1
	At     time.Time
	Stream string // stdout, stderr, skep
	Text   string
}

// Artefact is a file that a run leaves behind.
type Artefact struct {
	Name    string
	Media   string // type, RFC 6838
	Size    int64
	SHA256  [32]byte
	Created time.Time
}
