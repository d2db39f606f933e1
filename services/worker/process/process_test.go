//go:build linux

package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"skep/internal/swarmtest"
	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/worker"
	"skep/services/worker/launchertest"
)

// probePath names the probe for tests that run as another user.
const probePath = "SKEP_PROCESS_TEST_PROBE"

func probe(t *testing.T) string {
	t.Helper()
	if path := os.Getenv(probePath); path != "" {
		return path
	}
	return swarmtest.Binary(t, "skep/services/worker/testdata/probe")
}

// The tests of what a job can do, once more as somebody who is not root.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("the other tests run as an ordinary user now")
	}
	dir, err := os.MkdirTemp("", "skep-user-") // t.TempDir lies in folders that nobody else may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	const user = 54321
	scratch := filepath.Join(dir, "tmp")
	binary, probed := filepath.Join(dir, "test"), filepath.Join(dir, "probe")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(scratch, 0o700), os.Chown(scratch, user, user),
		duplicate(os.Args[0], binary), duplicate(probe(t), probed)); err != nil {
		t.Fatal(err)
	}
	as := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	try := exec.CommandContext(t.Context(), "unshare", "--user", probed)
	try.SysProcAttr = as
	if err := try.Run(); err != nil {
		if os.Getenv("SKEP_NO_SKIP") == "1" {
			t.Fatalf("ordinary users cannot make namespaces here: %v", err)
		}
		t.Skipf("ordinary users cannot make namespaces here: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "-test.v", "-test.run=^TestJob")
	cmd.Dir, cmd.SysProcAttr = scratch, as
	cmd.Env = append(os.Environ(), "TMPDIR="+scratch, "HOME="+scratch, probePath+"="+probed)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "--- SKIP") || !strings.Contains(string(out), "--- PASS: TestJobSees") {
		t.Errorf("%v\n%s", err, out)
	}
}

func duplicate(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o755)
}

func TestConformance(t *testing.T) {
	// What is left on disk shows here.
	t.Setenv("TMPDIR", t.TempDir())
	launchertest.Run(t, Launcher{Skep: probe(t)})
	if left, err := filepath.Glob(filepath.Join(os.TempDir(), "skep-*")); err != nil || len(left) > 0 {
		t.Errorf("left on disk: %v (%v)", left, err)
	}
}

// job runs the probe, and returns the lines that it wrote to both streams.
type job struct {
	worker.Job
	launcher Launcher
	heard    func(line string)

	mu    sync.Mutex
	lines []string
}

func newJob(t *testing.T, commands ...string) *job {
	t.Helper()
	// What is left on disk shows here.
	t.Setenv("TMPDIR", t.TempDir())
	tree, err := os.MkdirTemp("", "tree-")
	if err != nil {
		t.Fatal(err)
	}
	j := &job{launcher: Launcher{Skep: probe(t)}, Job: worker.Job{
		Run: "01234567-89ab-7def-8123-456789abcdef", Step: "test", Tree: tree, Command: append([]string{"skep"}, commands...), Deadline: time.Minute,
	}}
	j.Output = func(_, line string) {
		j.mu.Lock()
		j.lines = append(j.lines, line)
		j.mu.Unlock()
		if j.heard != nil {
			j.heard(line)
		}
	}
	return j
}

func (j *job) launch(t *testing.T) worker.Exit {
	t.Helper()
	exit, err := j.launcher.Launch(t.Context(), j.Job)
	if err != nil {
		t.Fatal(err)
	}
	j.clean(t)
	return exit
}

// clean says whether the tree is all that is left.
func (j *job) clean(t *testing.T) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "*"))
	if err != nil || !slices.Equal(left, []string{j.Tree}) {
		t.Errorf("left on disk: %v (%v)", left, err)
	}
}

func (j *job) said(t *testing.T, line string) {
	t.Helper()
	if !slices.Contains(j.lines, line) {
		t.Errorf("the job did not say %q:\n%s", line, strings.Join(j.lines, "\n"))
	}
}

func (j *job) all() string { return strings.Join(j.lines, "\n") }

