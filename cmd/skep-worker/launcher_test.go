package main

import (
	"context"
	"log/slog"
	"maps"
	"path/filepath"
	"testing"

	"github.com/moby/moby/client"

	"skep/services/worker/swarmjob"
)

func TestNPM(t *testing.T) {
	const registry, network = "http://verdaccio:4873", "npm"
	for _, c := range []struct {
		registry, network string
		fails             bool
	}{
		{registry, network, false},
		{"", "", false},
		{registry, "", true},
		{"", network, true},
		{"verdaccio:4873", network, true},
		{"ftp://verdaccio", network, true},
	} {
		set := map[string]string{"SKEP_NPM_REGISTRY": c.registry, "SKEP_NPM_NETWORK": c.network}
		get := settings(func(name string) (string, bool) { v, ok := set[name]; return v, ok })
		npm, err := get.npm()
		if (err != nil) != c.fails || err == nil && npm != (swarmjob.NPM{Registry: c.registry, Network: c.network}) {
			t.Errorf("%q on %q is %+v, %v", c.registry, c.network, npm, err)
		}
	}
}

// TestSweeperEnds: a worker that is told to end has not failed.
func TestSweeperEnds(t *testing.T) {
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(t.TempDir(), "no.sock"))
	get := settings(func(name string) (string, bool) {
		v, ok := map[string]string{"SKEP_JOB_IMAGE": "skep-worker:1"}[name]
		return v, ok
	})
	_, background, err := get.launcher("", nil, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := background(ctx); err != nil {
		t.Errorf("ended with %v", err)
	}
}

// TestLaunchersDockerHost: a worker that the server started asks who its settings
// name, not its environment.
func TestLaunchersDockerHost(t *testing.T) {
	t.Setenv("DOCKER_HOST", "tcp://environment:2375")
	for host, want := range map[string]string{"tcp://settings:2375": "tcp://settings:2375", "": "tcp://environment:2375"} {
		set := map[string]string{"SKEP_JOB_IMAGE": "skep-worker:1", "DOCKER_HOST": host, "SKEP_JOB_DOCKER_HOST": "tcp://jobs:2375"}
		l, _, err := settings(func(name string) (string, bool) { v, ok := set[name]; return v, ok }).launcher("", nil, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if got := l.(swarmjob.Launcher).API.(*client.Client).DaemonHost(); got != want {
			t.Errorf("the launcher asks %s, not %s", got, want)
		}
	}
}

// TestJobsDockerHost: what jobs reach the Swarm by is not what starts them,
// where somebody says so.
func TestJobsDockerHost(t *testing.T) {
	for _, c := range []struct {
		own, tls, jobs string
		want           map[string]string // nil: it fails
	}{
		{"", "", "", map[string]string{"DOCKER_HOST": "unix:///var/run/docker.sock"}},
		{"tcp://launcher:2375", "1", "", map[string]string{"DOCKER_HOST": "tcp://launcher:2375", "DOCKER_TLS_VERIFY": "1"}},
		{"tcp://launcher:2375", "1", "tcp://jobs:2375", map[string]string{"DOCKER_HOST": "tcp://jobs:2375"}},
		{"", "", "jobs", nil},
	} {
		set := map[string]string{"DOCKER_HOST": c.own, "DOCKER_TLS_VERIFY": c.tls, "SKEP_JOB_DOCKER_HOST": c.jobs}
		got, _, err := settings(func(name string) (string, bool) { v, ok := set[name]; return v, ok }).swarm()
		if (err != nil) != (c.want == nil) || !maps.Equal(got, c.want) {
			t.Errorf("%+v: jobs get %q, %v", c, got, err)
		}
	}
}
