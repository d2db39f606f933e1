package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"skep/internal/swarmtest"
	"skep/secrets/onepassword"
	"skep/secrets/secretstest"
)

// plantedStack takes secrets in every way: as a path, as a value through the
// shim, and in a file.
const plantedStack = `name: app
services:
  web:
    image: whoami:test
    entrypoint: [/whoami]
    environment: {TOKEN_FILE: op://test/i0/f, API_KEY: op://test/i1/f}
    x-files: [{content: "token = {{ op://test/i2/f }}\n", target: /etc/app.conf}]
    mem_limit: 64m
    healthcheck: {test: [CMD, /whoami, -healthcheck]}
`

// ledger is everything that the commands said, by command.
type ledger struct {
	mu   sync.Mutex
	said map[string]*bytes.Buffer
}

func (l *ledger) page(name string) io.Writer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.said[name] == nil {
		l.said[name] = &bytes.Buffer{}
	}
	return lockedWriter{l, l.said[name]}
}

type lockedWriter struct {
	l *ledger
	b *bytes.Buffer
}

func (w lockedWriter) Write(b []byte) (int, error) {
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	return w.b.Write(b)
}

// text is what a page has until now.
func (l *ledger) text(name string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.said[name]; b != nil {
		return b.String()
	}
	return ""
}

