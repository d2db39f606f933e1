package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"skep/internal/porttest"
	"skep/internal/postgrestest"
	"skep/internal/swarmtest"
	"skep/services/controlplane"
	"skep/services/controlplane/integration/github"
	"skep/services/controlplane/integration/github/githubtest"
	"skep/services/controlplane/store"
)

// plane is a control plane with everything real but GitHub: its server and
// worker are processes, its database is PostgreSQL, its cluster a Swarm.
type plane struct {
	*testing.T
	postgres *postgrestest.Server
	swarm    *swarmtest.Swarm
	hub      *githubtest.Server
	store    *store.Store
	env      []string
	bin      string
	address  string
	command  func(args ...string) *exec.Cmd // skep-server's

	server *exec.Cmd
	log    *log
}

// log collects what processes say.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

const (
	repository = controlplane.Repository("acme/homelab")
	hookSecret = "planted-webhook-secret-0123456789"
)

// newPlane starts one. More of its environment is in env.
func newPlane(t *testing.T, env ...string) *plane {
	t.Helper()
	p := &plane{T: t, postgres: postgrestest.Start(t), swarm: swarmtest.Start(t), bin: t.TempDir(), log: &log{}}
	if err := p.swarm.Import("whoami:0.1", swarmtest.Binary(t, "skep/cmd/whoami")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"skep", "skep-worker", "skep-server"} {
		if err := os.Symlink(swarmtest.Binary(t, "skep/cmd/"+name), filepath.Join(p.bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	p.address = porttest.Address(t)
	url := p.postgres.Database(t)
	p.env = []string{
		"PATH=" + p.bin + ":/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + t.TempDir(), "TMPDIR=" + os.TempDir(),
		"SKEP_DATABASE_URL=" + url, "SKEP_DATABASE_KEY=" + hex.EncodeToString(key), "SKEP_HATCHET_DATABASE_URL=" + p.postgres.Database(t),
		"SKEP_LISTEN=" + p.address, "SKEP_LOOPBACK=on", "DOCKER_HOST=" + p.swarm.Host(),
	}
	p.env = append(p.env, env...)
	p.command = p.local
	p.start()
	keys, err := store.ParseKeys([]byte(hex.EncodeToString(key)))
	if err != nil {
		t.Fatal(err)
	}
	if p.store, err = store.Open(t.Context(), url, keys); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.store.Close)
	p.register()
	return p
}

// start runs the server and waits until it answers.
func (p *plane) start() {
	p.Helper()
	p.server = exec.Command(filepath.Join(p.bin, "skep-server"), "serve")
	p.server.Env, p.server.Stdout, p.server.Stderr = p.env, p.log, p.log
	p.server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	own, started, ended := p.server, make(chan error), make(chan error, 1)
	go func() {
		// The death signal comes when the thread that started the process
		// ends, so this thread does nothing else until then.
		runtime.LockOSThread()
		err := own.Start()
		started <- err
		if err == nil {
			ended <- own.Wait()
		}
	}()
	if err := <-started; err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() {
		_ = own.Process.Signal(syscall.SIGTERM) // gone already, in some tests
		select {
		case err := <-ended:
			if err != nil && err.Error() != "signal: killed" { // as some tests do
				p.Errorf("the server ends with %v", err)
			}
		case <-time.After(time.Minute):
			p.Error("the server does not end")
			_ = syscall.Kill(-own.Process.Pid, syscall.SIGKILL)
		}
		if p.Failed() {
			p.Logf("the server said\n%s", p.log)
		}
	})
	err := swarmtest.Poll(2*time.Minute, func() error {
		answer, err := http.Get("http://" + p.address + "/healthz")
		if err != nil {
			return err
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("/healthz answers %s", answer.Status)
		}
		return nil
	})
	if err != nil {
		p.Fatalf("the server does not start: %v", err)
	}
}

// local runs a command of the server's beside it.
func (p *plane) local(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.bin, "skep-server"), args...)
	cmd.Env = p.env
	return cmd
}

