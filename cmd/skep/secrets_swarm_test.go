package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"skep/internal/swarmtest"
	"skep/secrets"
	"skep/secrets/onepassword"
	"skep/secrets/secretstest"
)

const secretsCluster = `name: test
secrets: {provider: onepassword-connect, mode: versioned}
`

// secretsStack has ten references: nine of one service, one of another.
const secretsStack = `name: app
services:
  many:
    image: whoami:test
    environment:
      {A_FILE: op://test/i0/f, B_FILE: op://test/i1/f, C_FILE: op://test/i2/f, D_FILE: op://test/i3/f, E_FILE: op://test/i4/f,
       F_FILE: op://test/i5/f, G_FILE: op://test/i6/f, H_FILE: op://test/i7/f, I_FILE: op://test/i8/f}
    mem_limit: 64m
    healthcheck: &health {test: [CMD, /whoami, -healthcheck], interval: 1s}
  one:
    image: whoami:test
    environment: {TOKEN_FILE: op://test/i9/f}
    x-files: [{content: "token = {{ op://test/i9/f }}\n", target: /etc/app.conf}]
    mem_limit: 64m
    healthcheck: *health
  none:
    image: whoami:test
    mem_limit: 64m
    healthcheck: *health
`

const connectToken = "planted-connect-token"

func plantedValue(item, version int) string {
	return fmt.Sprintf("planted-%d-version-%d", item, version)
}

// secretsWorld is a Swarm, a Connect server and a project, and what the
// commands said so far.
type secretsWorld struct {
	*swarmtest.Swarm
	connect *secretstest.Connect
	ids     map[string]string
	dir     string
	env     []string // of skep

	mu   sync.Mutex
	said bytes.Buffer
}

func newSecretsWorld(t *testing.T) *secretsWorld {
	t.Helper()
	t.Parallel()
	w := &secretsWorld{Swarm: swarmtest.Start(t), connect: secretstest.NewConnect(connectToken), dir: t.TempDir()}
	if err := w.Import("whoami:test", swarmtest.Binary(t, "skep/cmd/whoami")); err != nil {
		t.Fatal(err)
	}
	items := map[string]map[string]string{}
	for i := range 10 {
		items[fmt.Sprintf("i%d", i)] = map[string]string{"f": plantedValue(i, 1)}
	}
	w.ids = w.connect.Fill(secretstest.Content{"test": items})
	w.env = []string{"OP_CONNECT_HOST=" + secretstest.Start(t, w.connect), onepassword.TokenVariable + "=" + connectToken, "DOCKER_HOST=" + w.Host()}
	monitored := "defaults: {update: {monitor: 1s}}\n" // an update begins once the one before is watched no more
	writeFiles(t, w.dir, map[string]string{"cluster.yaml": secretsCluster + monitored, "app/stack.yaml": secretsStack})
	return w
}

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Write keeps what a command says.
func (w *secretsWorld) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said.Write(b)
}

// skep runs a command and returns what it wrote to both outputs.
func (w *secretsWorld) skep(t *testing.T, want int, args ...string) string {
	t.Helper()
	out := skep(t, w.env, want, append([]string{"-C", w.dir}, args...)...)
	_, _ = io.WriteString(w, out)
	return out
}

// rotate gives an item its next version.
func (w *secretsWorld) rotate(item, version int) {
	w.connect.Set(w.ids[fmt.Sprintf("test/i%d", item)], "f", plantedValue(item, version))
}

// services are the version indexes of the services by name.
func (w *secretsWorld) services(t *testing.T) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, name := range []string{"app_many", "app_one", "app_none"} {
		text, err := w.Docker("service", "inspect", "-f", "{{json .Version.Index}}", name)
		if err != nil {
			t.Fatal(err)
		}
		var index int
		if err := json.Unmarshal([]byte(text), &index); err != nil {
			t.Fatal(err)
		}
		out[name] = index
	}
	return out
}

func (w *secretsWorld) secretNames(t *testing.T) []string {
	t.Helper()
	text, err := w.Docker("secret", "ls", "--format", "{{.Name}}")
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(text)
	slices.Sort(names)
	return names
}

