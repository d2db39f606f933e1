package swarmjob

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"skep/internal/swarmtest"
	"skep/secrets"
	"skep/services/worker/launchertest"
)

// containers shows what a container has beyond what every job has.
func containers(t *testing.T, l Launcher) {
	j := launchertest.NewJob(t, "ls=/work", "ls=/run/secrets", "ids", "env", "cat=/etc/shadow", "write=/new,1", "dial=tcp,1.1.1.1:443")
	j.Env = map[string]string{"INPUT": "1"}
	j.Secrets = map[string]secrets.Value{"token": secrets.NewValue([]byte("hunter22"))}
	if err := os.Mkdir(filepath.Join(j.Tree, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	j.Launch(t, l)
	j.Said(t, "stdout: ls: /work dir", "stdout: ls: /run/secrets token", "stdout: CapEff: 0000000000000000",
		"stdout: write: error: open /new: read-only file system")
	for _, want := range []string{" INPUT=1 PATH=/ PWD=/work TMPDIR=/tmp", "dial: error:"} {
		if !strings.Contains(j.All(), want) {
			t.Errorf("no %q:\n%s", want, j.All())
		}
	}
	gone(t, l.API, j)
}

// kills shows what is said of a job that a signal ended.
func kills(t *testing.T, l Launcher) {
	for command, want := range map[string]string{"die": "it was killed (exit code 137)", "allocate=200": "the kernel ended it, for it needed more memory than its limit of 64MiB"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			j := launchertest.NewJob(t, "say=begun", command)
			j.Limits.Memory = 64 << 20
			if exit := j.Launch(t, l); exit.Code != exitKilled || !strings.HasPrefix(exit.Killed, want) {
				t.Errorf("exit %d %q", exit.Code, exit.Killed)
			}
			j.Said(t, "stdout: begun")
			gone(t, l.API, j)
		})
	}
}

// late shows that a job which nothing in its container ends is ended as well.
func late(t *testing.T, l Launcher) {
	j := launchertest.NewJob(t, "stubborn=/tmp/lock")
	j.Image, j.Command[0] = testImage, "/skep"
	j.Deadline, j.Grace, l.handBack = time.Second, time.Second, time.Second
	if exit := j.Launch(t, l); exit.Code != -1 || exit.Killed != "it took longer than 1s" {
		t.Errorf("exit %+v", exit)
	}
	gone(t, l.API, j)
}

// outputs are masked where the image does not do it.
func outputs(t *testing.T, l Launcher) {
	j := launchertest.NewJob(t, "flood=100000,hunter22", "say=", "cat=/run/secrets/token", "env")
	j.Image, j.Command[0] = testImage, "/skep"
	j.Secrets = map[string]secrets.Value{"token": secrets.NewValue([]byte("hunter22"))}
	j.Launch(t, l)
	j.Said(t, `stdout: cat: /run/secrets/token: "[redacted]"`)
	said := strings.ReplaceAll(j.All(), "\nstdout: ", "") // the flood comes in pieces
	if strings.Contains(said, "hunter22") || !strings.Contains(said, strings.Repeat("x", 100_000)+"[redacted]") {
		t.Errorf("the flood is not masked, or not whole: %d bytes", len(said))
	}
}

func cannotStart(t *testing.T, l Launcher) {
	for name, c := range map[string]struct {
		change func(*launchertest.Job, *Launcher)
		want   string
	}{
		"no image":   {func(j *launchertest.Job, _ *Launcher) { j.Image = "registry.invalid/none:1" }, "load it on every node"},
		"no node":    {func(_ *launchertest.Job, l *Launcher) { l.Constraints = []string{"node.labels.none==yes"} }, "no node took the job within 1s: no suitable node"},
		"no network": {func(j *launchertest.Job, l *Launcher) { j.Swarm, l.Networks = true, []string{"none"} }, "network none not found"},
		"no value": {func(j *launchertest.Job, _ *Launcher) {
			j.Secrets = map[string]secrets.Value{"token": secrets.NewValue(nil)}
		}, "secret token: it is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j, l := launchertest.NewJob(t, "say=hello"), l
			if name == "no node" {
				l.place = time.Second
			}
			c.change(j, &l)
			if exit, err := l.Launch(t.Context(), j.Job); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Launch = %+v, %v", exit, err)
			}
			gone(t, l.API, j)
		})
	}
}