// register makes a GitHub with an App and a repository, and tells the server of
// it.
func (p *plane) register() {
	p.Helper()
	key := p.openHub(githubtest.Options{})
	p.tell(p.hub.URL(), key)
}

// openHub starts a GitHub and returns the App's key.
func (p *plane) openHub(o githubtest.Options) (private []byte) {
	p.Helper()
	t := p.T
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	o.Folder, o.App = t.TempDir(), &githubtest.App{
		ID: 7, Slug: "skep", Key: &key.PublicKey, Installation: 70,
		Permissions: map[string]string{"contents": "read", "metadata": "read", "pull_requests": "write", "issues": "write", "checks": "write", "statuses": "write", "deployments": "write"},
	}
	if p.hub, err = githubtest.Start(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.hub.Close() })
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
}

// tell makes the server know the GitHub at an address, and the GitHub the server.
func (p *plane) tell(base string, private []byte) {
	p.Helper()
	t := p.T
	token := p.tokenOf("e2e", "integrations")
	p.put(token, "integrations/github/acme", map[string]any{
		"settings":    map[string]string{github.BaseURL: base, github.AppID: "7", github.Installation: "70"},
		"credentials": map[string]string{github.PrivateKey: string(private)},
	})
	p.put(token, "sources/github/default", map[string]any{"integration": "acme", "secret": hookSecret})
	p.put(token, "projects/homelab", map[string]any{
		"provider": "github", "integration": "acme", "repository": repository, "folder": "stacks", "cluster": "homelab", "deploy": "always",
	})
	if err := p.hub.CreateRepository(t.Context(), repository); err != nil {
		t.Fatal(err)
	}
	for login, role := range map[string]string{"ann": "write", "sam": "read"} {
		if err := p.hub.Grant(repository, login, role); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.hub.Hook(t.Context(), repository, "http://"+p.address+"/api/v1/webhooks/github", hookSecret); err != nil {
		t.Fatal(err)
	}
}

// tokenOf has the command make a token.
func (p *plane) tokenOf(name, scope string) string {
	p.Helper()
	cmd := p.command("token", "create", "--scope", scope, name)
	cmd.Stderr = p.log
	out, err := cmd.Output()
	if err != nil {
		p.Fatalf("token create: %v\n%s", err, p.log)
	}
	return strings.TrimSpace(string(out))
}

func (p *plane) put(token, path string, body any) {
	p.Helper()
	content, err := json.Marshal(body)
	if err != nil {
		p.Fatal(err)
	}
	r, err := http.NewRequestWithContext(p.Context(), http.MethodPut, "http://"+p.address+"/api/v1/"+path, bytes.NewReader(content))
	if err != nil {
		p.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		p.Fatal(err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode >= 300 {
		p.Fatalf("PUT %s: %s %s %v", path, answer.Status, said, err)
	}
	if strings.Contains(string(said), hookSecret) || strings.Contains(string(said), "PRIVATE KEY") {
		p.Errorf("PUT %s gives a secret back", path)
	}
}

const cluster = "name: homelab\ndefaults: {resources: {memory: 64M}}\n"

func app(value, extra string) string {
	return "name: app\nservices:\n  web:\n    image: whoami:0.1\n    environment: {VALUE: " + value + "}\n" +
		"    healthcheck: {test: [CMD, /whoami, -healthcheck], interval: 1s}\n    mem_limit: 64m\n    deploy: {endpoint_mode: dnsrr}\n" + extra
}

func (p *plane) push(branch, author string, files map[string]string) controlplane.Commit {
	p.Helper()
	in := map[string]githubtest.File{}
	for name, content := range files {
		in["stacks/"+name] = githubtest.File{Content: content}
	}
	c, err := p.hub.Push(p.Context(), repository, controlplane.Branch(branch), author, in)
	if err != nil {
		p.Fatal(err)
	}
	return c
}

// reported waits until a commit has its last state, and wants it to be this.
func (p *plane) reported(c controlplane.Commit, state string) githubtest.Report {
	p.Helper()
	return p.reportedAs("skep/homelab", c, state)
}

func (p *plane) reportedAs(name string, c controlplane.Commit, state string) githubtest.Report {
	p.Helper()
	var got githubtest.Report
	err := swarmtest.Poll(3*time.Minute, func() error {
		reports := p.hub.Reports(repository, c)
		i := slices.IndexFunc(reports, func(r githubtest.Report) bool { return r.Name == name })
		if i < 0 || slices.Contains([]string{"queued", "in_progress", "pending"}, reports[i].State) {
			return fmt.Errorf("commit %.8s has %+v", c, reports)
		}
		got = reports[i]
		return nil
	})
	if err != nil {
		p.Fatal(err)
	}
	if got.State != state {
		p.Fatalf("commit %.8s has %+v, not %s", c, got, state)
	}
	return got
}

func (p *plane) value() string {
	p.Helper()
	text, err := p.swarm.Docker("service", "inspect", "-f", "{{range .Spec.TaskTemplate.ContainerSpec.Env}}{{.}} {{end}}", "app_web")
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(text)
}

// A push deploys, a broken one is told of where it is wrong, a pull request is
// planned, a fork deploys nothing, and what a server left behind the next ends.
func TestPushDeploys(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	first := p.push("main", "ann", map[string]string{"cluster.yaml": cluster, "app/stack.yaml": app("one", "")})
	p.reported(first, "success")
	if got := p.value(); got != "VALUE=one" {
		t.Errorf("after the first push web has %q", got)
	}

	t.Run("a mistake", func(t *testing.T) {
		broken := p.push("main", "ann", map[string]string{"app/stack.yaml": app("two", "    x-ingres: {}\n")})
		report := p.reported(broken, "failure")
		if len(report.Annotations) != 1 || report.Annotations[0].Path != "stacks/app/stack.yaml" || !strings.Contains(report.Annotations[0].Message, "x-ingress") {
			t.Errorf("annotations %+v", report.Annotations)
		}
		if got := p.value(); got != "VALUE=one" {
			t.Errorf("a broken push made web %q", got)
		}
	})

	var number int
	t.Run("a pull request", func(t *testing.T) {
		head := p.push("change", "sam", map[string]string{"app/stack.yaml": app("three", "")})
		var err error
		if number, err = p.hub.OpenPullRequest(t.Context(), repository, githubtest.PullRequest{Head: "change", Base: "main", Author: "sam", Title: "Three"}); err != nil {
			t.Fatal(err)
		}
		p.reported(head, "success")
		p.said(number, "environment[VALUE]", "`one` | `three`")
		if got := p.value(); got != "VALUE=one" {
			t.Errorf("a pull request made web %q", got)
		}
	})

	t.Run("a command", func(t *testing.T) {
		if _, err := p.hub.Comment(t.Context(), repository, number, "sam", "/skep deploy"); err != nil {
			t.Fatal(err)
		}
		if _, err := p.hub.Comment(t.Context(), repository, number, "ann", "/skep help"); err != nil {
			t.Fatal(err)
		}
		p.said(number, "/skep <command>")
		if got := p.value(); got != "VALUE=one" {
			t.Errorf("somebody without write access made web %q", got)
		}
		if _, err := p.hub.Comment(t.Context(), repository, number, "ann", "/skep deploy app"); err != nil {
			t.Fatal(err)
		}
		if err := swarmtest.Poll(2*time.Minute, func() error {
			if got := p.value(); got != "VALUE=three" {
				return fmt.Errorf("web has %q", got)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})

	t.Run("asked for and cancelled", func(t *testing.T) { p.askedAndCancelled(t, "VALUE=three") })

	t.Run("a server that dies", func(t *testing.T) {
		if err := syscall.Kill(p.server.Process.Pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		next := p.push("main", "ann", map[string]string{"app/stack.yaml": app("four", "")}) // nobody listens
		p.start()
		for _, d := range p.hub.Deliveries() {
			if err := p.hub.Redeliver(t.Context(), d.ID); err != nil { // as GitHub's page offers: old ones are replays
				t.Fatal(err)
			}
		}
		p.reported(next, "success")
		if got := p.value(); got != "VALUE=four" {
			t.Errorf("web has %q", got)
		}
	})

	if said := p.log.String(); strings.Contains(said, hookSecret) || strings.Contains(said, "PRIVATE KEY") || strings.Contains(said, "ghs_") {
		t.Error("the log holds a secret")
	}
}

// said waits for a comment of Skep's.
func (p *plane) said(number int, want ...string) {
	p.Helper()
	err := swarmtest.Poll(2*time.Minute, func() error {
		comments := p.hub.Comments(repository, number)
		if !slices.ContainsFunc(comments, func(s githubtest.Said) bool {
			return !slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(s.Body, w) })
		}) {
			return fmt.Errorf("no comment of %s says %q: %+v", strconv.Itoa(number), want, comments)
		}
		return nil
	})
	if err != nil {
		p.Error(err)
	}
}

// What is wrong with the settings is said before anything starts.
func TestUsage(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		env  map[string]string
		code int
		want string
	}{
		"help":            {[]string{"--help"}, nil, exitDone, "skep-server token create --scope admin laptop"},
		"no such command": {[]string{"dance"}, nil, exitUsage, `there is no command "dance"`},
		"no database":     {[]string{"serve"}, nil, exitUsage, "Set SKEP_DATABASE_URL"},
		"no key":          {[]string{"serve"}, map[string]string{"SKEP_DATABASE_URL": "postgres:///x"}, exitUsage, "openssl rand -hex 32"},
		"a key that is none": {[]string{"serve"}, map[string]string{"SKEP_DATABASE_URL": "postgres:///x", "SKEP_DATABASE_KEY": "hunter2"}, exitFailed,
			"64 hexadecimal digits"},
		"no engine": {[]string{"serve"}, map[string]string{"SKEP_DATABASE_URL": "postgres:///x", "SKEP_DATABASE_KEY": strings.Repeat("0a", 32)}, exitUsage,
			"--engine-database"},
		"no token of it": {[]string{"serve"}, map[string]string{"SKEP_DATABASE_URL": "postgres:///x", "SKEP_DATABASE_KEY": strings.Repeat("0a", 32), "SKEP_HATCHET_ADDRESS": "e:1"}, exitUsage,
			"SKEP_HATCHET_TOKEN_FILE"},
		"no scope":          {[]string{"token", "create", "x"}, nil, exitUsage, "scope"},
		"bad scope":         {[]string{"token", "create", "--scope", "all", "x"}, nil, exitUsage, "there are"},
		"no token command":  {[]string{"token", "crate", "x"}, nil, exitUsage, `there is no command "crate": see skep-server token --help`},
		"a command too few": {[]string{"token"}, nil, exitUsage, "token needs a command"},
		"no such flag":      {[]string{"token", "create", "x", "--scpoe", "read"}, nil, exitUsage, "see skep-server token create --help"},
		"no global flag":    {[]string{"--nope"}, nil, exitUsage, "see skep-server --help"},
		"a collector's gRPC": {[]string{"serve"}, map[string]string{"SKEP_DATABASE_URL": "postgres:///x", "SKEP_DATABASE_KEY": strings.Repeat("0a", 32), "SKEP_HATCHET_DATABASE_URL": "postgres:///y",
			"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, exitUsage, "http/protobuf is spoken"},
		"options last": {[]string{"token", "create", "x", "--scope", "all"}, nil, exitUsage, `scope "all"`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, v := range []string{"SKEP_DATABASE_URL", "SKEP_DATABASE_KEY", "SKEP_DATABASE_KEY_FILE", "SKEP_HATCHET_ADDRESS", "SKEP_HATCHET_DATABASE_URL",
				"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
				t.Setenv(v, test.env[v])
			}
			var out bytes.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if code := run(ctx, append([]string{"skep-server"}, test.args...), nil, &out, &out); code != test.code || !strings.Contains(out.String(), test.want) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, test.code, test.want, &out)
			}
			if strings.Contains(out.String(), "hunter2") {
				t.Error("it quotes the key")
			}
		})
	}
}
