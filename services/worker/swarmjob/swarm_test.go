package swarmjob

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"skep/internal/swarmtest"
	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/worker"
)

const (
	testRun   controlplane.RunID = "01890000-89ab-7def-8123-456789abcdef"
	testImage string             = "skep-worker:test"
	probe     string             = "skep/services/worker/testdata/probe"
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

// start runs a Swarm with the image of jobs.
func start(t *testing.T) (*swarmtest.Swarm, Launcher) {
	t.Helper()
	s := swarmtest.Start(t)
	image := filepath.Join(t.TempDir(), "image.tar")
	if err := pack(image, map[string]string{"skep": swarmtest.Binary(t, probe), "skep-job": swarmtest.Binary(t, "skep/cmd/skep-job")}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Docker("import", image, testImage); err != nil {
		t.Fatal(err)
	}
	return s, newLauncher(t, s.Host())
}

func newLauncher(t testing.TB, host string) Launcher {
	t.Helper()
	api, err := client.New(client.WithHost(host))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { api.Close() })
	return Launcher{API: api, Image: testImage, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
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

// said collects the lines of a job.
type said struct {
	mu    sync.Mutex
	lines []string
	heard func()
}

func (s *said) add(stream, line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, stream+": "+line)
	if s.heard != nil {
		s.heard()
	}
}

func (s *said) check(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !slices.Contains(s.lines, line) {
			t.Errorf("the job did not say %q:\n%s", line, s.all())
		}
	}
}

func (s *said) all() string { return strings.Join(s.lines, "\n") }

func newJob(t *testing.T, s *said, commands ...string) worker.Job {
	t.Helper()
	return worker.Job{
		Run: testRun, Step: "check", Tree: t.TempDir(), Command: append([]string{"skep"}, commands...), Deadline: 2 * time.Minute, Output: s.add,
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

func TestLaunch(t *testing.T) {
	swarm, l := start(t)
	t.Run("what it sees", func(t *testing.T) {
		var s said
		j := newJob(t, &s, "pwd", "env", "ids", "ls=/work", "ls=/run/secrets", "cat=/work/dir/file", "stat=/run/secrets/token",
			"cat=/run/secrets/token", "pieces=hun|ter22~", "complain=hunter22", "write=/work/new,1", "cat=/work/new", "write=/tmp/new,1",
			"write=/new,1", "cat=/etc/shadow", "stat=/var/run/docker.sock", "dial=tcp,"+swarm.Address+":2377", "exit=3")
		j.Env = map[string]string{"INPUT": "1"}
		j.Secrets = map[string]secrets.Value{"token": secrets.NewValue([]byte("hunter22\n"))}
		if err := errors.Join(os.Mkdir(filepath.Join(j.Tree, "dir"), 0o755),
			os.WriteFile(filepath.Join(j.Tree, "dir", "file"), []byte("hello"), 0o600)); err != nil {
			t.Fatal(err)
		}
		exit, err := l.Launch(t.Context(), j)
		if err != nil {
			t.Fatal(err)
		}
		if exit.Code != 3 || exit.Killed != "" || !strings.HasPrefix(string(exit.Stdout), "pwd: /work\n") {
			t.Errorf("exit %d %q %.100s", exit.Code, exit.Killed, exit.Stdout)
		}
		s.check(t, "stdout: pwd: /work", "stdout: ls: /work dir", "stdout: ls: /run/secrets token", `stdout: cat: /work/dir/file: "hello"`,
			"stdout: stat: /run/secrets/token 400 65534", `stdout: cat: /run/secrets/token: "[redacted]\n"`, "stdout: [redacted]", "stderr: [redacted]",
			`stdout: cat: /work/new: "1"`, "stdout: write: error: open /new: read-only file system", "stdout: CapEff: 0000000000000000",
			"stdout: stat: error: no such file or directory")
		for _, want := range []string{"uid 65534 gid 65534 groups [", " INPUT=1 PATH=/ PWD=/work TMPDIR=/tmp", "dial: error:"} {
			if !strings.Contains(s.all(), want) {
				t.Errorf("no %q:\n%s", want, s.all())
			}
		}
		if strings.Contains(s.all(), "hunter22") {
			t.Errorf("a secret is shown:\n%s", s.all())
		}
		nothingLeft(t, l.API)
	})
	t.Run("ends", func(t *testing.T) { ends(t, l) })
	t.Run("networks", func(t *testing.T) { networks(t, swarm, l) })
	t.Run("tree", func(t *testing.T) { trees(t, l) })
	t.Run("output", func(t *testing.T) { outputs(t, l) })
	t.Run("cannot start", func(t *testing.T) { cannotStart(t, l) })
	t.Run("cancelled", func(t *testing.T) { cancelled(t, l) })
	t.Run("taken over", func(t *testing.T) { takenOver(t, l) })
	t.Run("sweep", func(t *testing.T) { sweeps(t, l) })
	t.Run("crash", func(t *testing.T) { crashes(t, swarm, l) })
}

// ends shows how jobs end by themselves.
func ends(t *testing.T, l Launcher) {
	for name, c := range map[string]struct {
		command  string
		deadline time.Duration
		want     worker.Exit
		killed   string
	}{
		"done":     {"say=hello", 0, worker.Exit{Code: 0}, ""},
		"killed":   {"die", 0, worker.Exit{Code: 137}, "limit of 64MiB"},
		"memory":   {"allocate=200", 0, worker.Exit{Code: 137}, "limit of 64MiB"},
		"deadline": {"stubborn=/work/lock", 5 * time.Second, worker.Exit{Code: -1}, "it took longer than 5s"},
	} {
		t.Run(name, func(t *testing.T) {
			var s said
			j := newJob(t, &s, "say=begun", c.command)
			j.Limits.Memory = 64 << 20
			j.Deadline = c.deadline
			exit, err := l.Launch(t.Context(), j)
			if err != nil {
				t.Fatal(err)
			}
			if exit.Code != c.want.Code || !strings.Contains(exit.Killed, c.killed) || c.killed == "" && exit.Killed != "" {
				t.Errorf("exit %d %q", exit.Code, exit.Killed)
			}
			s.check(t, "stdout: begun")
			nothingLeft(t, l.API)
		})
	}
}

// networks shows that a job reaches others only where it is let.
func networks(t *testing.T, swarm *swarmtest.Swarm, l Launcher) {
	if err := swarm.Import("whoami:test", swarmtest.Binary(t, "skep/cmd/whoami")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"network", "create", "-d", "overlay", "--internal", "proxy"},
		{"service", "create", "-q", "--no-resolve-image", "--network", "proxy", "--endpoint-mode", "dnsrr", "--name", "whoami", "whoami:test"},
	} {
		if _, err := swarm.Docker(args...); err != nil {
			t.Fatal(err)
		}
	}
	l.Networks = []string{"proxy"}
	l.TaskNetworks = []string{"proxy"}
	for name, c := range map[string]struct {
		swarm   bool
		image   string
		reaches bool
	}{
		"the tree alone": {reaches: false},
		"the Swarm":      {swarm: true, reaches: true},
		"its own image":  {image: testImage, reaches: true},
	} {
		t.Run(name, func(t *testing.T) {
			var s said
			j := newJob(t, &s, "dial=tcp,whoami:8080")
			j.Swarm, j.Image = c.swarm, c.image
			if c.image != "" {
				j.Command[0] = "/skep"
			}
			if _, err := l.Launch(t.Context(), j); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(s.all(), "dial: connected") != c.reaches || len(s.lines) != 1 {
				t.Errorf("%s", s.all())
			}
			nothingLeft(t, l.API)
		})
	}
}

// trees come in whole up to what configs hold.
func trees(t *testing.T, l Launcher) {
	for _, c := range []struct {
		mib  int
		fits bool
	}{{0, true}, {5, true}, {30, true}, {33, false}} {
		t.Run(fmt.Sprintf("%dMiB", c.mib), func(t *testing.T) {
			var s said
			j := newJob(t, &s, "ls=/work", "ls=/skep-job.d")
			content := make([]byte, c.mib<<20)
			rand.Read(content)
			if err := os.WriteFile(filepath.Join(j.Tree, "file"), content, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := l.Launch(t.Context(), j)
			if !c.fits {
				if !errors.Is(err, worker.ErrRefused) || !strings.Contains(err.Error(), "a Swarm takes 32.0 MB") {
					t.Errorf("Launch = %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			s.check(t, "stdout: ls: /work file")
			nothingLeft(t, l.API)
		})
	}
}

// outputs arrive whole and in order, with secrets masked where the image does
// not do it.
func outputs(t *testing.T, l Launcher) {
	var s said
	commands := []string{}
	for i := range 2000 {
		commands = append(commands, fmt.Sprintf("say=line %d", i))
	}
	j := newJob(t, &s, append(commands, "flood=100000,hunter22", "say=", "cat=/run/secrets/token")...)
	j.Image, j.Command[0] = testImage, "/skep"
	j.Secrets = map[string]secrets.Value{"token": secrets.NewValue([]byte("hunter22"))}
	exit, err := l.Launch(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2000 {
		if want := fmt.Sprintf("stdout: line %d", i); i >= len(s.lines) || s.lines[i] != want {
			t.Fatalf("line %d is not %q", i, want)
		}
	}
	s.check(t, `stdout: cat: /run/secrets/token: "[redacted]"`)
	if strings.Contains(s.all()+string(exit.Stdout), "hunter22") || !strings.Contains(string(exit.Stdout), "xxx[redacted]\n") {
		t.Errorf("the flood is not masked, or not whole: %d bytes", len(exit.Stdout))
	}
}

func cannotStart(t *testing.T, l Launcher) {
	for name, c := range map[string]struct {
		change func(*worker.Job, *Launcher)
		want   string
	}{
		"no image":   {func(j *worker.Job, _ *Launcher) { j.Image = "registry.invalid/none:1" }, "load it on every node"},
		"no node":    {func(_ *worker.Job, l *Launcher) { l.Constraints = []string{"node.labels.none==yes"} }, "no node took the job within 1s: no suitable node"},
		"no network": {func(j *worker.Job, l *Launcher) { j.Swarm, l.Networks = true, []string{"none"} }, "network none not found"},
		"no value": {func(j *worker.Job, _ *Launcher) {
			j.Secrets = map[string]secrets.Value{"token": secrets.NewValue(nil)}
		}, "secret token: it is empty"},
		"a path": {func(j *worker.Job, _ *Launcher) {
			j.Secrets = map[string]secrets.Value{"../token": secrets.NewValue([]byte("x"))}
		}, "no name of a secret"},
	} {
		t.Run(name, func(t *testing.T) {
			var s said
			j, l := newJob(t, &s, "say=hello"), l
			l.place = time.Second
			c.change(&j, &l)
			if exit, err := l.Launch(t.Context(), j); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Launch = %+v, %v", exit, err)
			}
			nothingLeft(t, l.API)
		})
	}
}

func cancelled(t *testing.T, l Launcher) {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	why := errors.New("somebody cancelled it")
	s := said{heard: func() { cancel(why) }}
	j := newJob(t, &s, "say=begun", "stubborn=/work/lock")
	j.Secrets = map[string]secrets.Value{"token": secrets.NewValue([]byte("hunter22"))}
	if exit, err := l.Launch(ctx, j); !errors.Is(err, why) {
		t.Errorf("Launch = %+v, %v", exit, err)
	}
	nothingLeft(t, l.API)
}

// takenOver shows that the same step ends a job that goes on without its
// launcher, and that one that lost its step removes nothing of the next.
func takenOver(t *testing.T, l Launcher) {
	begun, ended := make(chan struct{}, 1), make(chan error, 1)
	first := said{heard: func() {
		select {
		case begun <- struct{}{}:
		default:
		}
	}}
	go func() {
		_, err := l.Launch(t.Context(), newJob(t, &first, "say=begun", "wait"))
		ended <- err
	}()
	<-begun
	var second said
	if exit, err := l.Launch(t.Context(), newJob(t, &second, "say=second")); err != nil || exit.Code != 0 {
		t.Errorf("Launch = %+v, %v", exit, err)
	}
	second.check(t, "stdout: second")
	if err := <-ended; err == nil {
		t.Error("the first one does not know")
	}
	nothingLeft(t, l.API)
}

// runs says the same of every run.
type runs struct {
	run controlplane.Run
	err error
}

func (r runs) Run(context.Context, controlplane.RunID) (controlplane.Run, error) { return r.run, r.err }

func sweeps(t *testing.T, l Launcher) {
	away := errors.New("the database is away")
	for name, c := range map[string]struct {
		runs     runs
		deadline time.Duration
		goes     bool
		fails    error
	}{
		"running":         {runs{run: controlplane.Run{State: controlplane.RunRunning}}, time.Minute, false, nil},
		"over":            {runs{run: controlplane.Run{State: controlplane.RunCancelled}}, time.Minute, true, nil},
		"gone":            {runs{err: controlplane.ErrNotFound}, time.Minute, true, nil},
		"nobody knows":    {runs{err: away}, time.Minute, false, away},
		"expired":         {runs{run: controlplane.Run{State: controlplane.RunRunning}}, -slack - time.Minute, true, nil},
		"expired, unsure": {runs{err: away}, -slack - time.Minute, true, away},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJob(t, &said{}, "say=hello")
			j.Deadline = c.deadline
			j.Secrets = map[string]secrets.Value{"token": secrets.NewValue([]byte("hunter22"))}
			p, err := newPlan(l, j, "launch")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := l.create(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			sweeper := Sweeper{API: l.API, Runs: c.runs, Log: l.Log}
			if err := sweeper.Sweep(t.Context()); c.fails != nil && !errors.Is(err, c.fails) {
				t.Errorf("Sweep = %v", err)
			}
			if c.goes {
				swept(t, sweeper)
				return
			}
			if found, err := things(t.Context(), l.API, labelJob); err != nil || len(found) != 4 {
				t.Errorf("%d things are left, %v", len(found), err)
			}
			if err := l.remove(t.Context(), labelJob); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// swept sweeps until nothing is left.
func swept(t *testing.T, s Sweeper) {
	t.Helper()
	err := swarmtest.Poll(time.Minute, func() error {
		err := s.Sweep(t.Context())
		found, e := things(t.Context(), s.API, labelJob)
		if len(found) > 0 {
			err = errors.Join(err, fmt.Errorf("%d things are left", len(found)))
		} else {
			err = nil // somebody else's run may be unknown still
		}
		return errors.Join(err, e)
	})
	if err != nil {
		t.Error(err)
	}
}

// crashHost and crashAfter make the test binary a launcher that kills itself
// after so many calls that change something.
const (
	crashHost  = "SKEP_SWARMJOB_TEST_HOST"
	crashAfter = "SKEP_SWARMJOB_TEST_CALLS"
)

func crash(host string) error {
	var after int64
	if _, err := fmt.Sscan(os.Getenv(crashAfter), &after); err != nil {
		return err
	}
	var calls atomic.Int64
	api, err := client.New(client.WithHost(host), client.WithHTTPResponseHook(func(r *http.Response) {
		if r.Request.Method != http.MethodGet && r.Request.Method != http.MethodHead && calls.Add(1) == after {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}))
	if err != nil {
		return err
	}
	defer api.Close()
	tree, err := os.MkdirTemp("", "tree-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tree)
	j := worker.Job{
		Run: testRun, Step: "check", Tree: tree, Command: []string{"skep", "say=hello"}, Deadline: time.Minute,
		Secrets: map[string]secrets.Value{"token": secrets.NewValue([]byte("hunter22"))}, Output: func(string, string) {},
	}
	l := Launcher{API: api, Image: testImage, Log: slog.New(slog.DiscardHandler)}
	_, err = l.Launch(context.Background(), j)
	return err
}

// crashes kills launchers after each call that changes something: the sweeper
// leaves nothing of what they made.
func crashes(t *testing.T, swarm *swarmtest.Swarm, l Launcher) {
	sweeper := Sweeper{API: l.API, Runs: runs{err: controlplane.ErrNotFound}, Log: l.Log}
	left := 0
	for after := 1; ; after++ {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), crashHost+"="+swarm.Host(), fmt.Sprintf("%s=%d", crashAfter, after), "TMPDIR="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err == nil {
			// It made and removed a network, a config, a secret and a service.
			if after != 9 || left == 0 {
				t.Errorf("it ended before call %d, and %d things were left", after, left)
			}
			nothingLeft(t, l.API)
			return
		}
		if cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("after %d calls: %v\n%s", after, err, out)
		}
		found, err := things(t.Context(), l.API, labelJob)
		if err != nil {
			t.Fatal(err)
		}
		left += len(found)
		swept(t, sweeper)
	}
}
