package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Manifest is the name of the list of files that a bundle folder holds; it is
// how stale ones are told from other people's.
const Manifest = ".skep-manifest"

// ErrForeignFolder says that a folder holds files and is no bundle.
var ErrForeignFolder = errors.New("the folder is not empty and holds no bundle")

// Change is what differs between a bundle and a folder.
type Change struct {
	Path string
	Kind ChangeKind
}

// ChangeKind is how a file differs.
type ChangeKind string

const (
	Added   ChangeKind = "added"
	Changed ChangeKind = "changed"
	Removed ChangeKind = "removed"
)

// Compare returns what Write would do to dir.
func (b *Bundle) Compare(dir string) ([]Change, error) {
	old, err := readManifest(dir)
	if err != nil {
		return nil, err
	}
	var changes []Change
	for _, f := range b.files() {
		delete(old, f.Path)
		content, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(f.Path)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			changes = append(changes, Change{f.Path, Added})
		case err != nil:
			return nil, err
		case !bytes.Equal(content, f.Content):
			changes = append(changes, Change{f.Path, Changed})
		}
	}
	for _, path := range slices.Sorted(maps.Keys(old)) {
		if _, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(path))); err == nil {
			changes = append(changes, Change{path, Removed})
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return changes, nil
}

// files are the bundle's files and its manifest.
func (b *Bundle) files() []File {
	files := slices.Clone(b.Files)
	var m bytes.Buffer
	for _, f := range files {
		sum := sha256.Sum256(f.Content)
		fmt.Fprintf(&m, "%s  %s\n", hex.EncodeToString(sum[:]), f.Path)
	}
	return append(files, File{Path: Manifest, Content: m.Bytes()})
}

// Write makes dir hold exactly this bundle and returns what it changed. Files
// are staged beside their places first and then renamed, the manifest last:
// a failure while staging changes nothing.
func (b *Bundle) Write(dir string) (changes []Change, err error) {
	if err := claim(dir); err != nil {
		return nil, err
	}
	changes, err = b.Compare(dir)
	if err != nil {
		return nil, err
	}
	byPath := map[string]File{}
	for _, f := range b.files() {
		byPath[f.Path] = f
	}
	var staged []string
	defer func() {
		for _, path := range staged {
			os.Remove(path + stagedSuffix)
		}
	}()
	for _, c := range changes {
		if c.Kind == Removed {
			continue
		}
		path := filepath.Join(dir, filepath.FromSlash(c.Path))
		if err := stage(path, byPath[c.Path].Content); err != nil {
			return nil, fmt.Errorf("write %s: %w", c.Path, err)
		}
		staged = append(staged, path)
	}
	// The manifest's name sorts before all others; it goes last.
	slices.Reverse(staged)
	for len(staged) > 0 {
		if err := os.Rename(staged[0]+stagedSuffix, staged[0]); err != nil {
			return nil, fmt.Errorf("write bundle: %w", err)
		}
		staged = staged[1:]
	}
	for _, c := range changes {
		if c.Kind == Removed {
			if err := remove(dir, c.Path); err != nil {
				return nil, err
			}
		}
	}
	return slices.DeleteFunc(changes, func(c Change) bool { return c.Path == Manifest }), nil
}

const stagedSuffix = ".skep-new"

func stage(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if bytes.HasPrefix(content, []byte("#!")) {
		mode = 0o755
	}
	return os.WriteFile(path+stagedSuffix, content, mode)
}

// claim makes sure that dir is a bundle's, or empty.
func claim(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, Manifest)); err == nil {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s: %w", dir, ErrForeignFolder)
	}
	return os.WriteFile(filepath.Join(dir, Manifest), nil, 0o644)
}

// remove deletes a stale file and the folders that it leaves empty.
func remove(dir, path string) error {
	full := filepath.Join(dir, filepath.FromSlash(path))
	if err := os.Remove(full); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for parent := filepath.Dir(full); parent != filepath.Clean(dir); parent = filepath.Dir(parent) {
		if os.Remove(parent) != nil {
			break // not empty
		}
	}
	return nil
}

func readManifest(dir string) (map[string]bool, error) {
	content, err := os.ReadFile(filepath.Join(dir, Manifest))
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]bool{}, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for line := range strings.Lines(string(content)) {
		_, path, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if ok && filepath.IsLocal(filepath.FromSlash(path)) {
			out[path] = true
		}
	}
	return out, nil
}
