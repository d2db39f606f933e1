//go:build stack

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"skep/internal/porttest"
	"skep/internal/swarmtest"
	"skep/services/controlplane"
	"skep/services/controlplane/integration/github/githubtest"
)

// stackCluster is the catalogue's, with what a Swarm without names of its own
// can do.
const stackCluster = `
name: homelab
nodes: [node1, node2]
tiers: [infrastructure, platform, application]
zones:
  public: {domain: example.com}
ingress:
  network: proxy_network
  default: {zone: public, auth: none}
  tls: {public: {mode: "off"}}
networks:
  proxy_network: {subnet: 10.128.0.0/24}
  op-connect:    {internal: true}
  metrics:       {internal: true}
metrics: metrics
secrets: {provider: onepassword-connect, host: "http://op-connect-api:8080"}
defaults: {resources: {memory: 512M}, update: {monitor: 1s}}
`

// stackPreviews joins the cluster's file when there is an app.
const stackPreviews = "previews: {stacks: [app], secrets: [op://previews]}\n"

// stackConnect stands in for 1Password Connect in the Swarm.
const stackConnect = `
name: op-connect
x-tier: infrastructure
services:
  op-connect-api:
    image: fakeconnect:0.1.0
    command: [-listen, "0.0.0.0:8080", -items, /items.yaml]
    environment: {OP_CONNECT_TOKEN_FILE: op://homelab/op-connect/token}
    x-uses: [op-connect]
    mem_limit: 64m
    deploy: {endpoint_mode: dnsrr}
`

// stackApp is what is pushed.
func stackApp(hostname string) string {
	return `
name: app
services:
  web:
    image: ghcr.io/skep-sh/whoami:0.1.0
    hostname: ` + hostname + `
    environment: {TOKEN_FILE: op://previews/app/token} # the first push makes it
    x-ingress: {host: app, port: 8080}
    healthcheck: {test: [CMD, /whoami, -healthcheck], interval: 1s, start_period: 10s}
    mem_limit: 64m
`
}

// kept are the services of the catalogue's stack whose images can be made here.
// The others are not ours, and nothing of what is tested reaches them.
var kept = []string{
	"server", "worker-critical", "worker-normal", "worker-batch", "job-docker-proxy",
	"migrate", "hatchet-engine", "hatchet-migrate", "postgresql",
}

