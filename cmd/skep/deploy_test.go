package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"go.yaml.in/yaml/v3"

	"skep/generator/problem"
	"skep/internal/swarmtest"
	"skep/services/deploy"
	"skep/services/swarm"
)

const deployCluster = `
name: test
tiers: [infrastructure, application]
defaults: {update: {monitor: 1s}}
networks: {shared: {internal: true}}
`

const deployApp = `
name: app
x-tier: application
services:
  web:
    image: whoami:0.1
    environment: {A: "1", B: "a $$b"}
    x-files: ["conf.txt:/conf.txt"]
    healthcheck: {test: [CMD, /whoami, -healthcheck], interval: 1s, retries: 20}
    mem_limit: 64m
    deploy: {endpoint_mode: dnsrr, replicas: 2}
    networks: {default: {}, shared: {}}
  migrate:
    image: whoami:0.1
    command: ["-h"]
    x-job: {before: [web]}
    mem_limit: 64m
    deploy: {endpoint_mode: dnsrr, restart_policy: {condition: none}}
networks: {shared: {external: true}}
`

// deployBed is a Swarm and a project that is deployed to it.
type deployBed struct {
	t    *testing.T
	s    *swarmtest.Swarm
	dir  string
	host string // what skep is told of the engine
}

func newDeployBed(t *testing.T) *deployBed {
	t.Helper()
	t.Parallel()
	b := bedOn(t, swarmtest.Start(t))
	if err := b.s.Import("whoami:0.1", swarmtest.Binary(t, "skep/cmd/whoami")); err != nil {
		t.Fatal(err)
	}
	b.write("cluster.yaml", deployCluster)
	b.write("app/conf.txt", "one\n")
	b.app()
	return b
}

func bedOn(t *testing.T, s *swarmtest.Swarm) *deployBed {
	return &deployBed{t: t, s: s, dir: t.TempDir(), host: s.Host()}
}

func (b *deployBed) write(name, text string) {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// app writes the stack file with replacements.
func (b *deployBed) app(replace ...string) {
	b.t.Helper()
	text := strings.NewReplacer(replace...).Replace(deployApp)
	if len(replace) > 0 && text == deployApp {
		b.t.Fatalf("nothing to replace: %q", replace)
	}
	b.write("app/stack.yaml", text)
}

// skep runs the command and expects an exit code.
func (b *deployBed) skep(t *testing.T, code int, args ...string) string {
	t.Helper()
	return skep(t, b.env(), code, append([]string{"-C", b.dir}, args...)...)
}

func (b *deployBed) env() []string { return []string{"DOCKER_HOST=" + b.host} }

// engine talks to the Swarm as skep does.
func (b *deployBed) engine(t *testing.T, options ...client.Opt) *swarm.Client {
	t.Helper()
	engine, err := swarm.New(append(options, client.WithHost(b.host))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	return engine
}

func (b *deployBed) inspect(t *testing.T, service, format string) string {
	t.Helper()
	return docker(t, b.s, "service", "inspect", "-f", format, service)
}

func contains(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("it lacks %q:\n%s", w, text)
		}
	}
}

