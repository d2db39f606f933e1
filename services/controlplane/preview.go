package controlplane

import "time"

// Preview is the environment of a pull request.
type Preview struct {
	ID      int64
	Project Name
	Number  int // of the pull request
	Commit  Commit
	Stacks  []string
	Hosts   []string
	Created time.Time
	Updated time.Time
	Expires time.Time
}