func TestJobSees(t *testing.T) {
	j := newJob(t, "ls=/", "ls=/bin", "ls=/work", "ls=/home", "ls=/tmp", "ls=/run", "ls=/run/secrets", "ls=/etc", "pwd", "env", "ids",
		"cat=/etc/passwd", "cat=/work/out", "cat=/work/in", "stat=/run/secrets/token", "cat=/run/secrets/token", "write=/work/new,1",
		"write=/bin/new,1", "write=/etc/new,1", "write=/new/file,1", "escape")
	if err := errors.Join(os.WriteFile(filepath.Join(j.Tree, "file"), []byte("hello"), 0o644),
		os.Symlink("/etc/passwd", filepath.Join(j.Tree, "out")), os.Symlink("file", filepath.Join(j.Tree, "in"))); err != nil {
		t.Fatal(err)
	}
	j.Env = map[string]string{"INPUT": "1"}
	j.Secrets = map[string]secrets.Value{"token": secrets.NewValue([]byte("hunter22"))}
	t.Setenv("SECRET_OF_THE_WORKER", "x")
	if exit := j.launch(t); exit.Code != 0 || exit.Killed != "" {
		t.Errorf("exit %+v", exit)
	}
	for _, line := range []string{
		"ls: / bin etc home run tmp work", "ls: /bin skep", "ls: /work file in out", "ls: /home ", "ls: /tmp ", "ls: /run secrets", "ls: /run/secrets token",
		"ls: /etc ssl", "pwd: /work", "env: HOME=/home INPUT=1 PATH=/bin TMPDIR=/tmp",
		"cat: error: open /etc/passwd: no such file or directory", "cat: error: open /work/out: no such file or directory",
		`cat: /work/in: "hello"`, "stat: /run/secrets/token 400 65534", `cat: /run/secrets/token: "[redacted]"`, "escape: tried",
	} {
		j.said(t, line)
	}
	if !strings.Contains(j.all(), "ids: pid 1 parent 0 uid 65534 gid 65534 groups [") {
		t.Errorf("it is somebody else:\n%s", j.all())
	}
	for _, line := range j.lines {
		if strings.HasPrefix(line, "escape: ") && line != "escape: tried" {
			t.Error(line)
		}
	}
	if content, err := os.ReadFile(filepath.Join(j.Tree, "new")); err != nil || string(content) != "1" {
		t.Errorf("what the job wrote: %q, %v", content, err)
	}
	if os.Getuid() != 0 {
		return // the folders around are the user's own
	}
	if n := strings.Count(j.all(), "permission denied"); n < 3 {
		t.Errorf("it wrote outside of its folders:\n%s", j.all())
	}
}

func TestJobSeesNoProcesses(t *testing.T) {
	j := newJob(t, fmt.Sprintf("signal=%d", os.Getpid()), "signal=-1", "cat=/proc/self/status")
	j.launch(t)
	if n := strings.Count(j.all(), "signal: error: no such process"); n != 2 {
		t.Errorf("it reaches processes:\n%s", j.all())
	}
	j.said(t, "cat: error: open /proc/self/status: no such file or directory")
}

func TestJobNetwork(t *testing.T) {
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	abstract, err := listen.Listen(t.Context(), "unix", fmt.Sprintf("@skep-test-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()
	commands := []string{"dial=tcp," + l.Addr().String(), "dial=unix," + abstract.Addr().String()}

	j := newJob(t, commands...)
	j.launch(t)
	if strings.Contains(j.all(), "connected") || len(j.lines) != 2 {
		t.Errorf("without the Swarm:\n%s", j.all())
	}
	j = newJob(t, commands[0])
	j.Swarm = true
	j.launch(t)
	j.said(t, "dial: connected")
}

func TestJobSecretsAreMasked(t *testing.T) {
	const secret = "hunter22-horse"
	key := "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n-----END KEY-----\n"
	j := newJob(t, "say=it is "+secret+".", "complain="+secret, "pieces=a hun|ter22-|horse b~", "pieces="+strings.ReplaceAll(key, "\n", "~"),
		fmt.Sprintf("flood=%d,%s", 64<<10-5, secret), "say=", "say=  MIIEvQIBADANBgkq", "cat=/run/secrets/key")
	j.Secrets = map[string]secrets.Value{"token": secrets.NewValue([]byte(secret)), "key": secrets.NewValue([]byte(key))}
	j.launch(t)
	for _, line := range []string{"it is [redacted].", "[redacted]", "a [redacted] b", "  [redacted]"} {
		j.said(t, line)
	}
	for _, s := range []string{secret, "MIIEvQ", "hunter22", "horse"} {
		if strings.Contains(j.all(), s) {
			t.Errorf("%q is shown", s)
		}
	}
	if joined := strings.Join(j.lines, ""); !strings.Contains(joined, "xxxxx[redacted]") { // the flood comes in pieces
		t.Error("what came before the secret is lost")
	}
}

func TestJobExit(t *testing.T) {
	for name, c := range map[string]struct {
		command []string
		want    int
		killed  string
	}{
		"done":   {[]string{"say=hello"}, 0, ""},
		"failed": {[]string{"exit=3"}, 3, ""},
		"panic":  {[]string{"panic=oh"}, 2, ""},
		"core":   {[]string{"child=/work/lock", "exit=1"}, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJob(t, c.command...)
			if exit := j.launch(t); exit.Code != c.want || exit.Killed != c.killed {
				t.Errorf("exit %d %q", exit.Code, exit.Killed)
			}
			j.free(t)
		})
	}
}

// free says whether nothing holds the lock in the tree: a process that does
// outlived its job.
func (j *job) free(t *testing.T) {
	t.Helper()
	f, err := os.Open(filepath.Join(j.Tree, "lock"))
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Errorf("a process of the job lives: %v", err)
	}
}

