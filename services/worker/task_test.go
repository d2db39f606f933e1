package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/worker/artefact"
)

// taskStore keeps one run of one task, as the store does.
type taskStore struct {
	Store // what tasks do not call

	mu        sync.Mutex
	run       controlplane.Run
	spec      *controlplane.TaskSpec
	done      map[string][]byte
	log       []controlplane.LogLine
	artefacts map[string]string
	fails     error // of Once, after the step
}

func newTaskStore(spec *controlplane.TaskSpec) *taskStore {
	return &taskStore{
		run:  controlplane.Run{ID: "01890000-89ab-7def-8123-456789abcdef", Kind: controlplane.RunTask, Task: "backup", State: controlplane.RunQueued},
		spec: spec, done: map[string][]byte{}, artefacts: map[string]string{},
	}
}

func (s *taskStore) Run(context.Context, controlplane.RunID) (controlplane.Run, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run, nil
}

func (s *taskStore) Begin(context.Context, controlplane.RunID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run.State = controlplane.RunRunning
	return nil
}

func (s *taskStore) Finish(_ context.Context, _ controlplane.RunID, state controlplane.RunState, output []byte, problem string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run.State, s.run.Output, s.run.Error = state, output, problem
	return nil
}

func (s *taskStore) Once(ctx context.Context, _ controlplane.RunID, step string, f func(context.Context) ([]byte, error)) ([]byte, error) {
	s.mu.Lock()
	there, ok := s.done[step]
	s.mu.Unlock()
	if ok {
		return there, nil
	}
	result, err := f(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.fails != nil && step != "task" {
		err = s.fails
	}
	if err == nil {
		s.done[step] = result
	}
	return result, err
}

func (s *taskStore) AppendLog(_ context.Context, _ controlplane.RunID, lines []controlplane.LogLine) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, lines...)
	return nil
}

func (s *taskStore) LastLine(context.Context, controlplane.RunID) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := 0
	for _, l := range s.log {
		last = max(last, l.N)
	}
	return last, nil
}

func (s *taskStore) Task(context.Context, controlplane.Name) (controlplane.Task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spec == nil {
		return controlplane.Task{}, controlplane.ErrNotFound
	}
	return controlplane.Task{Name: "backup", TaskSpec: *s.spec}, nil
}

func (s *taskStore) Deployed(context.Context, controlplane.Name) (controlplane.Commit, error) {
	return "", nil
}

func (s *taskStore) Delivery(_ context.Context, id int64) (controlplane.Delivery, error) {
	if id != 5 {
		return controlplane.Delivery{}, controlplane.ErrNotFound
	}
	return controlplane.Delivery{ID: 5, Provider: controlplane.Generic, Delivery: "msg_1", Event: "deployed", Body: []byte(`{"x":"$(reboot)"}`)}, nil
}

func (s *taskStore) PutArtefact(_ context.Context, _ controlplane.RunID, name, media string, content []byte) error {
	if name == "refused" {
		return fmt.Errorf("%w: too much", controlplane.ErrInvalid)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.artefacts[name] = media + " " + string(content)
	return nil
}

// credentials has those of one integration.
type credentials map[string]string

func (c credentials) Credentials(_ context.Context, p controlplane.Provider, n controlplane.Name, use func(map[string]secrets.Value) error) error {
	if p != controlplane.Salesforce || n != "prod" {
		return controlplane.ErrNotFound
	}
	values := map[string]secrets.Value{}
	for name, v := range c {
		values[name] = secrets.NewValue([]byte(v))
		defer values[name].Wipe()
	}
	return use(values)
}

// launcherFunc is a launcher.
type launcherFunc func(context.Context, Job) (Exit, error)

func (f launcherFunc) Launch(ctx context.Context, j Job) (Exit, error) { return f(ctx, j) }

func (s *taskStore) worker(l launcherFunc) *Worker {
	return &Worker{Store: s, Launcher: l, Tasks: s, Credentials: credentials{"key": "hunter22", "url": "force://x"}, Log: slog.New(slog.DiscardHandler)}
}

func (s *taskStore) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	for _, l := range s.log {
		lines = append(lines, fmt.Sprintf("%d %s %s", l.N, l.Stream, l.Text))
	}
	return strings.Join(lines, "\n")
}

