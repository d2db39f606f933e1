package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"skep/internal/swarmtest"
	"skep/services/controlplane"
	"skep/services/controlplane/store"
)

// over waits for the end of a run.
func (p *plane) over(id controlplane.RunID) controlplane.Run {
	p.Helper()
	var run controlplane.Run
	if err := swarmtest.Poll(3*time.Minute, func() (err error) {
		if run, err = p.store.Run(p.Context(), id); err == nil && !run.State.Over() {
			err = fmt.Errorf("run %s is %s", id, run.State)
		}
		return err
	}); err != nil {
		p.Fatal(err)
	}
	return run
}

// askedAndCancelled: a run that somebody asks for is about the head of what the
// cluster follows, and a deploy that is cancelled takes back what it began. The
// Swarm has the value that is given.
func (p *plane) askedAndCancelled(t *testing.T, value string) {
	token := p.tokenOf("operator", "deploy")
	// A deploy that would go on for ten minutes: the health check never says yes.
	stuck := strings.Replace(app("stuck", ""), "[CMD, /whoami, -healthcheck], interval: 1s", "[CMD, /nothing], interval: 1s, retries: 600", 1)
	commit := p.push("main", "ann", map[string]string{"app/stack.yaml": stuck})
	var deploy controlplane.Run
	if err := swarmtest.Poll(5*time.Minute, func() error {
		if got := p.value(); got != "VALUE=stuck" {
			return fmt.Errorf("web has %q", got)
		}
		running, _, err := p.store.ListRuns(t.Context(), store.RunFilter{Project: "homelab", State: controlplane.RunRunning}, store.Page{})
		if err == nil && len(running) != 1 {
			err = fmt.Errorf("%d runs are under way", len(running))
		}
		if err == nil {
			deploy = running[0]
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	p.call(token, http.MethodPost, "runs/"+string(deploy.ID)+"/cancel", nil, nil)
	report := p.reported(commit, "cancelled")
	if !strings.Contains(report.Title, "cancelled by token/operator") {
		t.Errorf("the report is %+v", report)
	}
	if got := p.value(); got != value {
		t.Errorf("after the cancelled deploy web has %q, not %q", got, value)
	}
	if run := p.over(deploy.ID); run.State != controlplane.RunCancelled {
		t.Errorf("the run is %s", run.State)
	}
	if leases, err := p.swarm.Docker("config", "ls", "-q", "--filter", "name=skep.lease"); err != nil || strings.TrimSpace(leases) != "" {
		t.Errorf("the lease is %q, %v", leases, err)
	}

	var states []string
	for _, d := range p.hub.Deployments(repository) {
		if d.Environment == "homelab" && d.Commit == commit {
			states = d.States
		}
	}
	if !slices.Equal(states, []string{"in_progress", "inactive"}) {
		t.Errorf("the deployment of the cancelled run is %q of %+v", states, p.hub.Deployments(repository))
	}

	var asked struct {
		ID controlplane.RunID `json:"id"`
	}
	p.call(token, http.MethodPost, "projects/homelab/runs", map[string]any{"kind": "plan", "stacks": []string{"app"}}, &asked)
	if run := p.over(asked.ID); run.State != controlplane.RunSucceeded {
		t.Fatalf("the plan that was asked for is %s: %s", run.State, run.Error)
	}
}

// rotates: a rotation that is asked for brings the services that use a secret to
// its new version, of what is deployed; another one has nothing to do.
func (p *plane) rotates(t *testing.T, service, from, to string) {
	t.Helper()
	mounted := func() string {
		text, err := p.swarm.Docker("service", "inspect", "-f", "{{range .Spec.TaskTemplate.ContainerSpec.Secrets}}{{.SecretName}} {{end}}", service)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(text)
	}
	token := p.tokenOf("rotation", "deploy")
	for i, want := range []string{"secrets rotated in 1 stack: app", "every service has the secrets that it should"} {
		if got := mounted(); i == 0 && got != from {
			t.Fatalf("before the rotation %s mounts %q, not %q", service, got, from)
		}
		var asked struct {
			ID controlplane.RunID `json:"id"`
		}
		p.call(token, http.MethodPost, "projects/homelab/runs", map[string]any{"kind": "rotate"}, &asked)
		run := p.over(asked.ID)
		if run.State != controlplane.RunSucceeded || !strings.Contains(string(run.Output), want) {
			t.Errorf("rotation %d is %s with %s: %s", i+1, run.State, run.Output, run.Error)
		}
		if got := mounted(); got != to {
			t.Errorf("after rotation %d %s mounts %q, not %q", i+1, service, got, to)
		}
	}
}
