package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	"github.com/moby/moby/client"

	"skep/services/controlplane/child"
	"skep/services/worker"
	"skep/services/worker/process"
	"skep/services/worker/swarmjob"
)

// launcher is where jobs run: on the Swarm if there is an image for them, else
// as processes of this machine. What runs beside it is in background.
func (get settings) launcher(skep string, runs swarmjob.Runs, counts *worker.Metrics, log *slog.Logger) (l worker.Launcher, background func(context.Context) error, err error) {
	image, _ := get("SKEP_JOB_IMAGE")
	commands := get.list("SKEP_LOCAL_COMMANDS")
	if image == "" {
		if skep == "" {
			if skep, err = child.Beside("skep"); err != nil {
				return nil, nil, fmt.Errorf("%w, or say where with -skep", err)
			}
		}
		return process.Launcher{Skep: skep, Commands: commands}, func(context.Context) error { return nil }, nil
	}
	if len(commands) > 0 || skep != "" {
		return nil, nil, errors.New("jobs run on the Swarm, as SKEP_JOB_IMAGE says: leave out SKEP_LOCAL_COMMANDS and -skep")
	}
	options := []client.Opt{client.FromEnv}
	if host, ok := get("DOCKER_HOST"); ok && host != "" { // a child's settings are not in its environment
		options = append(options, client.WithHost(host))
	}
	api, err := client.New(options...)
	if err != nil {
		return nil, nil, fmt.Errorf("talk to Docker: %w", err)
	}
	jobs := swarmjob.Launcher{
		API: api, Image: image, Log: log,
		Networks: get.list("SKEP_JOB_NETWORKS"), TaskNetworks: get.list("SKEP_TASK_NETWORKS"), Constraints: get.list("SKEP_JOB_CONSTRAINTS"),
	}
	if jobs.NPM, err = get.npm(); err != nil {
		return nil, nil, err
	}
	sweeper := swarmjob.Sweeper{API: api, Runs: runs, Metrics: counts, Log: log}
	return jobs, func(ctx context.Context) error {
		sweeper.Run(ctx)
		return api.Close()
	}, nil
}

// npm is the registry of tasks with an image of their own. One is of no use
// without a way to it.
func (get settings) npm() (swarmjob.NPM, error) {
	registry, _ := get("SKEP_NPM_REGISTRY")
	network, _ := get("SKEP_NPM_NETWORK")
	if (registry == "") != (network == "") {
		return swarmjob.NPM{}, errors.New("SKEP_NPM_REGISTRY and SKEP_NPM_NETWORK go together: the registry's URL, and an internal network that it is on")
	}
	if u, err := url.Parse(registry); registry != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		return swarmjob.NPM{}, fmt.Errorf("SKEP_NPM_REGISTRY is %q, which is no URL", registry)
	}
	return swarmjob.NPM{Registry: registry, Network: network}, nil
}

// list is a setting with commas between.
func (get settings) list(name string) (out []string) {
	value, _ := get(name)
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}
