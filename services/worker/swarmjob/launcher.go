// Package swarmjob launches jobs on a Swarm: each is a service whose one container runs once,
// on a network of its own, with a secret for each credential, and all of it is
// removed afterwards, by the launcher or, if that died, by a sweeper.
package swarmjob

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/moby/moby/client"

	"skep/services/controlplane"
	"skep/services/worker"
	"skep/services/worker/tree"
)

// API is what is called of the Docker API of a manager.
type API interface {
	NetworkCreate(context.Context, string, client.NetworkCreateOptions) (client.NetworkCreateResult, error)
	NetworkList(context.Context, client.NetworkListOptions) (client.NetworkListResult, error)
	NetworkRemove(context.Context, string, client.NetworkRemoveOptions) (client.NetworkRemoveResult, error)
	ConfigCreate(context.Context, client.ConfigCreateOptions) (client.ConfigCreateResult, error)
	ConfigList(context.Context, client.ConfigListOptions) (client.ConfigListResult, error)
	ConfigRemove(context.Context, string, client.ConfigRemoveOptions) (client.ConfigRemoveResult, error)
	SecretCreate(context.Context, client.SecretCreateOptions) (client.SecretCreateResult, error)
	SecretList(context.Context, client.SecretListOptions) (client.SecretListResult, error)
	SecretRemove(context.Context, string, client.SecretRemoveOptions) (client.SecretRemoveResult, error)
	ServiceCreate(context.Context, client.ServiceCreateOptions) (client.ServiceCreateResult, error)
	ServiceList(context.Context, client.ServiceListOptions) (client.ServiceListResult, error)
	ServiceRemove(context.Context, string, client.ServiceRemoveOptions) (client.ServiceRemoveResult, error)
	ServiceLogs(context.Context, string, client.ServiceLogsOptions) (client.ServiceLogsResult, error)
	TaskList(context.Context, client.TaskListOptions) (client.TaskListResult, error)
}

var _ API = (*client.Client)(nil)

// Endpoints are those of the Docker API that the Launcher and the Sweeper call,
// as ALLOW of a docker proxy takes them. With them, and no switch besides, they
// do all that they do.
var Endpoints = []string{
	"GET /_ping",
	"GET /networks", "POST /networks/create", "DELETE /networks/{id}",
	"GET /configs", "POST /configs/create", "DELETE /configs/{id}",
	"GET /secrets", "POST /secrets/create", "DELETE /secrets/{id}",
	"GET /services", "POST /services/create", "DELETE /services/{id}", "GET /services/{id}/logs",
	"GET /tasks",
}

// Launcher runs jobs on a Swarm.
type Launcher struct {
	API API
	// Image is the one of jobs that name none: the worker's own. It has /skep
	// and /skep-job. Other images have skep-job as their entrypoint if they hand
	// back what a job leaves.
	Image string
	// Networks are those of jobs that reach the Swarm, with the docker proxy and
	// the secrets' server on them; TaskNetworks those of jobs with an image of
	// their own. Without any a job gets a network that nothing else is on.
	Networks     []string
	TaskNetworks []string
	// NPM is where npm in a task finds its packages.
	NPM NPM
	// Constraints are on the nodes that take jobs, as in node.labels.jobs==yes.
	Constraints []string
	Log         *slog.Logger

	place    time.Duration // 0: placeTime
	handBack time.Duration // 0: handBackTime
}

var _ worker.Launcher = Launcher{}

// NPM is a registry of packages in the Swarm, and an internal network that it
// is on. Tasks with an image of their own get both; the zero NPM is none.
type NPM struct {
	Registry string // URL
	Network  string
}

const (
	// defaultDeadline is that of a job which has none.
	defaultDeadline = time.Hour
	// placeTime is how long a job waits for a node that takes it.
	placeTime = time.Minute
	// startTime is what a node may take to fetch the image and start the job.
	startTime = 5 * time.Minute
	// handBackTime is for skep-job, after the deadline, to hand back what the job
	// left. A job without skep-job is ended after it.
	handBackTime = time.Minute
	// removeTime is what the removal may take besides the container's end.
	removeTime = time.Minute
)

var errDeadline = errors.New("the job's deadline is over")

// runTime is what a job's container may run.
func (l Launcher) runTime(j worker.Job) time.Duration {
	return j.Deadline + graceOf(j) + cmp.Or(l.handBack, handBackTime)
}