func TestJobDeadline(t *testing.T) {
	const locked = "hold: locked"
	limits := []time.Duration{time.Second, 4 * time.Second, 16 * time.Second, 30 * time.Second}
	for i, limit := range limits {
		j := newJob(t, "stubborn=/work/lock")
		j.Deadline, j.launcher.grace = limit, 100*time.Millisecond
		exit := j.launch(t)
		if exit.Killed != fmt.Sprintf("it took longer than %v", limit) {
			t.Errorf("exit %+v", exit)
		}
		if i+1 < len(limits) && !slices.Contains(j.lines, locked) {
			continue // a busy machine has not begun it in the time
		}
		j.said(t, locked)
		j.free(t)
		return
	}
}

func TestJobCancel(t *testing.T) {
	j := newJob(t, "stubborn=/work/lock")
	j.launcher.grace = 100 * time.Millisecond
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	stop := errors.New("somebody cancelled it")
	j.heard = func(string) { cancel(stop) }
	if _, err := j.launcher.Launch(ctx, j.Job); !errors.Is(err, stop) {
		t.Errorf("Launch = %v", err)
	}
	j.said(t, "hold: locked")
	j.free(t)
	j.clean(t)
}

// A job that ends when it is asked to has the time for it.
func TestJobEndsWhenAsked(t *testing.T) {
	j := newJob(t, "say=here", "wait")
	ctx, cancel := context.WithCancel(t.Context())
	j.launcher.grace = time.Hour
	j.heard = func(string) { cancel() }
	j.launcher.Skep = probe(t)
	done := make(chan error, 1)
	go func() {
		_, err := j.launcher.Launch(ctx, j.Job)
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Launch = %v", err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("the job was not asked to end")
	}
}

