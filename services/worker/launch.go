package worker

import (
	"context"
	"errors"
	"time"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/worker/postscript"
)

// Launcher runs jobs, each in a place of its own that is gone afterwards.
type Launcher interface {
	// Launch runs a job to its end. An error says that it could not be run; a
	// job that ran and failed has an exit code.
	Launch(ctx context.Context, j Job) (Exit, error)
}

// errLaunch says that a job did not get as far as a result.
var errLaunch = errors.New("the job could not be run")

// ErrRefused is a launcher's answer to a job that it will never run.
var ErrRefused = errors.New("refused")

// Job is a command that is run with nothing but what stands here.
type Job struct {
	Run     controlplane.RunID
	Step    string   // one job of a run and step at a time
	Attempt int      // at the step, from 1; 0 is 1
	Tree    string   // a folder on this machine that becomes the job's /work; the job owns it
	Image   string   // of the container; empty: the launcher's own, which has skep
	Command []string // in /work: skep and its arguments, or what the image has
	Limits  controlplane.Limits
	Env     map[string]string
	Secrets map[string]secrets.Value // files /run/secrets/<name>
	Files   map[string][]byte        // files below EventFolder
	// Swarm says whether the job reaches the Docker API and the network. Without
	// it there is nothing but the tree.
	Swarm    bool
	Deadline time.Duration
	// Grace is what it has between the request to end and its end; 0 is the
	// launcher's default.
	Grace time.Duration
	// Artefacts says whether files that the job leaves in the artefacts of its
	// /work are wanted: they are in the Tree afterwards. A container with an image
	// of its own has to run skep-job first, which hands them back.
	Artefacts bool
	// Answer says whether its standard output is data that the worker reads.
	// What is masked in a line for people, a word that is a secret too, would
	// break it: it comes back in Exit.Answer, besides its lines.
	Answer bool
	// Output gets each line as it is written, with secrets masked.
	Output func(stream, line string)
}

// Exit is how a job ended.
type Exit struct {
	Code int
	// Answer is what the job wrote to its standard output, as it wrote it, up to
	// MaxAnswer bytes. It may hold secrets: what is shown of it is masked first.
	Answer []byte
	// Killed says what ended a job that did not end by itself.
	Killed string
}

// MaxAnswer bounds the answer of a job.
const MaxAnswer = postscript.MaxAnswer