// The life of a stack on a real Swarm; each step starts from the one before.
func TestDeployOnASwarm(t *testing.T) {
	b := newDeployBed(t)
	const image = "{{.Spec.TaskTemplate.ContainerSpec.Image}} {{.Spec.TaskTemplate.ContainerSpec.Env}}"
	step := func(name string, f func(t *testing.T)) {
		if !t.Failed() {
			t.Run(name, f)
		}
	}
	step("first", func(t *testing.T) {
		contains(t, b.skep(t, exitPending, "plan", "--detailed-exitcode"), "+ service app_web", "+ job app_migrate", "+ network shared")
		contains(t, b.skep(t, exitDone, "deploy"), "service app_web is up", "service app_migrate is up", "done, revision 1")
		contains(t, b.skep(t, exitDone, "status"), "revision 1", "2/2")
		contains(t, b.skep(t, exitFailed, "status", "ap"), `no service of a stack "ap"`)
	})
	step("nothing to do", func(t *testing.T) {
		before := docker(t, b.s, "service", "inspect", "-f", "{{.Version.Index}}", "app_web", "app_migrate")
		contains(t, b.skep(t, exitDone, "plan", "--detailed-exitcode"), "No changes")
		var calls, writes atomic.Int64
		engine := b.engine(t, client.WithHTTPRequestHook(func(r *http.Request) error {
			if strings.HasSuffix(r.URL.Path, "/_ping") {
				return nil // the client finds out the API's version
			}
			calls.Add(1)
			if r.Method != http.MethodGet && r.Method != http.MethodHead {
				writes.Add(1)
			}
			return nil
		}))
		if _, err := deploy.Deploy(t.Context(), engine, b.project(t), deploy.Options{Now: time.Now}); err != nil {
			t.Fatal(err)
		}
		if calls.Load() != 6 || writes.Load() != 0 {
			t.Errorf("%d calls of the API, %d of them writes", calls.Load(), writes.Load())
		}
		if after := docker(t, b.s, "service", "inspect", "-f", "{{.Version.Index}}", "app_web", "app_migrate"); after != before {
			t.Errorf("versions went from %s to %s", before, after)
		}
	})
	step("one field", func(t *testing.T) {
		b.app(`A: "1"`, `A: "2"`)
		contains(t, b.skep(t, exitDone, "plan"), "environment[A]: 1 -> 2", "1 to update")
		b.skep(t, exitDone, "deploy")
		if got := b.inspect(t, "app_web", image); got != "whoami:0.1 [A=2 B=a $b]" {
			t.Errorf("web is %s", got)
		}
	})
	step("a stale plan", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "plan.json")
		b.app(`A: "1"`, `A: "3"`)
		b.skep(t, exitDone, "plan", "-out", file)
		docker(t, b.s, "service", "update", "--detach", "--env-add", "HAND=1", "app_web")
		contains(t, b.skep(t, exitFailed, "deploy", file), "stale")
		contains(t, b.skep(t, exitDone, "plan"), "environment[HAND]: 1 (by hand)")
		b.skep(t, exitDone, "plan", "-out", file)
		b.skep(t, exitDone, "deploy", file)
		if got := b.inspect(t, "app_web", image); got != "whoami:0.1 [A=3 B=a $b]" {
			t.Errorf("web is %s", got)
		}
	})
	back := func(t *testing.T, want ...string) {
		t.Helper()
		contains(t, b.skep(t, exitFailed, "deploy", "--timeout", "1m"), append(want, "is back at what it was")...)
		if got := b.inspect(t, "app_web", image); got != "whoami:0.1 [A=3 B=a $b]" {
			t.Errorf("web is %s", got)
		}
		err := swarmtest.Poll(3*time.Minute, func() error { // the tasks that failed go a little later
			if got := docker(t, b.s, "service", "ls", "-f", "name=app_web", "--format", "{{.Replicas}}"); got != "2/2" {
				return fmt.Errorf("web has %s tasks", got)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	step("no such image", func(t *testing.T) {
		b.app("image: whoami:0.1\n    environment", "image: whoami:0.2\n    environment", `A: "1"`, `A: "4"`)
		back(t, "app_web.", "on node1", "likely cause: the node has no such image")
	})
	step("a failing health check", func(t *testing.T) {
		b.app("-healthcheck]", "-nope]", `A: "1"`, `A: "4"`, "retries: 20", "retries: 1")
		back(t, "health check fails", "app_web.")
	})
	step("a crash loop", func(t *testing.T) {
		b.app("    x-files:", "    command: [\"-nope\"]\n    x-files:", `A: "1"`, `A: "4"`)
		back(t, "exit code 2", "| Usage: whoami")
	})
	step("a failing job", func(t *testing.T) {
		b.app(`command: ["-h"]`, `command: ["-nope"]`, `A: "1"`, `A: "4"`)
		back(t, "service app_migrate", "the job failed", "exit code 2")
		// Its gate stayed shut.
		if got := b.inspect(t, "app_web", image); got != "whoami:0.1 [A=3 B=a $b]" {
			t.Errorf("web is %s", got)
		}
		b.app(`A: "1"`, `A: "3"`)
		b.skep(t, exitDone, "deploy")
	})
	step("rollback", func(t *testing.T) {
		b.app(`A: "1"`, `A: "5"`)
		b.write("app/conf.txt", "two\n")
		b.skep(t, exitDone, "deploy", "--prune")
		contains(t, b.skep(t, exitDone, "rollback", "app"), "again")
		if got := b.inspect(t, "app_web", image); got != "whoami:0.1 [A=3 B=a $b]" {
			t.Errorf("web is %s", got)
		}
		if got := b.inspect(t, "app_web", "{{(index .Spec.TaskTemplate.ContainerSpec.Configs 0).ConfigName}}"); got != "app_conf.txt_2c8b08da" {
			t.Errorf("web has config %s", got)
		}
		contains(t, b.skep(t, exitDone, "history", "app"), "rollback to revision")
		contains(t, b.skep(t, exitDone, "history", "ap"), "No revision of stack ap")
		b.skep(t, exitDone, "deploy")
	})
	step("two deployers", func(t *testing.T) {
		b.app(`A: "1"`, `A: "6"`)
		var group sync.WaitGroup
		for range 2 {
			group.Go(func() {
				out, err := process(t.Context(), b.env(), "-C", b.dir, "deploy").CombinedOutput()
				if err != nil && !strings.Contains(string(out), "another deploy is under way") {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
		group.Wait()
		contains(t, b.skep(t, exitDone, "plan", "--detailed-exitcode"), "No changes")
		if n := strings.Count(b.skep(t, exitDone, "history", "app"), "pending"); n != 0 {
			t.Errorf("%d revisions are pending", n)
		}
	})
	step("logs", func(t *testing.T) {
		contains(t, b.skep(t, exitDone, "logs", "app", "migrate"), "app_migrate | Answers with what it was asked")
	})
	step("down", func(t *testing.T) {
		contains(t, b.skep(t, exitUsage, "down", "app"), "would remove service app_web")
		b.skep(t, exitDone, "down", "app", "--yes")
		if left := docker(t, b.s, "service", "ls", "-q"); left != "" {
			t.Errorf("services are left: %s", left)
		}
		contains(t, b.skep(t, exitFailed, "down", "app", "--yes"), "no stack app")
	})
}

func (b *deployBed) project(t *testing.T) deploy.Project {
	t.Helper()
	build := filepath.Join(t.TempDir(), "plan.json")
	b.skep(t, exitDone, "plan", "-out", build)
	f, err := os.Open(build)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	saved, err := deploy.ReadSaved(f)
	if err != nil {
		t.Fatal(err)
	}
	return saved.Project
}

// What `docker stack deploy` makes of a file is what a plan of the same file
// wants, whatever the engine fills in; adopting it restarts nothing.
func TestAdoptOnASwarm(t *testing.T) {
	b := newDeployBed(t)
	if err := b.s.Import("whoami:test", swarmtest.Binary(t, "skep/cmd/whoami")); err != nil {
		t.Fatal(err)
	}
	docker(t, b.s, "secret", "create", "s1_v1", filepath.Join(b.dir, "app/conf.txt"))
	text, err := os.ReadFile("testdata/deploy/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	b.write("everything.yaml", string(text))
	b.write("c1.txt", "hi\n")
	if err := b.s.Deploy(filepath.Join(b.dir, "everything.yaml"), "all"); err != nil {
		t.Fatal(err)
	}
	release := deploy.Release{Stack: "all", Compose: map[string]any{}, Files: map[string][]byte{"c1.txt": []byte("hi\n")}}
	if err := yaml.Unmarshal(text, &release.Compose); err != nil {
		t.Fatal(err)
	}
	project := deploy.Project{Releases: []deploy.Release{release}}
	engine := b.engine(t)
	if plan := comparison(t, engine, project); !plan.Empty() {
		t.Fatalf("a stack that docker deployed differs from its own file:\n%s", textOf(plan))
	}
	for _, service := range []string{"all_b", "all_c", "all_j"} { // a task that fails to start is replaced
		err := swarmtest.Poll(3*time.Minute, func() error {
			tasks, err := b.s.Docker("service", "ps", "--format", "{{.CurrentState}}", service) // the newest is first
			if err == nil && !strings.HasPrefix(tasks, "Running") {
				err = fmt.Errorf("the tasks of %s are %q", service, tasks)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	tasks := docker(t, b.s, "service", "ps", "-q", "all_b", "all_c", "all_j")
	if _, err := deploy.Adopt(t.Context(), engine, project, deploy.Options{Who: "test", Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	if after := docker(t, b.s, "service", "ps", "-q", "all_b", "all_c", "all_j"); after != tasks {
		t.Errorf("adopting replaced tasks: %s, before %s", after, tasks)
	}
	if got := b.inspect(t, "all_b", `{{index .Spec.Labels "skep.stack"}} {{index .Spec.Labels "skep.revision"}}`); got != "all 1" {
		t.Errorf("labels say %q", got)
	}
	if plan := comparison(t, engine, project); !plan.Empty() {
		t.Errorf("adopted, it differs:\n%s", textOf(plan))
	}
	live, err := deploy.Read(t.Context(), engine)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range deploy.StatusOf(live, "all").Stacks[0].Services {
		if s.Drift {
			t.Errorf("%s counts as changed by hand", s.Service)
		}
	}
}

// comparison is what a deploy of the project would do.
func comparison(t *testing.T, engine *swarm.Client, project deploy.Project) deploy.Plan {
	t.Helper()
	live, err := deploy.Read(t.Context(), engine)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := deploy.Compare(project, live, deploy.Scope{})
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func textOf(plan deploy.Plan) string {
	var out bytes.Buffer
	_ = plan.WriteText(&out, problem.Paint{})
	return out.String()
}

// What --json says is JSON, whole, when a deploy fails too.
func TestDeployJSON(t *testing.T) {
	report := reportOfDeploy(deploy.Result{Failed: []deploy.StackFailure{{Stack: "a", Err: fmt.Errorf("x: %w", &deploy.Failure{Service: "a_b", Reason: "r"})}}}, []string{"w"})
	data, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	contains(t, string(data), `"service":"a_b"`, `"reason":"r"`, `"warnings":["w"]`)
}
