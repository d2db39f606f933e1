// Package launchertest is the suite that every launcher of jobs passes. Jobs
// run services/worker/testdata/probe as their skep.
package launchertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/worker"
	"skep/services/worker/artefact"
)

// Run runs the suite. Its tests run at the same time, each with a run of its
// own; all of them have ended when Run returns.
func Run(t *testing.T, l worker.Launcher) {
	t.Run("conformance", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, worker.Launcher){
			"exit": exits, "output": outputs, "masking": masks, "answer": answers, "place": places, "artefacts": artefacts, "artefacts that are none": noArtefacts,
			"artefacts that nobody wants": unwanted, "memory": memory, "deadline": deadline, "cancel": cancelled, "undo": undoes, "retry": retries,
			"refused": refused,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, l)
			})
		}
	})
}

// Job is one that records what it says.
type Job struct {
	worker.Job
	Heard func(line string)

	mu    sync.Mutex
	lines []string
}

var runs atomic.Int64

// NewJob is a job of a run of its own that runs commands of the probe.
func NewJob(t testing.TB, commands ...string) *Job {
	t.Helper()
	j := &Job{Job: worker.Job{
		Run: controlplane.RunID(fmt.Sprintf("01890000-89ab-7def-8123-%012x", runs.Add(1))), Step: "test", Tree: filepath.Join(t.TempDir(), "tree"),
		Command: append([]string{"skep"}, commands...), Deadline: 5 * time.Minute,
	}}
	if err := os.Mkdir(j.Tree, 0o755); err != nil {
		t.Fatal(err)
	}
	j.Output = func(stream, line string) {
		j.mu.Lock()
		j.lines = append(j.lines, stream+": "+line)
		j.mu.Unlock()
		if j.Heard != nil {
			j.Heard(line)
		}
	}
	return j
}

// Launch runs a job to its end.
func (j *Job) Launch(t testing.TB, l worker.Launcher) worker.Exit {
	t.Helper()
	exit, err := l.Launch(t.Context(), j.Job)
	if err != nil {
		t.Fatalf("Launch = %v\n%s", err, j.All())
	}
	return exit
}

// All is what the job said, a line each with the stream before it.
func (j *Job) All() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines, "\n")
}

// Said says which of lines the job did not say.
func (j *Job) Said(t testing.TB, lines ...string) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, line := range lines {
		if !slices.Contains(j.lines, line) {
			t.Errorf("the job did not say %q:\n%.2000s", line, strings.Join(j.lines, "\n"))
		}
	}
}

// Left are the files that the job left to be kept, by their names, and what is
// left out of them, as lines say and as artefact.Read does.
func (j *Job) Left(t testing.TB) (files map[string]string, out []string) {
	t.Helper()
	files = map[string]string{}
	err := artefact.Read(j.Tree, func(name string, content []byte) error {
		files[name] = string(content)
		return nil
	}, func(name, why string) error {
		out = append(out, fmt.Sprintf("artefact %q is left out: %s", name, why))
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, line := range j.lines {
		if text, ok := strings.CutPrefix(line, "skep: "); ok {
			out = append(out, text)
		}
	}
	return files, out
}

func exits(t *testing.T, l worker.Launcher) {
	for command, want := range map[string]int{"exit=3": 3, "panic=oh": 2} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			j := NewJob(t, "say=begun", command)
			exit := j.Launch(t, l)
			if exit.Code != want || exit.Killed != "" {
				t.Errorf("exit %d %q", exit.Code, exit.Killed)
			}
			j.Said(t, "stdout: begun")
		})
	}
}

