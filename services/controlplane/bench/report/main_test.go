package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The children of the report are this binary.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && slices.Contains([]string{roleEngine, roleClients}, os.Args[1]) {
		main()
	}
	os.Exit(m.Run())
}

// TestReport holds that the report measures all that it promises and leaves
// nothing; what it measures is another matter.
func TestReport(t *testing.T) {
	installed, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("postgres"); err != nil && len(installed) == 0 {
		if os.Getenv("SKEP_NO_SKIP") == "1" {
			t.Fatal("the report needs PostgreSQL")
		}
		t.Skip("the report needs PostgreSQL")
	}
	// A file, as for real: children write to it too.
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	t.Setenv("TMPDIR", shortDir(t))
	var section bytes.Buffer
	if code := run(t.Context(), []string{"-rounds", "1", "-time", "100ms"}, nil, &section, stderr); code != 0 {
		said, _ := os.ReadFile(stderr.Name())
		t.Fatalf("got exit code %d: %s", code, said)
	}
	for subject, want := range map[string]int{
		"## Control plane\n": 1, "### ": 4, "| verify + insert |": 1, "| skep-server |": 2, "| bare Hatchet |": 2, "| engine.Start |": 1,
		"| delivery to run |": 1, "| engine.Start and Work |": 1, "| bare broadcast |": 1, "| ratio": 4, " 0.00 ms": 0, "| - |": 0,
	} {
		if got := strings.Count(section.String(), subject); got != want {
			t.Errorf("%q is there %d times, want %d, in\n%s", subject, got, want, section.String())
		}
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) != 0 {
		t.Errorf("the report left %v (%v)", left, err)
	}
}

// shortDir is for sockets, whose paths are short, and for other users.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "skep-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-nope"}, {"-rounds", "0"}, {"-time", "0s"}, {"nobody"}} {
		if code := run(t.Context(), args, nil, &bytes.Buffer{}, &bytes.Buffer{}); code != 2 {
			t.Errorf("%q: got exit code %d, want 2", args, code)
		}
	}
}

func TestQuantile(t *testing.T) {
	l := &latencies{}
	if got := l.quantile(.5); got != 0 {
		t.Errorf("of nothing: got %s", got)
	}
	for i := range 101 {
		l.add(time.Duration(100-i) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0: 0, .5: 50 * time.Millisecond, .99: 99 * time.Millisecond, 1: 100 * time.Millisecond} {
		if got := l.quantile(q); got != want {
			t.Errorf("%v: got %s, want %s", q, got, want)
		}
	}
}

// Who goes first changes with the round, and the first round is not kept.
func TestInTurn(t *testing.T) {
	var calls []string
	subject := func(name string) func(bool) error {
		return func(keep bool) error {
			calls = append(calls, fmt.Sprint(name, keep))
			return nil
		}
	}
	if err := (plan{rounds: 2, progress: &bytes.Buffer{}}).inTurn("test", subject("a "), subject("b ")); err != nil {
		t.Fatal(err)
	}
	want := []string{"a false", "b false", "b true", "a true", "a true", "b true"}
	if !slices.Equal(calls, want) {
		t.Errorf("got %q, want %q", calls, want)
	}
}
