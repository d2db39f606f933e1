package expand

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestShim runs the shim with the shell of this machine.
func TestShim(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "skep-env")
	files := map[string]string{
		"plain": "secret", "newline": "line\n", "lines": "a\nb\n", "odd": `$HOME "quoted" 'single' \back* é`, "empty": "",
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(script, shim, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "/bin/sh", append([]string{script}, args...)...)
		cmd.Env = []string{"PATH=/usr/bin:/bin"}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	print := []string{"--", "/bin/sh", "-c", `printf '%s|' "$A" "$@"`, "arg0"}

	for name, content := range files {
		out, err := run(append([]string{"A=" + filepath.Join(dir, name)}, append(print, "x y", "*")...)...)
		if want := strings.TrimRight(content, "\n") + "|x y|*|"; err != nil || out != want {
			t.Errorf("%s: got %q, %v, want %q", name, out, err, want)
		}
	}
	t.Run("two variables", func(t *testing.T) {
		out, err := run("A="+filepath.Join(dir, "plain"), "B_2="+filepath.Join(dir, "newline"), "--", "/bin/sh", "-c", `printf '%s %s' "$A" "$B_2"`)
		if err != nil || out != "secret line" {
			t.Errorf("got %q, %v", out, err)
		}
	})
	t.Run("nothing else is exported", func(t *testing.T) {
		out, err := run("A="+filepath.Join(dir, "plain"), "--", "/usr/bin/env")
		if err != nil || strings.Contains(out, "skep_") {
			t.Errorf("environment %q, %v", out, err)
		}
	})
	t.Run("a secret that is not there", func(t *testing.T) {
		out, err := run("A="+filepath.Join(dir, "missing"), "--", "/bin/true")
		if err == nil || !strings.Contains(out, "A: cannot read") {
			t.Errorf("got %q, %v", out, err)
		}
	})
	t.Run("the program's exit code", func(t *testing.T) {
		_, err := run("A="+filepath.Join(dir, "plain"), "--", "/bin/sh", "-c", "exit 7")
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 7 {
			t.Errorf("error %v", err)
		}
	})
}