// Lines come whole and in order; those of the two streams apart.
func outputs(t *testing.T, l worker.Launcher) {
	var commands, want []string
	for i := range 500 {
		commands, want = append(commands, fmt.Sprintf("say=line %d", i)), append(want, fmt.Sprintf("stdout: line %d", i))
	}
	j := NewJob(t, append(commands, "flood=100000,end", "say=", "complain=oh", "pieces=no end")...)
	j.Answer = true
	exit := j.Launch(t, l)
	if exit.Code != 0 || exit.Killed != "" {
		t.Errorf("exit %d %q", exit.Code, exit.Killed)
	}
	out := slices.DeleteFunc(slices.Clone(j.lines), func(s string) bool { return s == "stderr: oh" })
	if len(out) < len(want) || !slices.Equal(out[:len(want)], want) {
		t.Errorf("lines are missing, or not in order:\n%.2000s", j.All())
	}
	j.Said(t, "stderr: oh", "stdout: no end")
	if text := string(exit.Answer); !strings.HasPrefix(text, "line 0\nline 1\n") || !strings.HasSuffix(text, strings.Repeat("x", 100_000)+"end\nno end") {
		t.Errorf("the answer is %d bytes: %.40q...%q", len(text), text, text[max(0, len(text)-40):])
	}
}

const secret = "hunter22-horse"

func masks(t *testing.T, l worker.Launcher) {
	key := "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n-----END KEY-----\n"
	j := NewJob(t, "say=it is "+secret+".", "complain="+secret, "pieces=a hun|ter22-|horse b~", "pieces="+strings.ReplaceAll(key, "\n", "~"),
		"say=  MIIEvQIBADANBgkq", "cat=/run/secrets/key", "stat=/run/secrets/token")
	j.Secrets = map[string]secrets.Value{"token": secrets.NewValue([]byte(secret + "\n")), "key": secrets.NewValue([]byte(key))}
	j.Launch(t, l)
	j.Said(t, "stdout: it is [redacted].", "stderr: [redacted]", "stdout: a [redacted] b", "stdout:   [redacted]", "stdout: stat: /run/secrets/token 400 65534")
	for _, s := range []string{"hunter22", "horse", "MIIEvQ"} {
		if strings.Contains(j.All(), s) {
			t.Errorf("%q is shown", s)
		}
	}
}

// What is masked for people is whole for who asked: a secret may be a word of
// the answer. It is there beside artefacts, and whatever the exit code; nobody
// who did not ask gets one.
func answers(t *testing.T, l worker.Launcher) {
	const answer = `{"host":"demo.example.com"}`
	for name, want := range map[string]string{"wanted": answer + "\n", "unwanted": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := NewJob(t, "say="+answer, "complain=demo", "write=/work/artefacts/a,1", "exit=4")
			j.Secrets = map[string]secrets.Value{"token": secrets.NewValue([]byte("demo"))}
			j.Artefacts, j.Answer = true, name == "wanted"
			if exit := j.Launch(t, l); exit.Code != 4 || string(exit.Answer) != want {
				t.Errorf("exit %d, answer %q", exit.Code, exit.Answer)
			}
			j.Said(t, `stdout: {"host":"[redacted].example.com"}`, "stderr: [redacted]")
			if files, _ := j.Left(t); files["a"] != "1" {
				t.Errorf("it left %q", files)
			}
		})
	}
	j := NewJob(t)
	j.Command, j.Answer = append(j.Command, "complain=nothing"), true
	if exit := j.Launch(t, l); exit.Code != 0 || len(exit.Answer) != 0 {
		t.Errorf("exit %d, answer %q", exit.Code, exit.Answer)
	}
}

// A job has its tree, its inputs, and nothing of the worker.
func places(t *testing.T, l worker.Launcher) {
	j := NewJob(t, "pwd", "ls=/work", `cat=/work/dir/file`, "ids", "env", "stat=/var/run/docker.sock", "write=/etc/new,1", "write=/tmp/new,1", "cat=/tmp/new")
	j.Env, j.Artefacts = map[string]string{"INPUT": "1"}, true
	if err := errors.Join(os.Mkdir(filepath.Join(j.Tree, "dir"), 0o755), os.WriteFile(filepath.Join(j.Tree, "dir", "file"), []byte("hello"), 0o644)); err != nil {
		t.Fatal(err)
	}
	j.Launch(t, l)
	j.Said(t, "stdout: pwd: /work", `stdout: cat: /work/dir/file: "hello"`, "stdout: stat: error: no such file or directory", `stdout: cat: /tmp/new: "1"`)
	for _, want := range []string{"uid 65534 gid 65534", " INPUT=1 ", "write: error: open /etc/new: "} {
		if !strings.Contains(j.All(), want) {
			t.Errorf("no %q:\n%s", want, j.All())
		}
	}
	if strings.Contains(j.All(), "SKEP_") {
		t.Errorf("it sees what is not its own:\n%s", j.All())
	}
}

