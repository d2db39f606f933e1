// Package process launches jobs as processes of this machine, for a laptop: in
// a folder that is their whole file system, as nobody, in namespaces of their
// own, with limits and with no environment but what the job says. A job without
// the Swarm has no network either.
package process

import (
	"time"

	"skep/services/worker"
)

// Launcher runs jobs with a skep binary.
type Launcher struct {
	// Skep is the path of the binary, which is static: a job's file system has
	// no libraries.
	Skep string
	// Commands are the paths of other static binaries that jobs may run, by the
	// names of their files.
	Commands []string

	grace time.Duration // 0: defaultGrace
}

var _ worker.Launcher = Launcher{}

// defaultGrace is what a job has between the request to end and its end.
const defaultGrace = 10 * time.Second