// Secrets are planted in the store and in the token; no output, error, log or
// file of any command has one, nor anything else that the engine is sent.
func TestPlantedSecretsAreNowhere(t *testing.T) {
	engine := startFakeEngine(t)
	connect := secretstest.NewConnect(connectToken)
	items := map[string]map[string]string{}
	for i := range 4 {
		items[fmt.Sprintf("i%d", i)] = map[string]string{"f": plantedValue(i, 1)}
	}
	ids := connect.Fill(secretstest.Content{"test": items})
	t.Setenv("OP_CONNECT_HOST", secretstest.Start(t, connect))
	t.Setenv(onepassword.TokenVariable, connectToken)
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{
		"cluster.yaml":   secretsCluster + "defaults: {update: {monitor: 1ms}}\n",
		"app/stack.yaml": plantedStack,
	})
	build, plan := filepath.Join(dir, "build"), filepath.Join(dir, "plan.json")
	said := &ledger{said: map[string]*bytes.Buffer{}}
	skep := func(want int, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		both := io.MultiWriter(&out, said.page(strings.Join(args, " ")))
		if code := run(t.Context(), append([]string{"skep", "-C", dir}, args...), nil, both, both); code != want {
			t.Fatalf("skep %s: exit code %d, want %d\n%s", strings.Join(args, " "), code, want, &out)
		}
		return out.String()
	}
	generate := func() {
		t.Helper()
		skep(exitDone, "check")
		skep(exitDone, "generate", "-o", build)
		skep(exitDone, "generate", "-o", build, "--json")
		skep(exitDone, "explain")
	}

	// What goes wrong first: a store and an engine that say too much.
	connect.Inject(secretstest.Fault{Status: http.StatusForbidden, Message: "no access with " + connectToken})
	skep(exitFailed, "secrets", "sync")
	skep(exitFailed, "secrets", "sync", "--json")
	connect.ClearFaults()
	for _, quote := range []func([]byte) string{
		func(body []byte) string { return "cannot read " + string(body) },
		func(body []byte) string {
			var spec struct{ Data []byte }
			if err := json.Unmarshal(body, &spec); err != nil {
				t.Error(err)
			}
			return fmt.Sprintf("cannot take %q", spec.Data)
		},
	} {
		engine.refuse(func(r *http.Request, body []byte) string {
			if r.PathValue("kind") == "secrets" {
				return quote(body)
			}
			return ""
		})
		contains(t, skep(exitFailed, "secrets", "sync"), "failed   app_i0-f_v1")
		skep(exitFailed, "secrets", "sync", "--json")
	}
	engine.refuse(nil)
	skep(exitFailed, "deploy", "--resolve-image", "never") // no secret is there
	generate()

	// Then what goes well.
	skep(exitDone, "secrets", "list", "--json")
	skep(exitDone, "secrets", "plan")
	skep(exitDone, "secrets", "plan", "--json")
	contains(t, skep(exitDone, "secrets", "sync"), "Secrets: 3 created.")
	generate()
	contains(t, skep(exitDone, "plan"), "+ service app_web")
	skep(exitDone, "plan", "--json")
	skep(exitDone, "plan", "--markdown")
	skep(exitDone, "plan", "-out", plan)
	skep(exitDone, "deploy", "--dry-run", "--resolve-image", "never")
	contains(t, skep(exitDone, "deploy", "--resolve-image", "never", plan), "service app_web is up")

	// A rotation by hand, with an engine that refuses the deploy once.
	connect.Set(ids["test/i1"], "f", plantedValue(1, 2))
	skep(exitDone, "secrets", "sync", "--json")
	generate()
	engine.refuse(func(r *http.Request, body []byte) string {
		if r.PathValue("kind") == "services" {
			return "cannot take " + string(body)
		}
		return ""
	})
	contains(t, skep(exitFailed, "deploy", "--resolve-image", "never"), "cannot take")
	skep(exitFailed, "deploy", "--resolve-image", "never", "--json")
	engine.refuse(nil)
	skep(exitDone, "deploy", "--resolve-image", "never", "--json")
	skep(exitDone, "status", "--json")
	skep(exitDone, "history", "app", "--json")

	// And one that is watched for, while the store comes and goes.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan int, 1)
	log := said.page("watch")
	go func() {
		done <- run(ctx, []string{"skep", "-C", dir, "secrets", "watch", "--interval", "50ms", "--json"}, nil, log, log)
	}()
	wait := func(words string) {
		t.Helper()
		if err := swarmtest.Poll(3*time.Minute, func() error {
			if !strings.Contains(said.text("watch"), words) {
				return fmt.Errorf("the log lacks %q", words)
			}
			return nil
		}); err != nil {
			t.Errorf("%v\n%s", err, said.text("watch"))
		}
	}
	connect.Inject(secretstest.Fault{Status: http.StatusUnauthorized, Message: "who is " + connectToken})
	wait("is not accepted")
	connect.ClearFaults()
	connect.Set(ids["test/i0"], "f", plantedValue(0, 2))
	wait(`"msg":"deployed"`)
	cancel()
	if code := <-done; code != exitDone {
		t.Errorf("watch ends with exit code %d", code)
	}

	// The values were there to be said.
	values := engine.secretValues()
	for _, want := range []string{plantedValue(0, 1), plantedValue(0, 2), plantedValue(1, 1), plantedValue(1, 2), "token = " + plantedValue(2, 1) + "\n"} {
		if !slices.Contains(values, want) {
			t.Errorf("the engine has no %q among %q", want, values)
		}
	}
	places := map[string]string{"what the engine was sent": engine.sentText()}
	said.mu.Lock()
	for name, b := range said.said {
		places["skep "+name] = b.String()
	}
	said.mu.Unlock()
	for name, text := range filesIn(t, dir) {
		places[name] = text
	}
	for _, file := range []string{plan, filepath.Join(build, "app.yaml"), filepath.Join(dir, "secrets.lock")} {
		if places[file] == "" {
			t.Errorf("there is no %s to look at", file)
		}
	}
	for place, text := range places {
		if found := plantedIn(text); found != "" {
			t.Errorf("%s holds a secret: %.120q", place, found)
		}
	}
}

func filesIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		out[path] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var base64Run = regexp.MustCompile(`[A-Za-z0-9+/]{16,}={0,2}`)

// plantedIn returns what surrounds a planted secret: in a text, and in what a
// text holds as base64, compressed or not.
func plantedIn(text string) string {
	if i := strings.Index(text, "planted-"); i >= 0 {
		return text[max(0, i-40):]
	}
	for _, run := range base64Run.FindAllString(text, -1) {
		data, err := base64.StdEncoding.DecodeString(run)
		if err != nil {
			continue
		}
		if z, err := gzip.NewReader(bytes.NewReader(data)); err == nil {
			data, _ = io.ReadAll(z)
		}
		if found := plantedIn(string(data)); found != "" {
			return found
		}
	}
	return ""
}

func TestPlantedIn(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := io.WriteString(z, `{"a": "planted-1"}`); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	encode := base64.StdEncoding.EncodeToString
	for text, want := range map[string]bool{
		"a planted-1": true, "plan, ted-1": false, `{"Data":"` + encode([]byte("db: planted-1\n")) + `"}`: true, encode(packed.Bytes()): true,
	} {
		if got := plantedIn(text) != ""; got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
}