func TestTaskJob(t *testing.T) {
	spec := controlplane.TaskSpec{
		Image: "backup:1", Command: []string{"backup", "--all"}, Inputs: map[string]string{"TARGET": "s3"}, Deadline: time.Minute,
		Credentials: []controlplane.CredentialName{{Provider: controlplane.Salesforce, Name: "prod"}}, Limits: controlplane.Limits{CPU: 2, Memory: 1 << 30},
	}
	s := newTaskStore(&spec)
	var dir string
	err := s.worker(func(_ context.Context, j Job) (Exit, error) {
		dir = j.Tree
		if j.Run != s.run.ID || j.Step != "task" || j.Attempt != 1 || j.Image != "backup:1" || !slices.Equal(j.Command, spec.Command) ||
			j.Env["TARGET"] != "s3" || j.Limits != spec.Limits || j.Deadline != time.Minute || j.Swarm || len(j.Secrets) != 2 {
			t.Errorf("job %+v", j)
		}
		if key, err := j.Secrets["salesforce-prod-key"].Bytes(); err != nil || string(key) != "hunter22" {
			t.Errorf("the key is %q, %v", key, err)
		}
		j.Output("stdout", "hello")
		left := filepath.Join(j.Tree, "artefacts")
		return Exit{}, errors.Join(os.WriteFile(filepath.Join(left, "a.json"), []byte("{}"), 0o644), os.Mkdir(filepath.Join(left, "d"), 0o755),
			os.WriteFile(filepath.Join(left, "d", "b"), []byte("b"), 0o644), os.WriteFile(filepath.Join(left, "refused"), nil, 0o644),
			os.Symlink("/etc/passwd", filepath.Join(left, "link")), os.Truncate(filepath.Join(left, "a.json"), 2),
			os.WriteFile(filepath.Join(left, "large"), make([]byte, artefact.MaxFile+1), 0o644))
	}).Handle(t.Context(), s.run.ID, false)
	if err != nil || s.run.State != controlplane.RunSucceeded || !strings.Contains(string(s.run.Output), `"done"`) {
		t.Errorf("%v: %s %s %s", err, s.run.State, s.run.Output, s.run.Error)
	}
	if len(s.artefacts) != 2 || s.artefacts["a.json"] != "application/json {}" || s.artefacts["d/b"] != "application/octet-stream b" {
		t.Errorf("artefacts %q", s.artefacts)
	}
	for _, want := range []string{"1 stdout hello", `artefact "link" is left out: it is no file`, `artefact "large" is left out: it has more than 16 MiB`, `artefact "refused" is left out`} {
		if !strings.Contains(s.text(), want) {
			t.Errorf("no %q in\n%s", want, s.text())
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the tree is left: %v", err)
	}
}

// No secret of a task is kept in what it leaves: it is masked in text, and what
// is none is left out.
func TestTaskArtefactsAreMasked(t *testing.T) {
	s := newTaskStore(&controlplane.TaskSpec{Credentials: []controlplane.CredentialName{{Provider: controlplane.Salesforce, Name: "prod"}}})
	err := s.worker(func(_ context.Context, j Job) (Exit, error) {
		if !j.Artefacts {
			t.Error("nobody asks for the artefacts")
		}
		var err error
		for name, content := range map[string]string{
			"debug.log": "key=hunter22, url=force://x\n", "clean.bin": "\x00\xff", "core": "\x00hunter22\x00", "hunter22.txt": "x", "latin": "hunter22 \xe9t\xe9",
		} {
			err = errors.Join(err, os.WriteFile(filepath.Join(j.Tree, artefact.Folder, name), []byte(content), 0o644))
		}
		return Exit{}, err
	}).Handle(t.Context(), s.run.ID, false)
	want := map[string]string{"debug.log": "key=[redacted], url=[redacted]\n", "clean.bin": "\x00\xff"}
	for name, content := range s.artefacts {
		if _, content, _ := strings.Cut(content, " "); name == "debug.log" && !strings.HasSuffix(content, want[name]) || want[name] == "" {
			t.Errorf("%q is kept as %q", name, content)
		}
	}
	if err != nil || len(s.artefacts) != len(want) {
		t.Errorf("%v: artefacts %q", err, s.artefacts)
	}
	for _, line := range []string{`artefact "core" is left out: it holds a secret`, `artefact "latin" is left out: it holds a secret`, `artefact "[redacted].txt" is left out: its name`} {
		if !strings.Contains(s.text(), line) {
			t.Errorf("no %q in\n%s", line, s.text())
		}
	}
	if strings.Contains(s.text(), "hunter22") {
		t.Errorf("a secret is shown:\n%s", s.text())
	}
}

// A job that puts a link in the place of its artefacts gets nothing of this
// machine out.
func TestTaskArtefactsAreALink(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := newTaskStore(&controlplane.TaskSpec{})
	err := s.worker(func(_ context.Context, j Job) (Exit, error) {
		left := filepath.Join(j.Tree, "artefacts")
		return Exit{}, errors.Join(os.Remove(left), os.Symlink(outside, left))
	}).Handle(t.Context(), s.run.ID, false)
	if err != nil || len(s.artefacts) != 0 {
		t.Errorf("%v: artefacts %q", err, s.artefacts)
	}
}

func TestTaskFails(t *testing.T) {
	for name, c := range map[string]struct {
		spec *controlplane.TaskSpec
		exit Exit
		err  error
		want string
		runs int
	}{
		"exit code":      {&controlplane.TaskSpec{}, Exit{Code: 3}, nil, "exit code 3: it is broken", 1},
		"killed":         {&controlplane.TaskSpec{}, Exit{Code: -1, Killed: "it took longer than 1s"}, nil, "it took longer than 1s", 1},
		"all attempts":   {&controlplane.TaskSpec{Retries: controlplane.Retries{Max: 2}}, Exit{Code: 3}, nil, "exit code 3: it is broken, attempt 3 of 3", 3},
		"refused":        {&controlplane.TaskSpec{Retries: controlplane.Retries{Max: 2}}, Exit{}, fmt.Errorf("%w: not here", ErrRefused), "could not be run: refused: not here", 1},
		"not launched":   {&controlplane.TaskSpec{Retries: controlplane.Retries{Max: 1}}, Exit{}, errors.New("no node"), "could not be run: no node, attempt 2 of 2", 2},
		"no credentials": {&controlplane.TaskSpec{Credentials: []controlplane.CredentialName{{Provider: controlplane.GitHub, Name: "none"}}}, Exit{}, nil, "credentials of github/none: not found", 0},
		"gone":           {nil, Exit{}, nil, "task backup is gone", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, n := newTaskStore(c.spec), 0
				err := s.worker(func(_ context.Context, j Job) (Exit, error) {
					n++
					j.Output("stderr", "it is broken")
					return c.exit, c.err
				}).Handle(t.Context(), s.run.ID, false)
				if err != nil || s.run.State != controlplane.RunFailed || !strings.Contains(s.run.Error, c.want) || n != c.runs {
					t.Errorf("%v: %s after %d jobs: %q, want %q", err, s.run.State, n, s.run.Error, c.want)
				}
			})
		})
	}
}

