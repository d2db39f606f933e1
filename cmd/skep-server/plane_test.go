package main

import (
	"bytes"
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
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"skep/internal/logtest"
	"skep/internal/porttest"
	"skep/internal/postgrestest"
	"skep/internal/processtest"
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

	server *processtest.Process
	log    *log
}

// log collects what processes say.
type log = logtest.Buffer

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
	cmd := exec.Command(filepath.Join(p.bin, "skep-server"), "serve")
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, p.log, p.log
	own, err := processtest.Start(cmd, syscall.SIGKILL)
	if err != nil {
		p.Fatal(err)
	}
	p.server = own
	p.Cleanup(func() {
		if err := own.Signal(syscall.SIGTERM); err != nil {
			p.Error(err)
		}
		select {
		case <-own.Ended():
			if err := own.Wait(); err != nil && err.Error() != "signal: killed" { // as some tests do
				p.Errorf("the server ends with %v", err)
			}
		case <-time.After(3 * time.Minute):
			p.Error("the server does not end")
			_ = syscall.Kill(-own.Pid, syscall.SIGKILL)
		}
		if p.Failed() {
			p.Logf("the server said\n%s", p.log)
		}
	})
	err = swarmtest.Poll(2*time.Minute, func() error {
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
	p.call(token, http.MethodPut, "integrations/github/acme", map[string]any{
		"settings":    map[string]string{github.BaseURL: base, github.AppID: "7", github.Installation: "70"},
		"credentials": map[string]string{github.PrivateKey: string(private)},
	}, nil)
	p.call(token, http.MethodPut, "sources/github/default", map[string]any{"integration": "acme", "secret": hookSecret}, nil)
	p.call(token, http.MethodPut, "projects/homelab", map[string]any{
		"provider": "github", "integration": "acme", "repository": repository, "folder": "stacks", "cluster": "homelab", "deploy": "always",
	}, nil)
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

// call calls the API, reads the answer into into unless that is nil, and fails
// unless the call is taken.
func (p *plane) call(token, method, path string, body, into any) {
	p.Helper()
	content, err := json.Marshal(body)
	if err != nil {
		p.Fatal(err)
	}
	r, err := http.NewRequestWithContext(p.Context(), method, "http://"+p.address+"/api/v1/"+path, bytes.NewReader(content))
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
	if err == nil && into != nil {
		err = json.Unmarshal(said, into)
	}
	if err != nil || answer.StatusCode >= 300 {
		p.Fatalf("%s %s: %s %s %v", method, path, answer.Status, said, err)
	}
	if strings.Contains(string(said), hookSecret) || strings.Contains(string(said), "PRIVATE KEY") {
		p.Errorf("%s %s gives a secret back", method, path)
	}
}

const cluster = "name: homelab\ndefaults: {resources: {memory: 64M}}\n"

func app(value, extra string) string {
	return "name: app\nservices:\n  web:\n    image: whoami:0.1\n    environment: {VALUE: " + value + "}\n" +
		"    healthcheck: {test: [CMD, /whoami, -healthcheck], interval: 1s}\n    mem_limit: 64m\n    deploy: {endpoint_mode: dnsrr}\n" + extra
}

// push is one that the server takes.
func (p *plane) push(branch, author string, files map[string]string) (c controlplane.Commit) {
	p.Helper()
	p.delivered(func() error {
		c = p.commit(branch, author, files)
		return nil
	})
	return c
}

// commit is a push of which the server may hear nothing.
func (p *plane) commit(branch, author string, files map[string]string) controlplane.Commit {
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

// delivered does something on the GitHub, and waits until the server has taken
// what the GitHub says of it: a delivery without an answer is not repeated by
// itself.
func (p *plane) delivered(do func() error) {
	p.Helper()
	before := len(p.hub.Deliveries())
	if err := do(); err != nil {
		p.Fatal(err)
	}
	err := swarmtest.Poll(3*time.Minute, func() error {
		for _, d := range p.hub.Deliveries()[before:] {
			if d.Status == http.StatusOK {
				continue
			}
			if err := p.hub.Redeliver(p.Context(), d.ID); err != nil {
				return err
			}
			return fmt.Errorf("delivery %s of %s is answered with %d, %v", d.ID, d.Event, d.Status, d.Err)
		}
		return nil
	})
	if err != nil {
		p.Fatal(err)
	}
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
