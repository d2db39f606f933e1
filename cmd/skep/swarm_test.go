package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"skep/internal/swarmtest"
)

// swarmApp is deployed beside the examples: a host shared by path, a secret in
// a variable that asks for a file, a file, a job, and a reader of the Docker API.
const swarmApp = `
name: app
services:
  api:
    image: ghcr.io/skep-sh/whoami:0.1.0
    environment: {TOKEN_FILE: op://test/api/token}
    x-files: ["conf.txt:/conf.txt"]
    x-ingress: {host: app, port: 8080, paths: ["/api/*"], strip: /api}
    healthcheck: &health {test: [CMD, /whoami, -healthcheck], interval: 5s}
    mem_limit: 64m
  web:
    image: ghcr.io/skep-sh/whoami:0.1.0
    environment: {GREETING: "a $$b"}
    x-ingress: {host: app, port: 8080, maintenance: {retry_after: 7s, message: Back soon}}
    healthcheck: *health
    mem_limit: 64m
  away:
    image: ghcr.io/skep-sh/whoami:0.1.0
    deploy: {replicas: 0}
    x-ingress: {host: away, port: 8080, maintenance: {retry_after: 7s, message: Back soon}}
    healthcheck: *health
    mem_limit: 64m
  alone:
    image: ghcr.io/skep-sh/whoami:0.1.0
    x-docker-api: [containers]
    healthcheck: *health
    mem_limit: 64m
  once:
    image: skep:test
    command: version
    x-job: {before: [web]}
    mem_limit: 64m
`

// TestGeneratedStacksOnASwarm generates a project, deploys it with the bundle's
// own script and `docker stack deploy`, and asks it through the ingress.
func TestGeneratedStacksOnASwarm(t *testing.T) {
	t.Parallel()
	s := swarmtest.Start(t)
	for image, command := range map[string]string{
		"ghcr.io/skep-sh/skep-ingress:0.1.0":     "skep-ingress",
		"ghcr.io/skep-sh/skep-dockerproxy:0.1.0": "skep-dockerproxy",
		"ghcr.io/skep-sh/whoami:0.1.0":           "whoami",
		"skep:test":                              "skep",
	} {
		if err := s.Import(image, swarmtest.Binary(t, "skep/cmd/"+command)); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../../stacks/examples")); err != nil {
		t.Fatal(err)
	}
	cluster, err := os.ReadFile(filepath.Join(dir, "cluster.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	ingress, err := os.ReadFile(filepath.Join(dir, "ingress/stack.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"ingress/stack.yaml": strings.NewReplacer(sooner...).Replace(string(ingress)),
		"app/stack.yaml":     swarmApp, "app/conf.txt": "x\n", "edge/stack.yaml": edgeStack, "cluster.yaml": edgeCluster.Replace(string(cluster)),
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	build := filepath.Join(dir, "build")
	var out strings.Builder
	if code := run(t.Context(), []string{"skep", "generate", "-C", dir, "-o", build}, nil, &out, &out); code != exitDone {
		t.Fatalf("skep generate: exit code %d\n%s", code, &out)
	}
	for _, secret := range []string{"app_api-token", "whoami_whoami-token"} {
		if _, err := s.Docker("secret", "create", secret, filepath.Join(dir, "app/conf.txt")); err != nil {
			t.Fatal(err)
		}
	}
	// Twice: everything that the script creates may be there already.
	for range 2 {
		deploy := exec.CommandContext(t.Context(), filepath.Join(build, "deploy.sh"))
		deploy.Env = append(os.Environ(), "DOCKER_HOST="+s.Host(), "DEPLOY_FLAGS=--resolve-image never")
		if out, err := deploy.CombinedOutput(); err != nil {
			t.Fatalf("deploy.sh: %v\n%s", err, out)
		}
	}
	for _, stack := range []string{"ingress", "whoami", "app", "edge"} {
		if err := s.WaitRunning(stack, 5*time.Minute); err != nil {
			t.Fatal(err)
		}
	}

	answers := []struct {
		host, path string
		status     int
		text       string
	}{
		{"whoami.localhost", "/", 200, "Host: whoami.localhost\n"},
		{"whoami.localhost", "/", 200, "Secret: whoami-token is present\n"},
		{"app.localhost", "/x", 200, "Request: GET /x\n"},
		{"app.localhost", "/api/users", 200, "Request: GET /users\n"},
		{"away.localhost", "/", 503, "Back soon"},
	}
	for _, want := range answers {
		err := swarmtest.Poll(3*time.Minute, func() error {
			status, body, err := s.HTTP(want.host, want.path)
			if err == nil && (status != want.status || !strings.Contains(body, want.text)) {
				err = fmt.Errorf("got %d %q", status, body)
			}
			return err
		})
		if err != nil {
			logs, _ := s.Docker("service", "logs", "--raw", "--tail", "50", "ingress_caddy")
			t.Errorf("%s%s: %v\n%s", want.host, want.path, err, logs)
		}
	}

	t.Run("networks are scoped", func(t *testing.T) {
		for network, want := range map[string]string{
			"app":                    "true",
			"app_alone-docker-proxy": "true",
			"ingress_internal":       "true",
			"proxy_network":          "false",
			"whoami":                 "true",
		} {
			if got := docker(t, s, "network", "inspect", "-f", "{{.Internal}}", network); got != want {
				t.Errorf("network %s: internal is %s, want %s", network, got, want)
			}
		}
		if got := docker(t, s, "service", "inspect", "-f", "{{len .Spec.TaskTemplate.Networks}}", "app_alone"); got != "2" {
			t.Errorf("app_alone is on %s networks, want its stack's and its proxy's", got)
		}
		if got := docker(t, s, "service", "inspect", "-f", "{{len .Spec.TaskTemplate.Networks}}", "app_alone-docker-proxy"); got != "1" {
			t.Errorf("the docker proxy is on %s networks, want its own alone", got)
		}
	})
	t.Run("secrets are paths", func(t *testing.T) {
		env := docker(t, s, "service", "inspect", "-f", "{{.Spec.TaskTemplate.ContainerSpec.Env}}", "app_api")
		if env != "[TOKEN_FILE=/run/secrets/api-token]" {
			t.Errorf("environment %s", env)
		}
		env = docker(t, s, "service", "inspect", "-f", "{{.Spec.TaskTemplate.ContainerSpec.Env}}", "app_web")
		if env != "[GREETING=a $b]" {
			t.Errorf("environment %s", env)
		}
	})
	t.Run("the job has run", func(t *testing.T) {
		if logs := docker(t, s, "service", "logs", "--raw", "app_once"); !strings.Contains(logs, "skep") {
			t.Errorf("the job said %q", logs)
		}
	})
	t.Run("a client's address comes from the tunnel alone", func(t *testing.T) { (&edge{s, t}).clientAddress() })
	t.Run("HTTP/3", func(t *testing.T) { (&edge{s, t}).http3() })
	t.Run("a host stays with the stack that had it first", func(t *testing.T) { (&edge{s, t}).hijack() })
	t.Run("the engine restarts", func(t *testing.T) { (&edge{s, t}).engineRestart() })
}

func docker(t *testing.T, s *swarmtest.Swarm, args ...string) string {
	t.Helper()
	out, err := s.Docker(args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}
