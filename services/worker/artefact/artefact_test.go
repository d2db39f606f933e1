package artefact

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// readAll returns what of a tree is taken, with its size, and what is left out.
func readAll(t *testing.T, dir string) (taken map[string]int, out []string) {
	t.Helper()
	taken = map[string]int{}
	err := Read(dir, func(name string, content []byte) error {
		taken[name] = len(content)
		return nil
	}, func(name, why string) error {
		out = append(out, name+": "+why)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return taken, out
}

// tree is one with files of some sizes, which take no room on disk.
func tree(t *testing.T, sizes map[string]int64) string {
	t.Helper()
	dir := t.TempDir()
	for name, size := range sizes {
		name = filepath.Join(dir, Folder, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, nil, 0o644), os.Truncate(name, size)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRead(t *testing.T) {
	dir := tree(t, map[string]int64{"a": 0, "b/c": MaxFile, "large": MaxFile + 1, "d/e/f": 1})
	folder := filepath.Join(dir, Folder)
	if err := errors.Join(os.Symlink("a", filepath.Join(folder, "link")), os.Symlink("/etc", filepath.Join(folder, "etc"))); err != nil {
		t.Fatal(err)
	}
	taken, out := readAll(t, dir)
	if !maps.Equal(taken, map[string]int{"a": 0, "b/c": MaxFile, "d/e/f": 1}) {
		t.Errorf("it takes %v", taken)
	}
	if !slices.Equal(out, []string{"etc: it is no file", "large: it has more than 16 MiB", "link: it is no file"}) {
		t.Errorf("it leaves out %q", out)
	}
}

func TestReadBounds(t *testing.T) {
	taken, out := readAll(t, tree(t, map[string]int64{"a": MaxFile, "b": MaxFile, "c": MaxFile, "d": MaxFile - 1, "e": 2, "f": 1}))
	if len(taken) != 5 || !slices.Equal(out, []string{"e: with those before it, it has more than 64 MiB"}) {
		t.Errorf("it takes %v and leaves out %q", taken, out)
	}
	many := map[string]int64{}
	for i := range MaxFiles + 5 {
		many[fmt.Sprintf("%03d", i)] = 1
	}
	taken, out = readAll(t, tree(t, many))
	if len(taken) != MaxFiles || !slices.Equal(out, []string{"100: 100 are kept"}) {
		t.Errorf("it takes %d and leaves out %q", len(taken), out)
	}
}

// What is no folder has no files.
func TestReadNothing(t *testing.T) {
	for name, put := range map[string]func(string) error{
		"nothing": func(string) error { return nil },
		"a file":  func(path string) error { return os.WriteFile(path, []byte("x"), 0o644) },
		"a link":  func(path string) error { return os.Symlink("/etc", path) },
	} {
		dir := t.TempDir()
		if err := put(filepath.Join(dir, Folder)); err != nil {
			t.Fatal(err)
		}
		if taken, out := readAll(t, dir); len(taken)+len(out) > 0 {
			t.Errorf("%s: it takes %v and leaves out %q", name, taken, out)
		}
	}
}