// takenOver shows that the same step ends a job that goes on without its
// launcher, and that one that lost its step removes nothing of the next.
func takenOver(t *testing.T, l Launcher) {
	begun, ended := make(chan struct{}, 1), make(chan error, 1)
	first := launchertest.NewJob(t, "say=begun", "wait")
	first.Grace = time.Second
	first.Heard = func(string) {
		select {
		case begun <- struct{}{}:
		default:
		}
	}
	go func() {
		_, err := l.Launch(t.Context(), first.Job)
		ended <- err
	}()
	select {
	case <-begun:
	case err := <-ended:
		t.Fatalf("the first one ended: %v", err)
	}
	second := launchertest.NewJob(t, "say=second")
	second.Run = first.Run
	if exit := second.Launch(t, l); exit.Code != 0 {
		t.Errorf("exit %+v", exit)
	}
	second.Said(t, "stdout: second")
	if err := <-ended; err == nil {
		t.Error("the first one does not know")
	}
	gone(t, l.API, first)
}

// removed shows that a job whose service a sweeper removed is heard to its end.
func removed(t *testing.T, l Launcher) {
	j := launchertest.NewJob(t, "undo=2")
	j.Grace = time.Minute
	heard := sync.OnceFunc(func() {
		found, err := things(t.Context(), l.API, labelRun+"="+string(j.Run))
		if err != nil || len(found) == 0 || found[0].kind != kindService {
			t.Errorf("the job has %v, %v", found, err)
			return
		}
		if err := found[0].remove(t.Context()); err != nil {
			t.Error(err)
		}
	})
	j.Heard = func(string) { heard() }
	if exit, err := l.Launch(t.Context(), j.Job); !errors.Is(err, errRemoved) {
		t.Errorf("Launch = %+v, %v", exit, err)
	}
	j.Said(t, "stderr: undo 0", "stderr: undo 1", "stdout: undone")
	gone(t, l.API, j)
}

// What a job leaves comes from any node, and more of it than any buffer between
// holds.
func TestOtherNode(t *testing.T) {
	c := swarmtest.StartCluster(t, 2)
	images(t, c.Nodes...)
	var asked requests
	l := newLauncher(t, c.Nodes[0].Host(), &asked)
	l.Constraints = []string{"node.hostname==" + c.Nodes[1].Name}
	const size = 15_000_000
	j := launchertest.NewJob(t, fmt.Sprintf("fill=/work/artefacts/a,%d", size), fmt.Sprintf("fill=/work/artefacts/b,%d", size), "say=hello")
	j.Artefacts = true
	j.Launch(t, l)
	j.Said(t, "stdout: hello")
	files, out := j.Left(t)
	if len(files) != 2 || len(out) > 0 {
		t.Errorf("it left %d files, and %q", len(files), out)
	}
	for name, content := range files {
		if len(content) != size {
			t.Errorf("%s has %d bytes", name, len(content))
		}
		launchertest.Filled(t, content)
	}
	gone(t, l.API, j)
}

// ownImages hand back what their task left if skep-job is their entrypoint, and
// run as well without it.
func ownImages(t *testing.T, l Launcher) {
	for image, want := range map[string]string{wrapped: "1", testImage: ""} {
		t.Run(image, func(t *testing.T) {
			t.Parallel()
			j := launchertest.NewJob(t, "write=/work/artefacts/a,1", "env")
			j.Command[0] = "/skep"
			j.Image, j.Artefacts = image, true
			if exit := j.Launch(t, l); exit.Code != 0 {
				t.Errorf("exit %+v", exit)
			}
			if files, out := j.Left(t); files["a"] != want || len(out) > 0 {
				t.Errorf("it left %q, %q\n%s", files, out, j.All())
			}
			if image == wrapped && strings.Contains(j.All(), "SKEP_JOB_") {
				t.Errorf("it sees what is not its own:\n%s", j.All())
			}
			gone(t, l.API, j)
		})
	}
}
