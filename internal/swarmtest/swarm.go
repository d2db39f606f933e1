// Package swarmtest runs private Swarms for tests, of one node or of several:
// every engine in namespaces of its own, so that no address, bridge, mount or
// process meets those of the machine, and ending one process ends all.
//
// The engine is the machine's dockerd, or that of the folder which SKEP_ENGINE
// names, with the containerd and the runc beside it.
package swarmtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Swarm is a running Swarm of one node.
type Swarm struct{ *Node }

// Start runs a Swarm of one node until the test ends. Without root or Docker
// it skips the test, or fails it when SKEP_NO_SKIP is 1.
func Start(t testing.TB) *Swarm {
	t.Helper()
	return &Swarm{StartCluster(t, 1).Nodes[0]}
}

// engineFolder holds an engine to run in place of the machine's; empty for none.
func engineFolder() string { return os.Getenv("SKEP_ENGINE") }

// enginePath is where a machine looks for its programs.
func enginePath() string {
	path := os.Getenv("PATH")
	if dir := engineFolder(); dir != "" {
		path = dir + string(os.PathListSeparator) + path
	}
	return path
}

// require ends a test that cannot run here.
func require(t testing.TB) {
	t.Helper()
	if dir := engineFolder(); dir != "" {
		// One that is asked for and not there must not pass for another.
		if _, err := exec.LookPath(filepath.Join(dir, "dockerd")); err != nil || !filepath.IsAbs(dir) {
			t.Fatalf("SKEP_ENGINE must be the path of a folder with dockerd: %q: %v", dir, err)
		}
	}
	missing := ""
	if os.Getuid() != 0 {
		missing = "root"
	}
	for _, tool := range []string{"dockerd", "docker", "unshare", "nsenter", "ip", "iptables"} {
		if tool == "dockerd" && engineFolder() != "" {
			continue
		}
		if _, err := exec.LookPath(tool); err != nil && missing == "" {
			missing = tool
		}
	}
	if missing != "" {
		lacks(t, missing)
	}
}

// Tool is the path of a program of the machine's that a test talks to. Without
// it the test is skipped, or fails when SKEP_NO_SKIP is 1.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		lacks(t, name)
	}
	return path
}

func lacks(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("SKEP_NO_SKIP") == "1" {
		t.Fatalf("it needs %s", what)
	}
	t.Skipf("it needs %s", what)
}

// Poll calls f until it returns nil, or returns its last error when the time
// is over.
func Poll(timeout time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := poll(ctx, f); err != nil {
		return fmt.Errorf("after %v: %w", timeout, err)
	}
	return nil
}

func poll(ctx context.Context, f func() error) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := f()
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil { // a call that was cut short says little
			last = err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return last
		}
	}
}
