package swarmtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"sync"
	"testing"
)

var (
	builtMu sync.Mutex
	built   = map[string]func() (string, error){}
)

// Binary builds a command of this module, statically and once for all tests of
// a run, and returns its path: Binary(t, "skep/cmd/whoami").
func Binary(t testing.TB, command string) string {
	t.Helper()
	builtMu.Lock()
	get, ok := built[command]
	if !ok {
		get = sync.OnceValues(func() (string, error) { return build(command) })
		built[command] = get
	}
	builtMu.Unlock()
	file, err := get()
	if err != nil {
		t.Fatalf("build %s: %v", command, err)
	}
	return file
}

func build(command string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	module, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", err
	}
	// A checkout of the repository does not get the binaries of another.
	checkout := sha256.Sum256(bytes.TrimSpace(module))
	dir := filepath.Join(cache, "skep-swarmtest", hex.EncodeToString(checkout[:6]))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	scratch, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(scratch)

	name := path.Base(command)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(scratch, name), command)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	// A rename, for another package's tests may read the file meanwhile.
	file := filepath.Join(dir, name)
	return file, os.Rename(filepath.Join(scratch, name), file)
}
