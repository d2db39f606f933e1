package child_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"skep/internal/logtest"
	"skep/services/controlplane/child"
)

// role makes the test binary a child, or a parent that has one.
const role = "SKEP_CHILD_TEST_ROLE"

// settings are what a child is told.
type settings struct {
	Secret string
	Folder string // where it notes what becomes of it
	Linger bool   // it does not hear SIGTERM
	Refuse bool   // it ends at once
}

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(role) {
	case "child":
		err = actChild()
	case "parent":
		err = actParent()
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// actChild says who it is and works until it is told to end, or its parent does.
func actChild() error {
	asked, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var s settings
	ctx, err := child.Config(asked, os.Stdin, &s)
	if err != nil {
		return err
	}
	if s.Refuse {
		return errors.New("refused")
	}
	if s.Linger {
		signal.Ignore(syscall.SIGTERM)
	}
	fmt.Printf("{\"pid\": %d, \"secret\": %q}\nmore\n", os.Getpid(), s.Secret)
	<-ctx.Done()
	// What a drain does, in the time that it is given.
	return os.WriteFile(filepath.Join(s.Folder, strconv.Itoa(os.Getpid())), fmt.Append(nil, context.Cause(ctx)), 0o600)
}

// actParent keeps a child until it is killed itself.
func actParent() error {
	p := process(settings{Folder: os.Getenv("SKEP_CHILD_TEST_FOLDER")}, io.Discard, os.Stderr)
	p.Ready = func(line []byte) error {
		_, err := fmt.Printf("%s\n", line)
		return err
	}
	return p.Run(context.Background())
}

func process(s settings, stderr, log io.Writer) *child.Process {
	return &child.Process{
		Name: "child of the test", Env: []string{role + "=child"}, Config: s, Stderr: stderr, Grace: time.Minute,
		Log: slog.New(slog.NewTextHandler(log, nil)),
	}
}

// said is the line of a child that is ready.
type said struct {
	PID    int
	Secret string
}

// running is a process that is kept, and what it says.
type running struct {
	*testing.T
	ready chan said
	log   *logtest.Buffer
	end   context.CancelFunc
	ended chan error
	pid   atomic.Int64 // of the last that was ready
}

func keep(t *testing.T, s settings, change func(*child.Process)) *running {
	t.Helper()
	r := &running{T: t, ready: make(chan said, 100), log: &logtest.Buffer{}, ended: make(chan error, 1)}
	p := process(s, t.Output(), io.MultiWriter(r.log, t.Output()))
	p.Ready = func(line []byte) error {
		var who said
		if err := json.Unmarshal(line, &who); err != nil {
			return err
		}
		r.pid.Store(int64(who.PID))
		r.ready <- who
		return nil
	}
	if change != nil {
		change(p)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	r.end = cancel
	go func() { r.ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if pid := r.pid.Load(); t.Failed() && pid > 0 {
			_ = syscall.Kill(int(pid), syscall.SIGKILL) // it may be gone
		}
		_ = r.over()
	})
	return r
}

const patience = 2 * time.Minute

// up waits for a child to be ready.
func (r *running) up() said {
	r.Helper()
	select {
	case who := <-r.ready:
		return who
	case err := <-r.ended:
		r.ended <- err
		r.Fatalf("it is not kept any more: %v", err)
	case <-time.After(patience):
		r.Fatal("no child is ready")
	}
	panic("unreachable")
}

// over waits for the end, and returns what Run does.
func (r *running) over() error {
	r.Helper()
	select {
	case err := <-r.ended:
		r.ended <- err
		return err
	case <-time.After(patience):
		r.Error("Run does not return")
		return nil
	}
}

// gone waits until there is no such process.
func gone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for alive(pid) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d goes on", pid)
		}
		<-time.After(10 * time.Millisecond) // a poll
	}
}

// alive counts no process that nobody has waited for yet (proc(5)).
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(stat), ") ")
	return err == nil && !strings.HasPrefix(state, "Z")
}

func note(t *testing.T, folder string, pid int) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(folder, strconv.Itoa(pid)))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// A child is configured by its standard input, and drains when the parent's
// context ends; Run returns when it is gone.
func TestDrain(t *testing.T) {
	folder := t.TempDir()
	var started []int
	r := keep(t, settings{Secret: "planted", Folder: folder}, func(p *child.Process) { p.Started = func(pid int) { started = append(started, pid) } })
	who := r.up()
	if who.Secret != "planted" {
		t.Errorf("the child was told %q", who.Secret)
	}
	for _, file := range []string{"cmdline", "environ"} {
		if shown, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", who.PID, file)); err != nil || strings.Contains(string(shown), "planted") {
			t.Errorf("%s shows %q, %v", file, shown, err)
		}
	}
	r.end()
	if err := r.over(); err != nil {
		t.Error(err)
	}
	if alive(who.PID) {
		t.Error("the child goes on")
	}
	if got := note(t, folder, who.PID); !strings.Contains(got, context.Canceled.Error()) && !strings.Contains(got, "terminated") {
		t.Errorf("it ended for %q, not by SIGTERM", got)
	}
	if !slices.Equal(started, []int{who.PID}) {
		t.Errorf("started %v, want %d alone", started, who.PID)
	}
}

// One that does not hear is killed after the grace.
func TestGrace(t *testing.T) {
	r := keep(t, settings{Folder: t.TempDir(), Linger: true}, func(p *child.Process) { p.Grace = 50 * time.Millisecond })
	who := r.up()
	r.end()
	if err := r.over(); err != nil {
		t.Error(err)
	}
	if alive(who.PID) {
		t.Error("the child goes on")
	}
}

