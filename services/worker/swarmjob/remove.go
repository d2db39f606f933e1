package swarmjob

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"

	"skep/services/controlplane"
	"skep/services/worker"
)

// remove removes everything with all of the labels, and waits until no
// container of it runs, nor one of services that somebody else may have removed.
// It tries again until ctx ends: networks are in use for as long as containers
// end.
func (l Launcher) remove(ctx context.Context, services []string, marks ...string) error {
	pause := 100 * time.Millisecond
	for {
		found, err := things(ctx, l.API, marks...)
		for _, t := range found {
			if t.kind == kindService {
				services = append(services, t.name)
			}
			err = errors.Join(err, t.remove(ctx))
		}
		if err == nil && len(found) == 0 {
			if err = l.ended(ctx, services, marks); err == nil {
				return nil
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(context.Cause(ctx), err)
		case <-timer.C:
		}
		pause = min(2*pause, 500*time.Millisecond)
	}
}

// ended says whether no task of services that were removed runs. Another launch
// of the same step has services of the same names: its tasks have other labels.
func (l Launcher) ended(ctx context.Context, services, marks []string) error {
	if len(services) == 0 {
		return nil
	}
	r, err := l.API.TaskList(ctx, client.TaskListOptions{Filters: make(client.Filters).Add("name", services...)})
	if err != nil {
		return err
	}
	for _, t := range r.Items {
		if c := t.Spec.ContainerSpec; c == nil || !marked(c.Labels, marks) {
			continue
		}
		switch t.Status.State {
		case swarm.TaskStateStarting, swarm.TaskStateRunning:
			return fmt.Errorf("task %s runs on", t.ID)
		}
	}
	return nil
}

// marked says whether all marks are there, each a label or a label=value.
func marked(labels map[string]string, marks []string) bool {
	for _, m := range marks {
		name, want, valued := strings.Cut(m, "=")
		if got, ok := labels[name]; !ok || valued && got != want {
			return false
		}
	}
	return true
}

type kind string

const (
	kindService kind = "service"
	kindSecret  kind = "secret"
	kindConfig  kind = "config"
	kindNetwork kind = "network"
)

// thing is one that was created for a job.
type thing struct {
	kind   kind
	name   string
	labels map[string]string
	gone   func(context.Context) error
}

// remove takes a thing that is gone for removed.
func (t thing) remove(ctx context.Context) error {
	err := t.gone(ctx)
	if err == nil || errdefs.IsNotFound(err) || strings.HasSuffix(err.Error(), "not found") {
		return nil
	}
	return fmt.Errorf("remove %s %s: %w", t.kind, t.name, err)
}

// things lists what carries all of some labels, services first, as nothing can
// be removed that they use.
func things(ctx context.Context, api API, marks ...string) ([]thing, error) {
	var found []thing
	filters := make(client.Filters).Add("label", marks...)
	services, err := api.ServiceList(ctx, client.ServiceListOptions{Filters: filters})
	if err != nil {
		return nil, fmt.Errorf("list the services of jobs: %w", err)
	}
	for _, s := range services.Items {
		found = append(found, thing{kindService, s.Spec.Name, s.Spec.Labels, func(ctx context.Context) error {
			_, err := api.ServiceRemove(ctx, s.ID, client.ServiceRemoveOptions{})
			return err
		}})
	}
	secrets, err := api.SecretList(ctx, client.SecretListOptions{Filters: filters})
	if err != nil {
		return nil, fmt.Errorf("list the secrets of jobs: %w", err)
	}
	for _, s := range secrets.Items {
		found = append(found, thing{kindSecret, s.Spec.Name, s.Spec.Labels, func(ctx context.Context) error {
			_, err := api.SecretRemove(ctx, s.ID, client.SecretRemoveOptions{})
			return err
		}})
	}
	configs, err := api.ConfigList(ctx, client.ConfigListOptions{Filters: filters})
	if err != nil {
		return nil, fmt.Errorf("list the configs of jobs: %w", err)
	}
	for _, c := range configs.Items {
		found = append(found, thing{kindConfig, c.Spec.Name, c.Spec.Labels, func(ctx context.Context) error {
			_, err := api.ConfigRemove(ctx, c.ID, client.ConfigRemoveOptions{})
			return err
		}})
	}
	networks, err := api.NetworkList(ctx, client.NetworkListOptions{Filters: filters})
	if err != nil {
		return nil, fmt.Errorf("list the networks of jobs: %w", err)
	}
	for _, n := range networks.Items {
		if n.Scope != "swarm" {
			continue
		}
		found = append(found, thing{kindNetwork, n.Name, n.Labels, func(ctx context.Context) error {
			_, err := api.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{})
			return err
		}})
	}
	return found, nil
}

// Sweeper removes what launchers left that did not live to do it.
type Sweeper struct {
	API     API
	Runs    Runs
	Metrics *worker.Metrics // nil: nobody asks for them
	Log     *slog.Logger
}

// sweepTime is between two sweeps.
const sweepTime = time.Minute

// Run sweeps at once and every minute, until ctx ends.
func (s Sweeper) Run(ctx context.Context) {
	tick := time.NewTicker(sweepTime)
	defer tick.Stop()
	for {
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.Log.WarnContext(ctx, "not all that jobs left is removed", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Sweep removes the services, secrets, configs and networks of jobs whose run
// is over or whose time is. What is in use still is the next sweep's.
func (s Sweeper) Sweep(ctx context.Context) error {
	found, err := things(ctx, s.API, labelJob)
	if err != nil {
		return err
	}
	states := map[string]controlplane.RunState{}
	for _, t := range found {
		run := t.labels[labelRun]
		if _, known := states[run]; !known {
			var e error
			states[run], e = s.state(ctx, run)
			err = errors.Join(err, e)
		}
		// A run that was superseded ends what it changes the Swarm with.
		over := states[run].Over() && (states[run] != controlplane.RunSuperseded || !worker.Changes(t.labels[labelStep]))
		if !over && !expired(t.labels[labelExpires]) {
			continue
		}
		s.Log.InfoContext(ctx, "remove what a job left", "kind", t.kind, "name", t.name, "run", run)
		if e := t.remove(ctx); e != nil {
			err = errors.Join(err, e)
			continue
		}
		s.Metrics.Swept(string(t.kind))
	}
	if err == nil {
		s.Metrics.SweepDone()
	}
	return err
}

// state takes a run that nobody knows for a cancelled one, and one that cannot
// be looked up for running.
func (s Sweeper) state(ctx context.Context, run string) (controlplane.RunState, error) {
	id, err := controlplane.ParseRunID(run)
	if err != nil {
		return controlplane.RunCancelled, nil //nolint:nilerr // it is no run's
	}
	r, err := s.Runs.Run(ctx, id)
	if errors.Is(err, controlplane.ErrNotFound) {
		return controlplane.RunCancelled, nil
	}
	if err != nil {
		return controlplane.RunRunning, fmt.Errorf("look up the run of a job: %w", err)
	}
	return r.State, nil
}

// expired takes a time that nobody can read for over.
func expired(at string) bool {
	t, err := time.Parse(time.RFC3339, at)
	return err != nil || time.Now().After(t)
}
