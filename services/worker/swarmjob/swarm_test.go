package swarmjob

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"skep/internal/porttest"
	"skep/internal/swarmtest"
	"skep/services/worker/launchertest"
)

const (
	testImage string = "skep-worker:test"
	// wrapped is the image of a task with skep-job for its entrypoint.
	wrapped string = "task:test"
	probe   string = "skep/services/worker/testdata/probe"
	skepJob string = "skep/cmd/skep-job"
)

func TestMain(m *testing.M) {
	if host := os.Getenv(crashHost); host != "" {
		if err := crash(host); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestSwarm has one Swarm, behind a docker proxy that opens nothing but
// Endpoints. Its first tests run at the same time.
func TestSwarm(t *testing.T) {
	swarm := swarmtest.Start(t)
	images(t, swarm.Node)
	host := proxy(t, swarm)
	var asked requests
	l := newLauncher(t, host, &asked)
	t.Run("jobs", func(t *testing.T) {
		launchertest.Run(t, l)
		for name, test := range map[string]func(*testing.T, Launcher){
			"container": containers, "killed": kills, "late": late, "tree": trees, "output": outputs, "cannot start": cannotStart,
			"own image": ownImages, "taken over": takenOver, "removed": removed,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, l)
			})
		}
		t.Run("networks", func(t *testing.T) {
			t.Parallel()
			networks(t, swarm, l)
		})
	})
	nothingLeft(t, l.API)
	if t.Failed() {
		return // the sweeper would hide why
	}
	t.Run("endpoints", func(t *testing.T) { asked.are(t, Endpoints) })
	t.Run("sweep", func(t *testing.T) { sweeps(t, l) })
	t.Run("crash", func(t *testing.T) { crashes(t, host, l) })
}

// images makes the one of jobs, and one of tasks.
func images(t *testing.T, nodes ...*swarmtest.Node) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image.tar")
	if err := pack(image, map[string]string{"skep": swarmtest.Binary(t, probe), "skep-job": swarmtest.Binary(t, skepJob)}); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		_, err := n.Docker("import", image, testImage)
		_, e := n.Docker("import", "-c", `ENTRYPOINT ["/skep-job", "--"]`, image, wrapped)
		if err := errors.Join(err, e); err != nil {
			t.Fatal(err)
		}
	}
}

func pack(to string, files map[string]string) (err error) {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	for name, from := range files {
		content, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(content))}); err != nil {
			return err
		}
		if _, err := w.Write(content); err != nil {
			return err
		}
	}
	return w.Close()
}

// proxy runs a docker proxy with nothing open but Endpoints, and returns its
// address.
func proxy(t *testing.T, s *swarmtest.Swarm) string {
	t.Helper()
	address := porttest.Address(t)
	var said bytes.Buffer
	cmd := exec.Command(swarmtest.Binary(t, "skep/cmd/skep-dockerproxy"))
	cmd.Env = []string{
		"SOCKET_PATH=" + strings.TrimPrefix(s.Host(), "unix://"), "LISTEN=" + address, "ALLOW=" + strings.Join(Endpoints, ","),
		"EVENTS=0", "PING=0", "VERSION=0",
	}
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
		if t.Failed() {
			t.Logf("the docker proxy said:\n%s", said.String())
		}
	})
	err := swarmtest.Poll(time.Minute, func() error {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	return "tcp://" + address
}

func newLauncher(t testing.TB, host string, asked *requests) Launcher {
	t.Helper()
	api, err := client.New(client.WithHost(host), client.WithHTTPResponseHook(asked.add))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { api.Close() })
	return Launcher{API: api, Image: testImage, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

// requests are those that a client made, as Endpoints has them.
type requests struct {
	mu   sync.Mutex
	seen map[string]bool
}

var (
	version = regexp.MustCompile(`^/v1\.\d+/`)
	object  = regexp.MustCompile(`^(/[a-z]+)/[a-z0-9]{25}\b`)
)

func (r *requests) add(response *http.Response) {
	method, path := response.Request.Method, version.ReplaceAllString(response.Request.URL.Path, "/")
	if method == http.MethodHead {
		method = http.MethodGet
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = map[string]bool{}
	}
	r.seen[method+" "+object.ReplaceAllString(path, "$1/{id}")] = true
}

func (r *requests) are(t *testing.T, want []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, endpoint := range want {
		if !r.seen[endpoint] {
			t.Errorf("%s is never called", endpoint)
		}
		delete(r.seen, endpoint)
	}
	for endpoint := range r.seen {
		t.Errorf("%s is called, which is none of the Endpoints", endpoint)
	}
}

// nothingLeft says what of jobs is there.
func nothingLeft(t *testing.T, api API) {
	t.Helper()
	found, err := things(t.Context(), api, labelJob)
	if err != nil {
		t.Error(err)
	}
	for _, f := range found {
		t.Errorf("left: %s %s", f.kind, f.name)
	}
}

// gone says what is left of one run.
func gone(t *testing.T, api API, j *launchertest.Job) {
	t.Helper()
	found, err := things(t.Context(), api, labelRun+"="+string(j.Run))
	if err != nil {
		t.Error(err)
	}
	for _, f := range found {
		t.Errorf("left: %s %s", f.kind, f.name)
	}
}
