package controlplane

import "time"

// Task is work in a container, as somebody defined it; a Run of the kind
// RunTask is one execution of it.
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
	Image       string            `json:"image"`
	Command     []string          `json:"command,omitempty"`
	Inputs      map[string]string `json:"inputs,omitempty"` // the container's environment
	Credentials []CredentialName  `json:"credentials,omitempty"`
	Limits      Limits            `json:"limits,omitzero"`
	Deadline    time.Duration     `json:"deadline,omitempty"` // of one attempt
	Retries     Retries           `json:"retries,omitzero"`
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