func TestJobOutputIsBounded(t *testing.T) {
	j := newJob(t, fmt.Sprintf("flood=%d,end", worker.MaxAnswer+1<<20))
	j.Answer = true
	exit := j.launch(t)
	if len(exit.Answer) != worker.MaxAnswer {
		t.Errorf("%d bytes are kept", len(exit.Answer))
	}
	for _, line := range j.lines {
		if len(line) > 64<<10 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
	if !strings.HasSuffix(j.lines[len(j.lines)-1], "end") {
		t.Error("the last line is lost")
	}
}

// A line that makes this process panic breaks its own job, which ends although
// it has more to say than a pipe holds.
func TestJobOutputPanics(t *testing.T) {
	j := newJob(t, "say=begun", "flood=1000000,end")
	j.Output, j.Deadline = func(string, string) { panic("planted") }, time.Hour
	var broken *controlplane.Panic
	if exit, err := j.launcher.Launch(t.Context(), j.Job); !errors.As(err, &broken) || broken.Kind != "string" {
		t.Errorf("Launch = %+v, %v", exit, err)
	}
}

func TestJobLimits(t *testing.T) {
	j := newJob(t, "limits")
	// The kernel counts all processes of the jobs' user, other tests' as well.
	j.Limits = controlplane.Limits{Memory: 1 << 30, PIDs: 900}
	j.launch(t)
	for _, line := range []string{
		"limits: core 0 raised false", "limits: files 1024 raised false", "limits: size 1073741824 raised false", "limits: cpu 1800 raised false",
		"limits: data 1073741824 raised false", "limits: processes 900 raised false", "limits: no new privileges 1",
	} {
		j.said(t, line)
	}
	j = newJob(t, "allocate=2000", "say=unreached")
	j.Limits.Memory = 1 << 30
	if exit := j.launch(t); exit.Code == 0 || strings.Contains(j.all(), "allocate: done") {
		t.Errorf("it got 2 GB of 1: %+v", exit)
	}
	j = newJob(t, "fork=60", "exit=7")
	j.Limits.PIDs = 50
	j.launch(t)
	if strings.Contains(j.all(), "no command") || !strings.Contains(j.all(), "fork: stopped") && !strings.Contains(j.all(), "pthread_create failed") &&
		!strings.Contains(j.all(), "newosproc") {
		t.Errorf("it forked on:\n%.2000s", j.all())
	}
}

// The next job of the run finds what the one before left, and can change it.
func TestJobTreeIsPassedOn(t *testing.T) {
	j := newJob(t, "write=/work/dir/file,1", "chmod=/work/dir/file", "write=/tmp/x/y,1", "chmod=/tmp/x", "write=/work/locked/f,1", "chmod=/work/locked")
	j.launch(t)
	j.Command = []string{"skep", "write=/work/dir/more,2", "ls=/work/dir", "ls=/tmp"}
	j.launch(t)
	j.said(t, "ls: /work/dir file more")
	j.said(t, "ls: /tmp ")
	if err := os.RemoveAll(j.Tree); err != nil {
		t.Error(err)
	}
}

// A job that is not root's could put something else in the place of its tree.
func TestJobMovesItsTree(t *testing.T) {
	j := newJob(t, "rename=/work,/tmp/work", "link=/work,/etc", "ls=/")
	_, err := j.launcher.Launch(t.Context(), j.Job)
	if os.Getuid() == 0 {
		if err != nil || !strings.Contains(j.all(), "permission denied") {
			t.Errorf("%v\n%s", err, j.all())
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), "moved its folder away") {
		t.Errorf("Launch = %v", err)
	}
	if _, err := os.Lstat(j.Tree); err == nil {
		t.Error("what the job left is taken for its tree")
	}
}

// A socket of the engine reaches the job at the end of a path of any length,
// both ways, and does not outlive it.
func TestJobDockerSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "e")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Skipf("the path of the test's folder is too long: %v", err)
	}
	engine := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "engine says %s", r.URL.Path)
	})}
	defer engine.Close()
	go func() { _ = engine.Serve(l) }() // until Close

	j := newJob(t, "env", "docker=/_ping", "docker=/info", "stat=/run/docker.sock")
	deep := filepath.Join(os.TempDir(), strings.Repeat("d", 150))
	if err := os.Mkdir(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	j.Swarm, j.Env = true, map[string]string{"DOCKER_HOST": "unix://" + filepath.Join(dir, "s")}
	moved := filepath.Join(deep, "tree")
	if err := os.Rename(j.Tree, moved); err != nil {
		t.Fatal(err)
	}
	j.Tree = moved
	t.Setenv("TMPDIR", deep)
	j.launch(t)
	j.said(t, "docker: 200 OK engine says /_ping")
	j.said(t, "docker: 200 OK engine says /info")
	j.said(t, "stat: /run/docker.sock 600 65534")
	j.said(t, "env: DOCKER_HOST=unix:///run/docker.sock HOME=/home PATH=/bin TMPDIR=/tmp")

	// Without the Swarm there is none.
	j.Swarm, j.lines = false, nil
	j.launch(t)
	if strings.Contains(j.all(), "engine says") {
		t.Errorf("it reached the engine:\n%s", j.all())
	}
}

func TestJobRefused(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		command []string
		allowed []string
		want    string
	}{
		"no command":      {nil, nil, "no command"},
		"not allowed":     {[]string{"backup"}, nil, "none of the commands"},
		"by its path":     {[]string{"/bin/sh"}, []string{"/bin/sh"}, "none of the commands"},
		"needs libraries": {[]string{"env"}, []string{"/usr/bin/env"}, "needs libraries"},
		"a script":        {[]string{"script"}, []string{script}, "is no program"},
		"not there":       {[]string{"gone"}, []string{"/gone"}, "is no program"},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJob(t)
			j.Command, j.launcher.Commands = c.command, c.allowed
			_, err := j.launcher.Launch(t.Context(), j.Job)
			if !errors.Is(err, worker.ErrRefused) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Launch = %v", err)
			}
			j.clean(t)
		})
	}
	j := newJob(t)
	j.Command, j.launcher.Commands = []string{filepath.Base(probe(t)), "say=allowed"}, []string{probe(t)}
	j.launch(t)
	j.said(t, "allowed")
	// A secret's name is a file's.
	j.Secrets = map[string]secrets.Value{"../../bin/skep": secrets.NewValue([]byte("x"))}
	if _, err := j.launcher.Launch(t.Context(), j.Job); !errors.Is(err, worker.ErrRefused) {
		t.Errorf("Launch = %v", err)
	}
	j.clean(t)
}