// Launch runs a job. What is left of one of the same run and step, whose
// launcher is gone or has lost the step, is ended first.
func (l Launcher) Launch(ctx context.Context, j worker.Job) (worker.Exit, error) {
	if j.Deadline <= 0 {
		j.Deadline = defaultDeadline
	}
	launch := rand.Text()
	p, err := newPlan(l, j, launch)
	if err != nil {
		return worker.Exit{}, err
	}
	if err := l.remove(ctx, nil, labelRun+"="+string(j.Run), labelStep+"="+j.Step); err != nil {
		return worker.Exit{}, fmt.Errorf("remove what is left of an earlier job: %w", err)
	}
	// What is created is found by its label: the answer to a call may get lost.
	defer func() {
		rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), graceOf(j)+removeTime)
		defer cancel()
		rest, end := phase(rest, "remove job")
		defer end()
		if err := l.remove(rest, []string{p.name}, labelLaunch+"="+launch); err != nil {
			l.Log.WarnContext(ctx, "a job is not removed yet; the sweeper goes on", "run", j.Run, "job", p.name, "error", err)
		}
	}()
	// skep-job ends the job at its deadline, and hands back what it left.
	ctx, cancel := context.WithTimeoutCause(ctx, startTime+l.runTime(j), errDeadline)
	defer cancel()
	service, err := l.create(ctx, p)
	if err != nil {
		return worker.Exit{}, err
	}
	return l.watch(ctx, p, service)
}

// create makes all that a job has, the service last.
func (l Launcher) create(ctx context.Context, p plan) (service string, err error) {
	ctx, end := phase(ctx, "create job")
	defer end()
	if p.network != nil {
		if _, err := l.API.NetworkCreate(ctx, p.name, *p.network); err != nil {
			return "", fmt.Errorf("create the job's network: %w", err)
		}
	}
	for i := range p.configs {
		made, err := l.API.ConfigCreate(ctx, client.ConfigCreateOptions{Spec: p.configs[i]})
		if err != nil {
			return "", fmt.Errorf("create a config with the job's tree: %w", err)
		}
		p.container().Configs[i].ConfigID = made.ID
	}
	for i := range p.secrets {
		made, err := l.API.SecretCreate(ctx, client.SecretCreateOptions{Spec: p.secrets[i]})
		if err != nil {
			return "", fmt.Errorf("create a secret of the job: %w", err)
		}
		p.container().Secrets[i].SecretID = made.ID
	}
	made, err := l.API.ServiceCreate(ctx, client.ServiceCreateOptions{Spec: p.service})
	if err != nil {
		return "", fmt.Errorf("create the job's service: %w", err)
	}
	return made.ID, nil
}

const (
	// A config holds less than 1,024,000 bytes.
	chunkBytes = 999_000
	maxChunks  = 32
)

// chunks packs a tree.
func chunks(dir string) ([][]byte, error) {
	var archive bytes.Buffer
	if err := tree.Pack(dir, &archive); err != nil {
		return nil, fmt.Errorf("pack the job's tree: %w", err)
	}
	if n := archive.Len(); n > maxChunks*chunkBytes {
		return nil, fmt.Errorf("%w: the tree has %.1f MB when it is compressed, and a Swarm takes %.1f MB of it: "+
			"keep what is no stack file out of the repository, or in another folder than the project's",
			worker.ErrRefused, float64(n)/1e6, float64(maxChunks*chunkBytes)/1e6)
	}
	return slices.Collect(slices.Chunk(archive.Bytes(), chunkBytes)), nil
}

// Labels of all that belongs to a job.
const (
	labelJob     = "skep.job" // the step
	labelRun     = "skep.job.run"
	labelStep    = labelJob
	labelLaunch  = "skep.job.launch"
	labelExpires = "skep.job.expires" // RFC 3339
)

// slack is what start, removal and a clock that is wrong may add to a job's time.
const slack = 15 * time.Minute

func labels(j worker.Job, launch string) map[string]string {
	return map[string]string{
		labelJob: j.Step, labelRun: string(j.Run), labelLaunch: launch,
		labelExpires: time.Now().Add(Launcher{}.runTime(j) + slack).UTC().Format(time.RFC3339),
	}
}

// hidden are the values of a job's secrets.
func hidden(j worker.Job) ([][]byte, error) {
	var all [][]byte
	for _, name := range slices.Sorted(maps.Keys(j.Secrets)) {
		content, err := j.Secrets[name].Bytes()
		if err == nil && len(content) == 0 {
			err = errors.New("it is empty, which a Swarm secret cannot be")
		}
		if err != nil {
			return nil, fmt.Errorf("hand over secret %s: %w", name, err)
		}
		all = append(all, content)
	}
	return all, nil
}

// Runs says what became of a run.
type Runs interface {
	Run(ctx context.Context, id controlplane.RunID) (controlplane.Run, error)
}