// clean fails when a planted secret is anywhere but in the tasks.
func (w *secretsWorld) clean(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	places := map[string]string{"what the commands said": w.said.String()}
	w.mu.Unlock()
	for kind, list := range map[string][]string{
		"secret": {"secret", "ls", "-q"}, "config": {"config", "ls", "-q"}, "service": {"service", "ls", "-q"}, "container": {"ps", "-aq"},
	} {
		ids, err := w.Docker(list...)
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(ids) == "" {
			t.Fatalf("there is no %s to look at", kind)
		}
		if places[kind], err = w.Docker(append([]string{kind, "inspect"}, strings.Fields(ids)...)...); err != nil {
			t.Fatal(err)
		}
	}
	err := filepath.WalkDir(w.dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		places[path] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for place, text := range places {
		if i := strings.Index(text, "planted-"); i >= 0 {
			t.Errorf("%s holds a secret: %.60q", place, text[max(0, i-20):])
		}
	}
	if _, err := os.Stat(filepath.Join(w.dir, "secrets.lock")); err != nil {
		t.Error(err)
	}
}

func TestSecretsOnASwarm(t *testing.T) {
	w := newSecretsWorld(t)
	deploy := []string{"deploy", "--resolve-image", "never", "--timeout", "3m"}

	out := w.skep(t, exitPending, "secrets", "plan", "--detailed-exitcode")
	if !strings.Contains(out, "create   app_i9-f_v1: new\n") || !strings.Contains(out, "Secrets: 11 to create.\n") {
		t.Errorf("plan says\n%s", out)
	}
	if requests := w.connect.Requests(); len(requests) != 2 || len(w.secretNames(t)) != 0 {
		t.Errorf("a plan takes %q and leaves %q", requests, w.secretNames(t))
	}
	w.skep(t, exitDone, "secrets", "sync")
	if requests := w.connect.Requests(); len(requests) != 10+1+1 { // items, the vault's list, the list of vaults
		t.Errorf("a sync of ten items takes %d requests: %q", len(requests), requests)
	}
	if out := w.skep(t, exitDone, "secrets", "sync"); out != "Secrets: 11 unchanged.\n" {
		t.Errorf("sync again says\n%s", out)
	}
	w.skep(t, exitDone, deploy...)
	before := w.services(t)

	// One of ten rotates: its service restarts, no other does.
	w.rotate(9, 2)
	out = w.skep(t, exitDone, "secrets", "sync")
	if !strings.Contains(out, "create   app_i9-f_v2, after app_i9-f_v1: the item changed\n") || !strings.Contains(out, "2 created, 9 unchanged, 2 old but in use.\n") {
		t.Errorf("sync says\n%s", out)
	}
	if !maps.Equal(w.services(t), before) {
		t.Error("sync itself changed a service")
	}
	w.skep(t, exitDone, deploy...)
	after := w.services(t)
	if after["app_one"] == before["app_one"] || after["app_many"] != before["app_many"] || after["app_none"] != before["app_none"] {
		t.Errorf("the rotation made %v of %v", after, before)
	}

	// Connect away: nothing that runs or that is locked is held up.
	w.connect.Inject(secretstest.Fault{Status: 503, Message: "starting"})
	out = w.skep(t, exitDone, "secrets", "sync", "--timeout", "30s")
	if !strings.Contains(out, "keep     app_i0-f_v1: as it is: ") || !strings.Contains(out, "503") {
		t.Errorf("sync without Connect says\n%s", out)
	}
	w.skep(t, exitDone, "secrets", "plan", "--json", "--timeout", "30s")
	w.skep(t, exitDone, deploy...)
	if !maps.Equal(w.services(t), after) {
		t.Error("a deploy without Connect changed a service")
	}
	w.connect.ClearFaults()

	w.skep(t, exitDone, "secrets", "list", "--json")
	w.skep(t, exitDone, "secrets", "list")
	w.clean(t)
}

func TestSecretsWatchOnASwarm(t *testing.T) {
	w := newSecretsWorld(t)
	w.skep(t, exitDone, "secrets", "sync", "--json")
	w.skep(t, exitDone, "deploy", "--resolve-image", "never", "--timeout", "3m")
	before := w.services(t)

	ctx, cancel := context.WithCancel(t.Context())
	watch := process(ctx, w.env, "-C", w.dir, "secrets", "watch", "--interval", "500ms", "--json")
	watch.Stdout, watch.Stderr = w, w
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	mounts := func(service, secret string) error {
		return swarmtest.Poll(3*time.Minute, func() error {
			text, err := w.Docker("service", "inspect", "-f", "{{range .Spec.TaskTemplate.ContainerSpec.Secrets}}{{.SecretName}} {{end}}", service)
			if err == nil && !slices.Contains(strings.Fields(text), secret) {
				err = fmt.Errorf("%s mounts %s", service, text)
			}
			return err
		})
	}
	w.rotate(3, 2)
	if err := mounts("app_many", "app_i3-f_v2"); err != nil {
		t.Error(err)
	}
	w.rotate(9, 2)
	if err := mounts("app_one", "app_i9-f_v2"); err != nil {
		t.Error(err)
	}
	if err := w.WaitRunning("app", 5*time.Minute); err != nil {
		t.Error(err)
	}
	cancel()
	if err := watch.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("watch ends with %v", err)
	}
	after := w.services(t)
	if after["app_none"] != before["app_none"] {
		t.Error("a service without secrets was updated")
	}
	if t.Failed() {
		t.Logf("the commands said\n%s", &w.said)
	}
	w.clean(t)
}