// A child that dies is started again, with the same configuration.
func TestRestart(t *testing.T) {
	r := keep(t, settings{Secret: "planted", Folder: t.TempDir()}, nil)
	first := r.up()
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := r.up()
	if second.PID == first.PID || second.Secret != "planted" {
		t.Errorf("after %+v came %+v", first, second)
	}
	if got := r.log.String(); !strings.Contains(got, "signal: killed") || strings.Contains(got, "planted") {
		t.Errorf("log: %s", got)
	}
	r.end()
	if err := r.over(); err != nil {
		t.Error(err)
	}
	gone(t, second.PID)
}

// One that ends at every start is started less and less often, and Run ends in
// the middle of a pause.
func TestBackoff(t *testing.T) {
	starts := make(chan time.Time, 100)
	r := keep(t, settings{Refuse: true}, func(p *child.Process) { p.Started = func(int) { starts <- time.Now() } })
	const enough = 7
	for range enough {
		select {
		case <-starts:
		case <-time.After(patience):
			t.Fatal("it is not started again")
		}
	}
	r.end()
	if err := r.over(); err != nil {
		t.Error(err)
	}
	var pauses []time.Duration
	for line := range strings.Lines(r.log.String()) {
		_, in, ok := strings.Cut(line, " in=")
		pause, err := time.ParseDuration(strings.TrimSpace(in))
		if !ok || err != nil || !strings.Contains(line, "exit status 1") {
			t.Fatalf("log line %q: %v", line, err)
		}
		pauses = append(pauses, pause)
	}
	// Each is half as long again as the one before, give or take a half of it: the
	// first is 300 ms at most, the sixth 759 ms at least.
	if len(pauses) < enough-1 || pauses[0] > 300*time.Millisecond || pauses[enough-2] < 750*time.Millisecond {
		t.Errorf("paused %v", pauses)
	}
}

// What another start would not mend is not tried again.
func TestNothingToStart(t *testing.T) {
	file := func(mode os.FileMode) func(*child.Process) {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte("no program"), mode); err != nil {
			t.Fatal(err)
		}
		return func(p *child.Process) { p.Path = path }
	}
	for name, test := range map[string]struct {
		change func(*child.Process)
		want   error
	}{
		"no file":        {func(p *child.Process) { p.Path = filepath.Join(t.TempDir(), "none") }, os.ErrNotExist},
		"not executable": {file(0o600), os.ErrPermission},
		"no program":     {file(0o700), syscall.ENOEXEC},
		"not on PATH":    {func(p *child.Process) { p.Path = "skep-there-is-no-such" }, exec.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			if err := keep(t, settings{}, test.change).over(); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

// A child whose readiness is of no use is ended, and started again.
func TestReadyFails(t *testing.T) {
	var r *running
	fail := errors.New("of no use")
	pids := make(chan int, 100)
	r = keep(t, settings{Folder: t.TempDir()}, func(p *child.Process) {
		ready := p.Ready
		p.Ready = func(line []byte) error {
			if err := ready(line); err != nil || len(pids) > 1 {
				return err
			}
			return fail
		}
		p.Started = func(pid int) { pids <- pid }
	})
	first, second := r.up(), r.up()
	gone(t, first.PID)
	if !alive(second.PID) {
		t.Error("the second child is gone too")
	}
	if got := r.log.String(); !strings.Contains(got, fail.Error()) {
		t.Errorf("log: %s", got)
	}
}

// However the parent ends, its child does too.
func TestOrphan(t *testing.T) {
	folder := t.TempDir()
	parent := exec.Command(os.Args[0])
	parent.Env = []string{role + "=parent", "SKEP_CHILD_TEST_FOLDER=" + folder}
	parent.Stderr = t.Output()
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, readErr := bufio.NewReader(out).ReadBytes('\n')
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // it was killed
	var who said
	if err := errors.Join(readErr, json.Unmarshal(line, &who)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			_ = syscall.Kill(who.PID, syscall.SIGKILL) // it may be gone
		}
	})
	gone(t, who.PID)
	if got := note(t, folder, who.PID); got != child.ErrOrphan.Error() {
		t.Errorf("it ended for %q", got)
	}
}

// What is wrong with a configuration is not quoted: it holds secrets.
func TestConfig(t *testing.T) {
	for name, in := range map[string]string{
		"empty": "", "half a line": `{"Secret": "planted"}`, "no JSON": "planted\n", "another form": `{"Secret": ["planted"]}` + "\n",
	} {
		var s settings
		if _, err := child.Config(t.Context(), strings.NewReader(in), &s); err == nil || strings.Contains(err.Error(), "planted") {
			t.Errorf("%s: %v", name, err)
		}
	}
	in, parent := io.Pipe()
	go func() { fmt.Fprintln(parent, `{"Secret": "planted"}`) }()
	var s settings
	ctx, err := child.Config(t.Context(), in, &s)
	if err != nil || s.Secret != "planted" || ctx.Err() != nil {
		t.Fatalf("%+v, %v, %v", s, err, ctx.Err())
	}
	parent.Close()
	select {
	case <-ctx.Done():
	case <-time.After(patience):
		t.Fatal("it does not end with the parent")
	}
	if cause := context.Cause(ctx); !errors.Is(cause, child.ErrOrphan) {
		t.Errorf("ended for %v", cause)
	}
}

func TestBeside(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "skep-test-other"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", folder)
	if got, err := child.Beside("skep-test-other"); err != nil || got != filepath.Join(folder, "skep-test-other") {
		t.Errorf("on the PATH: %s, %v", got, err)
	}
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := child.Beside(filepath.Base(own)); err != nil || got != own {
		t.Errorf("beside: %s, %v", got, err)
	}
	if _, err := child.Beside("skep-test-none"); err == nil || !strings.Contains(err.Error(), "skep-test-none") {
		t.Errorf("nowhere: %v", err)
	}
}