// Attempts follow one another at twice the distance each time, until one
// succeeds; a worker that takes over goes on where the last one was.
func TestTaskRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTaskStore(&controlplane.TaskSpec{Retries: controlplane.Retries{Max: 9, Backoff: time.Minute}})
		begin := time.Now()
		var at []time.Duration
		l := func(_ context.Context, j Job) (Exit, error) {
			at = append(at, time.Since(begin))
			j.Output("stdout", "hello")
			if j.Attempt == 4 {
				return Exit{}, nil
			}
			return Exit{Code: 1}, nil
		}
		first, stop := context.WithTimeout(t.Context(), 90*time.Second)
		defer stop()
		if err := s.worker(l).Handle(first, s.run.ID, false); !errors.Is(err, context.DeadlineExceeded) || s.run.State.Over() {
			t.Errorf("the first worker: %v, %s", err, s.run.State)
		}
		if err := s.worker(l).Handle(t.Context(), s.run.ID, false); err != nil || s.run.State != controlplane.RunSucceeded {
			t.Errorf("the second worker: %v, %s", err, s.run.State)
		}
		if want := []time.Duration{0, time.Minute, 3 * time.Minute, 7 * time.Minute}; !slices.Equal(at, want) {
			t.Errorf("attempts at %v, want %v", at, want)
		}
		if want := "1 stdout hello\n10001 stdout hello\n20001 stdout hello\n30001 stdout hello"; s.text() != want {
			t.Errorf("the log is\n%s", s.text())
		}
	})
}

// An attempt whose outcome is not recorded is tried again, not counted.
func TestTaskNotRecorded(t *testing.T) {
	s := newTaskStore(&controlplane.TaskSpec{})
	s.fails = errors.New("the database is away")
	w := s.worker(func(context.Context, Job) (Exit, error) { return Exit{}, nil })
	if err := w.Handle(t.Context(), s.run.ID, false); !errors.Is(err, s.fails) || s.run.State.Over() {
		t.Errorf("%v, %s", err, s.run.State)
	}
	s.fails = nil
	if err := w.Handle(t.Context(), s.run.ID, false); err != nil || s.run.State != controlplane.RunSucceeded {
		t.Errorf("%v, %s", err, s.run.State)
	}
}

// A run that somebody ends ends its job.
func TestTaskCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTaskStore(&controlplane.TaskSpec{Retries: controlplane.Retries{Max: 3}})
		jobs := 0
		err := s.worker(func(ctx context.Context, _ Job) (Exit, error) {
			jobs++
			s.mu.Lock()
			s.run.State = controlplane.RunCancelled
			s.mu.Unlock()
			<-ctx.Done()
			return Exit{}, context.Cause(ctx)
		}).Handle(t.Context(), s.run.ID, false)
		if err != nil || s.run.State != controlplane.RunCancelled || jobs != 1 {
			t.Errorf("%v, %s, %d jobs", err, s.run.State, jobs)
		}
	})
}
