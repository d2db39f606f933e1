// Package swarmtest runs a private Swarm of one node for tests: a dockerd of
// its own in namespaces of its own, so that no address, bridge, mount or
// process meets those of the machine, and ending one process ends all.
package swarmtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Swarm is a running Swarm of one node.
type Swarm struct {
	dir    string // everything the engine writes
	cgroup string // parent of all its containers
	engine *exec.Cmd
	ended  chan struct{} // closed when the engine's process is gone
}

// address is the node's own, in its network namespace.
const address = "10.200.0.1"

// boot prepares the namespaces and becomes dockerd, as their first process. A
// private /run holds the socket that containers mount.
const boot = `set -e
hostname node1
ip link set lo up
ip link add node0 type veth peer name node1
ip addr add ` + address + `/24 dev node0
ip link set node0 up
ip link set node1 up
mount -t tmpfs tmpfs /run
mkdir -p /etc/docker
mount -t tmpfs tmpfs /etc/docker
exec dockerd --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/pid" \
	-H "unix://$1/docker.sock" -H unix:///run/docker.sock --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "$2"
`

// Start runs a Swarm until the test ends. Without root or Docker it skips the
// test, or fails it when SKEP_NO_SKIP is 1.
func Start(t testing.TB) *Swarm {
	t.Helper()
	require(t)
	dir, err := os.MkdirTemp("", "skep-swarm-") // not t.TempDir: a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	s := &Swarm{dir: dir, cgroup: "/" + filepath.Base(dir), ended: make(chan struct{})}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("dockerd's last words:\n%s", s.lastLog())
		}
		if err := s.stop(); err != nil {
			t.Errorf("stop the Swarm: %v", err)
		}
	})
	if err := s.start(); err != nil {
		t.Fatalf("start dockerd: %v", err)
	}
	err = Poll(60*time.Second, func() error {
		_, err := s.Docker("version")
		return err
	})
	if err != nil {
		t.Fatalf("dockerd is not ready: %v", err)
	}
	if _, err := s.Docker("swarm", "init", "--advertise-addr", address, "--default-addr-pool", "10.201.0.0/16"); err != nil {
		t.Fatal(err)
	}
	return s
}

// require ends a test that cannot run here.
func require(t testing.TB) {
	t.Helper()
	missing := ""
	if os.Getuid() != 0 {
		missing = "root"
	}
	for _, tool := range []string{"dockerd", "docker", "unshare", "ip", "iptables"} {
		if _, err := exec.LookPath(tool); err != nil && missing == "" {
			missing = tool
		}
	}
	switch {
	case missing == "":
	case os.Getenv("SKEP_NO_SKIP") == "1":
		t.Fatalf("a private Swarm needs %s", missing)
	default:
		t.Skipf("a private Swarm needs %s", missing)
	}
}

func (s *Swarm) start() error {
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		return err
	}
	s.engine = exec.Command("unshare", "--net", "--mount", "--propagation", "private", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc",
		"sh", "-c", boot, "sh", s.dir, s.cgroup)
	s.engine.Stdout, s.engine.Stderr = log, log
	s.engine.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

	started := make(chan error)
	go func() {
		// The death signal comes when the thread that started the process
		// ends, so this thread does nothing else until then.
		runtime.LockOSThread()
		defer log.Close()
		err := s.engine.Start()
		started <- err
		if err == nil {
			s.engine.Wait()
		}
		close(s.ended)
	}()
	return <-started
}

// stop ends the first process of the namespaces, and with it all others, and
// removes what is left.
func (s *Swarm) stop() error {
	if s.engine != nil && s.engine.Process != nil {
		if err := s.engine.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		<-s.ended
	}
	return Poll(30*time.Second, func() error {
		// The kernel takes down the mounts and control groups a little later.
		if err := os.RemoveAll(s.dir); err != nil {
			return err
		}
		for _, pattern := range []string{"/sys/fs/cgroup" + s.cgroup, "/sys/fs/cgroup/*" + s.cgroup} {
			roots, err := filepath.Glob(pattern)
			if err != nil {
				return err
			}
			for _, root := range roots {
				if err := removeCgroup(root); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// removeCgroup removes a tree of control groups, whose files cannot be removed.
func removeCgroup(root string) error {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeCgroup(filepath.Join(root, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(root)
}

func (s *Swarm) lastLog() string {
	content, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(content[max(0, len(content)-8000):])
}

// Host is the engine's address, as DOCKER_HOST takes it.
func (s *Swarm) Host() string { return "unix://" + filepath.Join(s.dir, "docker.sock") }

// Docker runs the docker command on this Swarm and returns its standard
// output. An error holds what the command said.
func (s *Swarm) Docker(args ...string) (string, error) { return s.docker(nil, args...) }

func (s *Swarm) docker(stdin []byte, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "docker", append([]string{"-H", s.Host()}, args...)...)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+filepath.Join(s.dir, "config"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Poll calls f until it returns nil, or returns its last error when the time
// is over.
func Poll(timeout time.Duration, f func() error) error {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return fmt.Errorf("after %v: %w", timeout, err)
		}
	}
}