func TestSecretsOfADriverOnASwarm(t *testing.T) {
	w := newSecretsWorld(t)
	if err := os.WriteFile(filepath.Join(w.dir, "cluster.yaml"), []byte("name: test\nsecrets: {mode: driver, driver: elsewhere}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// Swarm asks for the plugin when the secret is made, for its values later.
	if out := w.skep(t, exitFailed, "secrets", "sync"); !strings.Contains(out, `this manager has no plugin "elsewhere", install skep-secretdriver`) {
		t.Errorf("sync without the plugin says\n%s", out)
	}
	w.install(t, "elsewhere")
	w.connect.Requests()
	w.skep(t, exitDone, "secrets", "sync")
	if requests := w.connect.Requests(); len(requests) != 2 {
		t.Errorf("values were read: %q", requests)
	}
	text, err := w.Docker("secret", "inspect", "app_i0-f_v1", "app_one-app.conf_v"+lockedTemplate(t, w))
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Spec struct {
			Labels map[string]string
			Driver struct{ Name string }
		}
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.Spec.Driver.Name != "elsewhere" || s.Spec.Labels[secrets.LabelReference] == "" || s.Spec.Labels[secrets.LabelStack] != "app" {
			t.Errorf("the secret is %+v", s.Spec)
		}
	}
	if got := list[1].Spec.Labels[secrets.LabelTemplate]; got != "token = {{ op://test/i9/f }}\n" {
		t.Errorf("the template is %q", got)
	}
	if out := w.skep(t, exitDone, "secrets", "sync"); out != "Secrets: 11 unchanged.\n" {
		t.Errorf("sync again says\n%s", out)
	}
}

// lockedTemplate is the version of the only secret that is made of a template.
func lockedTemplate(t *testing.T, w *secretsWorld) string {
	t.Helper()
	for _, name := range w.secretNames(t) {
		if version, ok := strings.CutPrefix(name, "app_one-app.conf_v"); ok {
			return version
		}
	}
	t.Fatalf("there is none among %q", w.secretNames(t))
	return ""
}

// install makes a plugin of the driver's. Nobody asks it for a value.
func (w *secretsWorld) install(t *testing.T, name string) {
	t.Helper()
	folder, config := filepath.Join(t.TempDir(), "plugin"), t.TempDir()
	if out, err := exec.Command(swarmtest.Binary(t, "skep/cmd/skep-secretdriver"), "-plugin", folder).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(config, "op-connect-token"), []byte(connectToken), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"plugin", "create", name, folder},
		{"plugin", "set", name, "OP_CONNECT_HOST=http://127.0.0.1:1", "POLICY=labels", "config.source=" + config},
		{"plugin", "enable", name},
	} {
		if _, err := w.Docker(args...); err != nil {
			t.Fatal(err)
		}
	}
}
