package swarmjob

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"skep/internal/swarmtest"
	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/worker"
	"skep/services/worker/launchertest"
)

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
		step     string
		deadline time.Duration
		goes     bool
		fails    error
	}{
		"running":            {runs{run: controlplane.Run{State: controlplane.RunRunning}}, "check", time.Minute, false, nil},
		"over":               {runs{run: controlplane.Run{State: controlplane.RunCancelled}}, "check", time.Minute, true, nil},
		"superseded":         {runs{run: controlplane.Run{State: controlplane.RunSuperseded}}, "check", time.Minute, true, nil},
		"superseded, deploy": {runs{run: controlplane.Run{State: controlplane.RunSuperseded}}, "deploy", time.Minute, false, nil},
		"gone":               {runs{err: controlplane.ErrNotFound}, "check", time.Minute, true, nil},
		"nobody knows":       {runs{err: away}, "check", time.Minute, false, away},
		"expired":            {runs{run: controlplane.Run{State: controlplane.RunRunning}}, "check", -slack - time.Hour, true, nil},
		"expired, unsure":    {runs{err: away}, "check", -slack - time.Hour, true, away},
	} {
		t.Run(name, func(t *testing.T) {
			j := launchertest.NewJob(t, "say=hello")
			j.Step, j.Deadline, j.Artefacts = c.step, c.deadline, true
			j.Secrets = map[string]secrets.Value{"token": secrets.NewValue([]byte("hunter22"))}
			p, err := newPlan(l, j.Job, "launch")
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
			if err := l.remove(t.Context(), nil, labelJob); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// swept sweeps until nothing is left.
func swept(t *testing.T, s Sweeper) {
	t.Helper()
	err := swarmtest.Poll(2*time.Minute, func() error {
		_ = s.Sweep(t.Context()) // somebody else's run may be unknown still
		found, err := things(t.Context(), s.API, labelJob)
		if len(found) > 0 {
			err = errors.Join(err, fmt.Errorf("%d things are left, as %s %s", len(found), found[0].kind, found[0].name))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// crashHost, crashAfter and crashTree make the test binary a launcher that
// kills itself after so many calls that change something.
const (
	crashHost  = "SKEP_SWARMJOB_TEST_HOST"
	crashAfter = "SKEP_SWARMJOB_TEST_CALLS"
	crashTree  = "SKEP_SWARMJOB_TEST_TREE"
	crashRun   = "SKEP_SWARMJOB_TEST_RUN"
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
	j := worker.Job{
		Run: controlplane.RunID(os.Getenv(crashRun)), Step: "task", Tree: os.Getenv(crashTree), Command: []string{"skep", "write=/work/artefacts/a,1"},
		Deadline: time.Minute, Artefacts: true, Output: func(string, string) {},
		Secrets: map[string]secrets.Value{"token": secrets.NewValue([]byte("hunter22"))},
	}
	l := Launcher{API: api, Image: testImage, Log: slog.New(slog.DiscardHandler)}
	_, err = l.Launch(context.Background(), j)
	return err
}

// changes are the calls of a launch that change something, at the least: a
// network, a config, a secret and a service are made and removed.
const changes = 8

// crashes kills launchers after each call that changes something: the sweeper
// leaves nothing of what they made, on the Swarm or on disk.
func crashes(t *testing.T, host string, l Launcher) {
	tmp := t.TempDir()
	t.Run("launchers", func(t *testing.T) {
		for after := range changes {
			t.Run(fmt.Sprint(after+1), func(t *testing.T) {
				t.Parallel()
				j := launchertest.NewJob(t)
				cmd := exec.CommandContext(t.Context(), os.Args[0])
				cmd.Env = append(os.Environ(), crashHost+"="+host, fmt.Sprintf("%s=%d", crashAfter, after+1), crashTree+"="+j.Tree,
					crashRun+"="+string(j.Run), "TMPDIR="+tmp)
				out, err := cmd.CombinedOutput()
				if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
					t.Fatalf("it was not killed: %v\n%s", err, out)
				}
			})
		}
	})
	found, err := things(t.Context(), l.API, labelJob)
	if err != nil || len(found) < changes {
		t.Errorf("%d things are left by launchers that were killed, %v", len(found), err)
	}
	kinds := map[kind]bool{}
	for _, f := range found {
		kinds[f.kind] = true
	}
	if len(kinds) != 4 {
		t.Errorf("only %v are left", kinds)
	}
	swept(t, Sweeper{API: l.API, Runs: runs{err: controlplane.ErrNotFound}, Log: l.Log})
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		var names []string
		for _, e := range left {
			names = append(names, e.Name())
		}
		t.Errorf("left on disk: %s, %v", strings.Join(names, " "), err)
	}
}