// catalogued is the catalogue's stack without the services that cannot run
// here, and without virtual addresses, which not every kernel carries.
func catalogued(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile("../../stacks/platform/control-plane/stack.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var stack map[string]any
	if err := yaml.Unmarshal(content, &stack); err != nil {
		t.Fatal(err)
	}
	services := stack["services"].(map[string]any)
	for name, service := range services {
		s := service.(map[string]any)
		if !slices.Contains(kept, name) {
			delete(services, name)
			continue
		}
		if job, ok := s["x-job"].(map[string]any); ok {
			job["before"] = slices.DeleteFunc(job["before"].([]any), func(v any) bool { return !slices.Contains(kept, v.(string)) })
			continue
		}
		if s["x-pin"] != nil {
			s["x-pin"] = "node2"
		}
		deploy, _ := s["deploy"].(map[string]any)
		if deploy == nil {
			deploy = map[string]any{}
		}
		deploy["endpoint_mode"] = "dnsrr"
		s["deploy"] = deploy
	}
	if len(services) != len(kept) {
		t.Fatalf("of the catalogue's stack %d services are left, not %d", len(services), len(kept))
	}
	stack["volumes"] = map[string]any{"database": nil}
	for key := range stack { // anchors, which are resolved
		if strings.HasPrefix(key, "x-") && key != "x-tier" {
			delete(stack, key)
		}
	}
	out, err := yaml.Marshal(stack)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// stackPlane is a control plane that is a stack of the Swarm.
type stackPlane struct {
	*plane
	cluster *swarmtest.Cluster
	files   map[string]string // of the project, until they are pushed
	dir     string            // of the project
	env     []string          // of skep
}

// The catalogue's stack runs: its jobs before its services, its server twice,
// its workers by class, their jobs as services that a docker proxy lets them
// make. It deploys what is pushed, itself included, previews what is asked for,
// and loses nothing when a server dies.
func TestControlPlaneStack(t *testing.T) {
	t.Parallel()
	c := swarmtest.StartCluster(t, 2)
	s := &stackPlane{
		plane:   &plane{T: t, swarm: &swarmtest.Swarm{Node: c.Nodes[0]}, log: &log{}},
		cluster: c, dir: t.TempDir(),
	}
	archives := porttest.Address(t)
	hub := newRelay(t, c.Nodes[0], archives)
	s.images(hub.certificate)
	s.project()
	t.Cleanup(func() {
		if t.Failed() {
			s.explain()
		}
	})
	s.skep("secrets", "sync")
	locked, err := os.ReadFile(filepath.Join(s.dir, "secrets.lock"))
	if err != nil {
		t.Fatal(err)
	}
	s.files["secrets.lock"] = string(locked)
	delete(s.files, "cluster.yaml")
	s.skep("deploy", "--resolve-image", "never")
	for _, stack := range []string{"op-connect", "ingress", "control-plane"} {
		if err := c.Nodes[0].WaitRunning(stack, 3*time.Minute); err != nil {
			t.Fatal(err)
		}
	}

	s.command = s.inServer
	s.address = s.front()
	key := s.openHub(githubtest.Options{ArchiveAddress: archives})
	hub.open(s.hub.URL())
	s.tell(hub.url, key)

	s.pushApp("first")
	s.answers("app.example.com", "first")

	t.Run("a pull request", func(t *testing.T) {
		s := s.on(t)
		s.allowPreviews()
		s.pullRequest("example.com", stackApp)
	})

	t.Run("a server dies", func(t *testing.T) {
		s := s.on(t)
		s.kill("control-plane_server")
		s.pushApp("second")
		s.answers("app.example.com", "second")
		if err := c.Nodes[0].WaitRunning("control-plane", 2*time.Minute); err != nil {
			t.Error(err)
		}
	})

	t.Run("what jobs leave", func(t *testing.T) {
		for _, kind := range []string{"service", "secret", "config", "network"} {
			if err := swarmtest.Poll(time.Minute, func() error {
				left, err := s.swarm.Docker(kind, "ls", "-q", "--filter", "label=skep.job")
				if err == nil && strings.TrimSpace(left) != "" {
					err = fmt.Errorf("%s of jobs: %s", kind, left)
				}
				return err
			}); err != nil {
				t.Error(err)
			}
		}
	})
}

// on is the same plane for a part of a test.
func (s *stackPlane) on(t *testing.T) *stackPlane {
	part, p := *s, *s.plane
	p.T, part.plane = t, &p
	return &part
}

// project writes the cluster's files, and has a store with its secrets.
func (s *stackPlane) project() {
	s.Helper()
	t := s.T
	random := func() string {
		b := make([]byte, 32)
		if _, err := rand.Read(b); err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(b)
	}
	made := filepath.Join(t.TempDir(), "hatchet")
	server := swarmtest.Binary(t, "skep/cmd/skep-server")
	if out, err := exec.Command(server, "hatchet", "credentials", "--url", "https://hatchet.admin.example.com:8443", made).CombinedOutput(); err != nil {
		t.Fatalf("hatchet credentials: %v\n%s", err, out)
	}
	engine := map[string]string{}
	for _, name := range []string{"master-keyset", "jwt-private-keyset", "jwt-public-keyset", "cookie-secrets", "token"} {
		content, err := os.ReadFile(filepath.Join(made, name))
		if err != nil {
			t.Fatal(err)
		}
		engine[name] = string(content)
	}
	token := random()
	items := map[string]any{}
	for title, fields := range map[string]map[string]string{
		"control-plane": {"skep": random(), "hatchet": random(), "gotrue": random(), "postgres": random(), "encryption-key": random()},
		"hatchet":       engine,
		"op-connect":    {"token": token},
	} {
		items[title] = map[string]any{"version": 1, "fields": fields}
	}
	store, err := yaml.Marshal(map[string]any{
		"homelab":  items,
		"previews": map[string]any{"app": map[string]any{"version": 1, "fields": map[string]string{"token": random()}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.files = map[string]string{
		"cluster.yaml": stackCluster, "infrastructure/op-connect/stack.yaml": stackConnect,
		"platform/control-plane/stack.yaml": catalogued(t),
	}
	for name, from := range map[string]string{
		"infrastructure/ingress/stack.yaml":     "examples/ingress/stack.yaml",
		"platform/control-plane/extensions.sql": "platform/control-plane/extensions.sql",
		"platform/postgres/databases.sh":        "platform/postgres/databases.sh",
	} {
		content, err := os.ReadFile(filepath.Join("../../stacks", from))
		if err != nil {
			t.Fatal(err)
		}
		s.files[name] = string(content)
	}
	// Its ports are those of the first node.
	s.files["infrastructure/ingress/stack.yaml"] = strings.Replace(s.files["infrastructure/ingress/stack.yaml"], "  caddy:\n", "  caddy:\n    x-pin: node1\n", 1)
	for name, content := range s.files {
		file := filepath.Join(s.dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	i := newImage(t)
	i.from("/fakeconnect", swarmtest.Binary(t, "skep/cmd/fakeconnect"))
	i.file("/items.yaml", string(store), 0o444)
	i.on(s.cluster.Nodes, "fakeconnect:0.1.0", `ENTRYPOINT ["/fakeconnect"]`)
	file := filepath.Join(t.TempDir(), "items.yaml")
	if err := os.WriteFile(file, store, 0o600); err != nil {
		t.Fatal(err)
	}
	address := porttest.Address(t)
	connect := exec.Command(swarmtest.Binary(t, "skep/cmd/fakeconnect"), "-listen", address, "-items", file)
	connect.Env, connect.Stderr = []string{"OP_CONNECT_TOKEN=" + token}, s.log
	if err := connect.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = connect.Process.Kill()
		_ = connect.Wait()
	})
	s.env = append(os.Environ(), "DOCKER_HOST="+s.swarm.Host(), "OP_CONNECT_HOST=http://"+address, "OP_CONNECT_TOKEN="+token)
}

func (s *stackPlane) skep(args ...string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, swarmtest.Binary(s.T, "skep/cmd/skep"), append([]string{"-C", s.dir}, args...)...)
	cmd.Env = s.env
	if out, err := cmd.CombinedOutput(); err != nil {
		s.Fatalf("skep %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// explain shows what the services of the stack said.
func (s *stackPlane) explain() {
	services := []string{"op-connect_op-connect-api"}
	for _, name := range kept {
		services = append(services, "control-plane_"+name)
	}
	for _, service := range services {
		tasks, _ := s.swarm.Docker("service", "ps", "--no-trunc", "--format", "{{.Name}} {{.Node}} {{.CurrentState}} {{.Error}}", service)
		logs := exec.Command("docker", "-H", s.swarm.Host(), "service", "logs", "--raw", "--tail", "15", service)
		said, err := logs.CombinedOutput()
		s.Logf("%s:\n%s\n%s %v", service, tasks, said, err)
	}
}

// container is one of a service that runs, and its node.
func (s *stackPlane) container(service string) (*swarmtest.Node, string) {
	s.Helper()
	for _, n := range s.cluster.Nodes {
		ids, err := n.Docker("ps", "-q", "--filter", "label=com.docker.swarm.service.name="+service)
		if err != nil {
			s.Fatal(err)
		}
		if id, _, _ := strings.Cut(ids, "\n"); id != "" {
			return n, id
		}
	}
	s.Fatalf("no container of %s runs", service)
	return nil, ""
}

// inServer runs a command in a container of the server, as the guide does.
func (s *stackPlane) inServer(args ...string) *exec.Cmd {
	n, id := s.container("control-plane_server")
	return exec.Command("docker", append([]string{"-H", n.Host(), "exec", id, "/skep-server"}, args...)...)
}

func (s *stackPlane) kill(service string) {
	s.Helper()
	n, id := s.container(service)
	if _, err := n.Docker("kill", "--signal", "KILL", id); err != nil {
		s.Fatal(err)
	}
}

// front passes requests on to the ingress, for the host of the control plane:
// the test is outside of the Swarm's network.
func (s *stackPlane) front() string {
	s.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ask, err := http.NewRequestWithContext(r.Context(), r.Method, "http://skep.example.com"+r.URL.RequestURI(), bytes.NewReader(body))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ask.Header = r.Header.Clone()
		answer, err := s.swarm.Do(ask)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		for name, values := range answer.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(w, answer.Body) // the asker is gone
	}))
	s.Cleanup(server.Close)
	address := strings.TrimPrefix(server.URL, "http://")
	if err := swarmtest.Poll(time.Minute, func() error {
		answer, err := http.Get(server.URL + "/healthz")
		if err != nil {
			return err
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("the server answers %s through the ingress", answer.Status)
		}
		return nil
	}); err != nil {
		s.Fatal(err)
	}
	return address
}

// pushApp pushes the project with the app, and waits until it is deployed. What
// was not taken is delivered again, as its sender may.
func (s *stackPlane) pushApp(hostname string) controlplane.Commit {
	s.Helper()
	files := map[string]string{"app/stack.yaml": stackApp(hostname), "cluster.yaml": stackCluster + stackPreviews}
	maps.Copy(files, s.files)
	s.files = nil
	c := s.push("main", "ann", files)
	s.reported(c, "success")
	return c
}