func artefacts(t *testing.T, l worker.Launcher) {
	j := NewJob(t, "write=/work/artefacts/report.json,{}", "write=/work/artefacts/dir/b,"+strings.Repeat("b", 50_000), "flood=5,end",
		"fill=/work/artefacts/random,3000000", "write=/work/other,1", "exit=3")
	j.Artefacts = true
	if exit := j.Launch(t, l); exit.Code != 3 || exit.Killed != "" || !strings.HasSuffix(j.All(), "xxxxxend") {
		t.Errorf("exit %d %q:\n%.2000s", exit.Code, exit.Killed, j.All())
	}
	j.Said(t, "stdout: xxxxxend")
	files, out := j.Left(t)
	if got := slices.Sorted(maps.Keys(files)); !slices.Equal(got, []string{"dir/b", "random", "report.json"}) || len(out) > 0 {
		t.Errorf("it left %q, and %q are left out", got, out)
	}
	if files["report.json"] != "{}" || len(files["dir/b"]) != 50_000 || len(files["random"]) != 3_000_000 {
		t.Errorf("%q, %d and %d bytes", files["report.json"], len(files["dir/b"]), len(files["random"]))
	}
	Filled(t, files["random"])
}

// Filled says whether a file is as the probe fills it.
func Filled(t testing.TB, content string) {
	t.Helper()
	x := uint32(1)
	for i, c := range []byte(content) {
		if x = x*1664525 + 1013904223; c != byte(x>>24) {
			t.Fatalf("byte %d is another", i)
		}
	}
}

// What leads out of the folder, and what is more than a job may leave, is not
// taken, and the run's log says so.
func noArtefacts(t *testing.T, l worker.Launcher) {
	j := NewJob(t, "write=/work/artefacts/a,1", "link=/work/artefacts/link,/etc/passwd", "link=/work/artefacts/up,../..", "write=/work/secret,2",
		"fill=/work/artefacts/large,17000000", "link=/work/artefacts/z,a")
	j.Artefacts = true
	j.Launch(t, l)
	files, out := j.Left(t)
	slices.Sort(out)
	want := []string{`artefact "large" is left out: it has more than 16 MiB`, `artefact "link" is left out: it is no file`,
		`artefact "up" is left out: it is no file`, `artefact "z" is left out: it is no file`}
	if !maps.Equal(files, map[string]string{"a": "1"}) || !slices.Equal(out, want) {
		t.Errorf("it left %.100q, and %q", files, out)
	}
	j = NewJob(t, "rename=/work/artefacts,/work/was", "link=/work/artefacts,/etc")
	j.Artefacts = true
	if err := os.Mkdir(filepath.Join(j.Tree, artefact.Folder), 0o755); err != nil {
		t.Fatal(err)
	}
	j.Launch(t, l)
	if files, _ := j.Left(t); len(files) > 0 {
		t.Errorf("a link's files are taken: %.100q", files)
	}
}

// Those of a tree that came from elsewhere stay what they are.
func unwanted(t *testing.T, l worker.Launcher) {
	j := NewJob(t, "cat=/work/artefacts/a")
	if err := errors.Join(os.Mkdir(filepath.Join(j.Tree, artefact.Folder), 0o755), os.WriteFile(filepath.Join(j.Tree, artefact.Folder, "a"), []byte("1"), 0o644)); err != nil {
		t.Fatal(err)
	}
	j.Launch(t, l)
	j.Said(t, `stdout: cat: /work/artefacts/a: "1"`)
	if files, out := j.Left(t); !maps.Equal(files, map[string]string{"a": "1"}) || len(out) > 0 {
		t.Errorf("%q, %q", files, out)
	}
}

