package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"skep/internal/swarmtest"
)

// routedApp runs its task on any node but the ingress's.
const routedApp = `
name: app
services:
  web:
    image: ghcr.io/skep-sh/whoami:0.1.0
    x-ingress: {host: app, port: 8080}
    healthcheck: {test: [CMD, /whoami, -healthcheck], interval: 1s}
    mem_limit: 64m
    deploy: {placement: {constraints: [node.hostname != node1]}}
`

// A generated ingress, behind the docker proxy that it is generated with,
// follows a task to another node.
func TestIngressFollowsATask(t *testing.T) {
	t.Parallel()
	c := swarmtest.StartCluster(t, 3)
	edge := &swarmtest.Swarm{Node: c.Nodes[0]}
	for image, command := range map[string]string{
		"ghcr.io/skep-sh/skep-dockerproxy:0.1.0": "skep-dockerproxy",
		"ghcr.io/skep-sh/whoami:0.1.0":           "whoami",
	} {
		if err := c.Import(image, swarmtest.Binary(t, "skep/cmd/"+command)); err != nil {
			t.Fatal(err)
		}
	}
	if err := edge.Import("ghcr.io/skep-sh/skep-ingress:0.1.0", swarmtest.Binary(t, "skep/cmd/skep-ingress")); err != nil {
		t.Fatal(err)
	}
	b := bedOn(t, edge)
	b.example("cluster.yaml")
	b.example("ingress/stack.yaml", "  caddy:\n", "  caddy:\n    x-pin: node1\n", "interval: 10s", "interval: 1s", "start_period: 10s", "start_period: 1m")
	b.write("app/stack.yaml", routedApp)
	b.skep(t, exitDone, "deploy")

	task, place := b.waitTask("app_web", "")
	b.waitRouted(task)
	docker(t, edge, "node", "update", "--availability", "drain", place)
	moved, _ := b.waitTask("app_web", place)
	b.waitRouted(moved)
}

// example writes a file of the examples, with replacements.
func (b *deployBed) example(name string, replace ...string) {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join("../../stacks/examples", name))
	if err != nil {
		b.t.Fatal(err)
	}
	edited := strings.NewReplacer(replace...).Replace(string(text))
	if len(replace) > 0 && edited == string(text) {
		b.t.Fatalf("%s: nothing to replace: %q", name, replace)
	}
	b.write(name, edited)
}

// waitTask waits until the only task of a service runs, elsewhere than on a
// node, and returns the host name of its container and where it is.
func (b *deployBed) waitTask(service, elsewhere string) (host, place string) {
	b.t.Helper()
	err := swarmtest.Poll(3*time.Minute, func() error {
		tasks, err := b.s.Docker("service", "ps", "-q", "--no-trunc", "-f", "desired-state=running", service)
		if err != nil {
			return err
		}
		task, err := b.s.Docker("inspect", "--type", "task", "-f", "{{.Status.State}} {{.Status.ContainerStatus.ContainerID}} {{.NodeID}}", strings.TrimSpace(tasks))
		if err != nil {
			return err
		}
		words := strings.Fields(task)
		if len(words) != 3 || words[0] != "running" {
			return fmt.Errorf("task %s", task)
		}
		if place, err = b.s.Docker("node", "inspect", "-f", "{{.Description.Hostname}}", words[2]); err != nil {
			return err
		}
		host, place = words[1][:12], strings.TrimSpace(place)
		if place == elsewhere {
			return fmt.Errorf("the task is on %s", place)
		}
		return nil
	})
	if err != nil {
		b.t.Fatalf("wait for a task of %s: %v", service, err)
	}
	return host, place
}

// waitRouted waits until the ingress answers with a task. It asks Swarm for
// tasks of other nodes every five seconds.
func (b *deployBed) waitRouted(task string) {
	b.t.Helper()
	err := swarmtest.Poll(3*time.Minute, func() error {
		status, body, err := b.s.HTTP("app.localhost", "/")
		if err == nil && (status != 200 || !strings.Contains(body, "Hostname: "+task+"\n")) {
			err = fmt.Errorf("got %d %q, want task %s", status, body, task)
		}
		return err
	})
	if err != nil {
		logs, _ := b.s.Docker("service", "logs", "--raw", "--tail", "50", "ingress_caddy")
		b.t.Fatalf("%v\n%s", err, logs)
	}
}
