package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"skep/internal/swarmtest"
	"skep/secrets/onepassword"
	"skep/secrets/secretstest"
)

const (
	token   = "connect-token-for-tests"
	planted = "planted-s3cret-value"
)

// consumer is deployed with a secret of the driver.
const consumer = `version: "3.8"
services:
  web:
    image: whoami:test
    secrets: [{source: db, target: db}]
    deploy: {replicas: 2, endpoint_mode: dnsrr, restart_policy: {delay: 1s}}
secrets:
  db:
    name: app_db_v%[1]d
    driver: %[2]s
    labels: {skep.secret.reference: "op://homelab/db/password", skep.stack: %[3]s}
`

func deploy(t *testing.T, s *swarmtest.Swarm, version int, driver, owner string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "app.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, consumer, version, driver, owner), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Deploy(file, "app"); err != nil {
		t.Fatal(err)
	}
}

// TestSocketPlugin runs the driver in this process, on a socket in the node's
// own /run/docker/plugins.
func TestSocketPlugin(t *testing.T) {
	s := swarmtest.Start(t)
	if err := s.Import("whoami:test", swarmtest.Binary(t, "skep/cmd/whoami")); err != nil {
		t.Fatal(err)
	}
	connect := secretstest.NewConnect(token)
	ids := connect.Fill(secretstest.Content{"homelab": {"db": {"password": planted + "-1"}}})
	t.Setenv("OP_CONNECT_HOST", secretstest.Start(t, connect))
	t.Setenv(onepassword.TokenVariable, token)
	root := fmt.Sprintf("/proc/%d/root", node(t, s))
	socket := filepath.Join(root, "run/docker/plugins/skep.sock")
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte("rules: [{services: [app_web], references: [homelab/db]}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := []string{"-listen", socket, "-policy", policy, "-cache", "1h", "-timeout", "2s"}
	driver := start(t, flags)

	deploy(t, s, 1, "skep", "app")
	if err := s.WaitRunning("app", 3*time.Minute); err != nil {
		t.Fatalf("%v\n%s", err, driver.log())
	}
	waitValue(t, s, planted+"-1")
	requests := driver.outcomes("given")
	if requests < 2 {
		t.Errorf("two tasks made %d requests: a value was reused\n%s", requests, driver.log())
	}

	// Rotation: a secret of another version, so the service is updated.
	connect.Set(ids["homelab/db"], "password", planted+"-2")
	deploy(t, s, 2, "skep", "app")
	waitValue(t, s, planted+"-2")

	// Connect away: the last known value starts tasks all the same.
	connect.Inject(secretstest.Fault{Cut: true})
	kill(t, s)
	if err := swarmtest.Poll(3*time.Minute, func() error {
		if n := driver.outcomes("cached"); n == 0 {
			return fmt.Errorf("nothing came from the cache")
		}
		return nil
	}); err != nil {
		t.Fatalf("%v\n%s", err, driver.log())
	}
	if err := s.WaitRunning("app", 3*time.Minute); err != nil {
		t.Fatalf("%v\n%s", err, driver.log())
	}
	connect.ClearFaults()

	// The plugin stopped and started again: tasks wait for it, and come.
	driver.stop(t)
	kill(t, s)
	driver = start(t, flags)
	if err := swarmtest.Poll(3*time.Minute, func() error {
		if n := driver.outcomes("given"); n == 0 {
			return fmt.Errorf("nothing was asked for")
		}
		return s.WaitRunning("app", time.Second)
	}); err != nil {
		t.Fatalf("%v\n%s", err, driver.log())
	}

	// Connect slower than Swarm waits, and no cache: the log says so within
	// Swarm's time, and tasks come when Connect does.
	driver.stop(t)
	driver = start(t, []string{"-listen", socket, "-policy", policy, "-timeout", "1s"})
	connect.Inject(secretstest.Fault{Delay: time.Minute})
	kill(t, s)
	if err := swarmtest.Poll(3*time.Minute, func() error {
		if n := driver.outcomes("unavailable"); n == 0 {
			return fmt.Errorf("nothing timed out")
		}
		return nil
	}); err != nil {
		t.Fatalf("%v\n%s", err, driver.log())
	}
	connect.ClearFaults()
	if err := s.WaitRunning("app", 3*time.Minute); err != nil {
		t.Fatalf("%v\n%s", err, driver.log())
	}

	// A secret of another stack is refused, and the log says so.
	deploy(t, s, 3, "skep", "other")
	if err := swarmtest.Poll(3*time.Minute, func() error {
		if n := driver.outcomes("denied"); n == 0 {
			return fmt.Errorf("nothing was refused")
		}
		return nil
	}); err != nil {
		t.Errorf("%v\n%s", err, driver.log())
	}
	if log := driver.log(); strings.Contains(log, planted) || strings.Contains(log, token) {
		t.Errorf("the driver's log holds a secret:\n%s", log)
	}
	objects, err := s.Docker("secret", "inspect", "app_db_v1", "app_db_v2")
	if err != nil || strings.Contains(objects, planted) {
		t.Errorf("%v: the Swarm's objects hold a value:\n%s", err, objects)
	}
	driver.stop(t)
}

// TestManagedPlugin installs the driver with docker plugin create.
func TestManagedPlugin(t *testing.T) {
	s := swarmtest.Start(t)
	if err := s.Import("whoami:test", swarmtest.Binary(t, "skep/cmd/whoami")); err != nil {
		t.Fatal(err)
	}
	connect := secretstest.NewConnect(token)
	connect.Fill(secretstest.Content{"homelab": {"db": {"password": planted}}})
	l := listenIn(t, node(t, s))
	secretstest.Run(t, connect, l)

	dir := t.TempDir()
	folder, config := filepath.Join(dir, "plugin"), filepath.Join(dir, "etc")
	if err := os.Mkdir(config, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"op-connect-token": token + "\n", "policy.yaml": "rules: [{services: [app_web], references: [homelab/db]}]\n"} {
		if err := os.WriteFile(filepath.Join(config, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	binary := swarmtest.Binary(t, "skep/cmd/skep-secretdriver")
	if out, err := exec.Command(binary, "-plugin", folder).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, args := range [][]string{
		{"plugin", "create", "skep", folder},
		{"plugin", "set", "skep", "OP_CONNECT_HOST=http://" + l.Addr().String(), "config.source=" + config},
		{"plugin", "enable", "skep"},
	} {
		if _, err := s.Docker(args...); err != nil {
			t.Fatal(err)
		}
	}
	deploy(t, s, 1, "skep", "app")
	if err := s.WaitRunning("app", 3*time.Minute); err != nil {
		t.Fatal(err)
	}
	waitValue(t, s, planted)
	inspect, err := s.Docker("plugin", "inspect", "skep")
	if err != nil || strings.Contains(inspect, token) {
		t.Errorf("%v: the plugin's settings hold the token:\n%s", err, inspect)
	}
	if err := swarmtest.Poll(time.Minute, func() error { // the engine takes over what the driver writes
		log, err := os.ReadFile(filepath.Join(folderOf(s), "log"))
		if err != nil || strings.Contains(string(log), planted) || strings.Contains(string(log), token) {
			t.Fatalf("%v: the engine's log holds a secret", err)
		}
		if !strings.Contains(string(log), `app_web`) || !strings.Contains(string(log), "given") {
			return errors.New("the driver's log is not in the engine's")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// running is a driver in this process.
type running struct {
	cancel context.CancelFunc
	done   chan int
	mu     sync.Mutex
	out    bytes.Buffer
}

func (r *running) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(b)
}

func (r *running) log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

func start(t *testing.T, flags []string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel, done: make(chan int, 1)}
	go func() { r.done <- run(ctx, flags, nil, nil, r) }()
	t.Cleanup(cancel)
	err := swarmtest.Poll(3*time.Minute, func() error {
		conn, err := net.Dial("unix", flags[1])
		if err == nil {
			conn.Close()
		}
		return err
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, r.log())
	}
	return r
}

func (r *running) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if code := <-r.done; code != 0 {
		t.Errorf("exit code %d\n%s", code, r.log())
	}
}

// outcomes counts the requests in the log that ended so.
func (r *running) outcomes(want string) int {
	n := 0
	lines := bufio.NewScanner(strings.NewReader(r.log()))
	for lines.Scan() {
		var line struct{ Outcome, Service, Reference string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Outcome == want && line.Service == "app_web" && line.Reference == "op://homelab/db/password" {
			n++
		}
	}
	return n
}

// folderOf is where the node writes.
func folderOf(s *swarmtest.Swarm) string {
	return filepath.Dir(strings.TrimPrefix(s.Host(), "unix://"))
}

// node is the process id of the engine, whose /proc entry leads to its mounts
// and its network.
func node(t *testing.T, s *swarmtest.Swarm) int {
	t.Helper()
	conn, err := net.Dial("unix", strings.TrimPrefix(s.Host(), "unix://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var peer *unix.Ucred
	if failed := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); failed != nil || err != nil {
		t.Fatal(failed, err)
	}
	return int(peer.Pid)
}

// listenIn listens on the loopback interface of a process's network.
func listenIn(t *testing.T, pid int) net.Listener {
	t.Helper()
	type result struct {
		l   net.Listener
		err error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this goroutine
		namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err != nil {
			done <- result{nil, err}
			return
		}
		defer namespace.Close()
		if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- result{nil, err}
			return
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		done <- result{l, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.l
}

// waitValue waits until each running task's secret is what it should be.
func waitValue(t *testing.T, s *swarmtest.Swarm, want string) {
	t.Helper()
	err := swarmtest.Poll(3*time.Minute, func() error {
		ids, err := s.Docker("ps", "--no-trunc", "-q")
		if err != nil {
			return err
		}
		tasks := strings.Fields(ids)
		for _, id := range tasks {
			// The secrets are a file system that only the node sees.
			pattern := fmt.Sprintf("/proc/%d/root%s/data/containers/%s/mounts/secrets/*", node(t, s), folderOf(s), id)
			files, err := filepath.Glob(pattern)
			if err != nil || len(files) != 1 {
				return fmt.Errorf("%s: %d secrets, %w", id, len(files), err)
			}
			got, err := os.ReadFile(files[0])
			if err != nil || string(got) != want {
				return fmt.Errorf("%s has %q, %w", id, got, err)
			}
		}
		if len(tasks) != 2 {
			return fmt.Errorf("%d tasks run", len(tasks))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// kill ends the containers, so that Swarm starts tasks anew.
func kill(t *testing.T, s *swarmtest.Swarm) {
	t.Helper()
	ids, err := s.Docker("ps", "-q")
	if err == nil {
		_, err = s.Docker(append([]string{"kill"}, strings.Fields(ids)...)...)
	}
	if err != nil {
		t.Fatal(err)
	}
}
