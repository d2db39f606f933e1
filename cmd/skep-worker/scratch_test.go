package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestScratch(t *testing.T) {
	parent := t.TempDir()
	t.Setenv("TMPDIR", parent)
	plant := func(path ...string) string {
		t.Helper()
		name := filepath.Join(append([]string{parent}, path...)...)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
		return name
	}
	// What a worker left that died, with a folder that its job closed to it.
	plant("skep-worker-dead", "run", "closed", "file")
	if err := os.Chmod(filepath.Join(parent, "skep-worker-dead", "run", "closed"), 0); err != nil {
		t.Fatal(err)
	}
	// One that lives.
	living := filepath.Dir(plant("skep-worker-living", "file"))
	lock, err := hold(living)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := hold(living); !errors.Is(err, errHeld) {
		t.Errorf("a second worker gets %v", err)
	}
	// None of ours.
	plant("skep-worker-file")
	plant("others", "file")
	if err := os.Symlink("others", filepath.Join(parent, "skep-worker-link")); err != nil {
		t.Fatal(err)
	}
	kept := []string{"others", "skep-worker-file", "skep-worker-link", "skep-worker-living"}
	if os.Getuid() == 0 {
		if err := os.Chown(filepath.Dir(plant("skep-worker-another", "file")), 65534, 65534); err != nil {
			t.Fatal(err)
		}
		kept = append([]string{kept[0], "skep-worker-another"}, kept[1:]...)
	}

	var said strings.Builder
	remove, err := scratch(slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	own := os.TempDir()
	if filepath.Dir(own) != parent || !strings.HasPrefix(filepath.Base(own), scratchPrefix) {
		t.Errorf("temporary files are in %s", own)
	}
	if _, err := hold(own); !errors.Is(err, errHeld) {
		t.Errorf("another worker would sweep it: %v", err)
	}
	if _, err := os.MkdirTemp("", "run-"); err != nil {
		t.Error(err)
	}
	if err := remove(); err != nil {
		t.Error(err)
	}
	if got := entries(t, parent); !slices.Equal(got, kept) {
		t.Errorf("there are %q, want %q", got, kept)
	}
	if got := entries(t, filepath.Join(parent, "others")); len(got) != 1 {
		t.Errorf("a link was followed: %q are left", got)
	}
	if said.String() != "" {
		t.Errorf("the log says %s", &said)
	}
}

// A folder that was swept between its making and its lock is none.
func TestHoldOfWhatIsGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := sweep(dir); err != nil {
		t.Fatal(err)
	}
	if f, err := hold(dir); err == nil {
		t.Errorf("%s is held", f.Name())
	}
	if err := sweep(dir); err != nil {
		t.Errorf("a second sweep: %v", err)
	}
}

func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}