// More memory than its limit is not had, and the job fails.
func memory(t *testing.T, l worker.Launcher) {
	j := NewJob(t, "write=/work/artefacts/before,1", "allocate=600", "say=unreached")
	j.Limits.Memory, j.Artefacts = 256<<20, true
	exit := j.Launch(t, l)
	if exit.Code == 0 || strings.Contains(j.All(), "allocate: done") || strings.Contains(j.All(), "unreached") {
		t.Errorf("exit %+v:\n%s", exit, j.All())
	}
	if files, _ := j.Left(t); files["before"] != "1" {
		t.Errorf("what it left before is lost: %q\n%s", files, j.All())
	}
}

// A job that does not end when it is asked to is ended, and what it left until
// then is kept.
func deadline(t *testing.T, l worker.Launcher) {
	limits := []time.Duration{10 * time.Second, 40 * time.Second}
	for i, limit := range limits {
		j := NewJob(t, "write=/work/artefacts/before,1", "say=begun", "stubborn=/work/lock")
		j.Deadline, j.Grace, j.Artefacts = limit, time.Second, true
		exit := j.Launch(t, l)
		if exit.Killed != fmt.Sprintf("it took longer than %v", limit) || exit.Code == 0 {
			t.Errorf("exit %+v", exit)
		}
		if i+1 < len(limits) && !strings.Contains(j.All(), "stdout: begun") {
			continue // a busy machine has not begun it in the time
		}
		j.Said(t, "stdout: begun")
		if files, _ := j.Left(t); files["before"] != "1" {
			t.Errorf("what it left before is lost: %q\n%s", files, j.All())
		}
		return
	}
}

func cancelled(t *testing.T, l worker.Launcher) {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	why := errors.New("somebody cancelled it")
	j := NewJob(t, "stubborn=/work/lock")
	j.Heard, j.Grace = func(string) { cancel(why) }, time.Second
	j.Secrets = map[string]secrets.Value{"token": secrets.NewValue([]byte(secret))}
	if exit, err := l.Launch(ctx, j.Job); !errors.Is(err, why) {
		t.Errorf("Launch = %+v, %v", exit, err)
	}
}

// What a cancelled job takes back until it ends is heard, to its last line.
func undoes(t *testing.T, l worker.Launcher) {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	why := errors.New("somebody cancelled it")
	j := NewJob(t, "undo=3")
	j.Heard, j.Grace, j.Answer = func(string) { cancel(why) }, time.Minute, true
	if exit, err := l.Launch(ctx, j.Job); !errors.Is(err, why) {
		t.Errorf("Launch = %+v, %v", exit, err)
	}
	j.Said(t, "stderr: undo 0", "stderr: undo 1", "stderr: undo 2", "stdout: undone")
}

// Another attempt finds nothing of the one before, above all no credential.
func retries(t *testing.T, l worker.Launcher) {
	j := NewJob(t, "write=/tmp/before,1", "write=/work/before,1", "write=/work/artefacts/before,1", "exit=1")
	j.Secrets, j.Artefacts = map[string]secrets.Value{"token": secrets.NewValue([]byte(secret))}, true
	if exit := j.Launch(t, l); exit.Code != 1 {
		t.Errorf("exit %+v", exit)
	}
	again := NewJob(t, "cat=/run/secrets/token", "cat=/tmp/before", "cat=/work/before", "write=/work/artefacts/after,2")
	again.Run, again.Attempt, again.Artefacts = j.Run, 2, true
	if exit := again.Launch(t, l); exit.Code != 0 {
		t.Errorf("exit %+v", exit)
	}
	if strings.Count(again.All(), "no such file or directory") != 3 {
		t.Errorf("it sees what the first left:\n%s", again.All())
	}
	if files, _ := again.Left(t); !maps.Equal(files, map[string]string{"after": "2"}) {
		t.Errorf("it left %q", files)
	}
}

func refused(t *testing.T, l worker.Launcher) {
	j := NewJob(t)
	j.Command = nil
	if _, err := l.Launch(t.Context(), j.Job); !errors.Is(err, worker.ErrRefused) {
		t.Errorf("without a command: %v", err)
	}
	j = NewJob(t, "say=hello")
	j.Secrets = map[string]secrets.Value{"../token": secrets.NewValue([]byte(secret))}
	if _, err := l.Launch(t.Context(), j.Job); !errors.Is(err, worker.ErrRefused) {
		t.Errorf("with a path for a secret's name: %v", err)
	}
}
