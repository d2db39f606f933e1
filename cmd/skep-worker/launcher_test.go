package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

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
	_, background, err := get.launcher("", nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := background(ctx); err != nil {
		t.Errorf("ended with %v", err)
	}
}
