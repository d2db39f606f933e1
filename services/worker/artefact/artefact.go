// Package artefact reads the files that a job leaves to be kept. It links the
// standard library alone, for it runs inside jobs too.
package artefact

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Folder is where a job leaves them, in its /work.
const Folder = "artefacts"

// What a job may leave, as the store takes it.
const (
	MaxFile  = 16 << 20
	MaxFiles = 100
	MaxBytes = 64 << 20 // of all of them
)

// Read calls take with each file that lies in the artefacts of a tree, in the
// order of their names, and left with what is no file, too large or too much,
// and why. The tree is the job's: links in it are not followed.
func Read(dir string, take func(name string, content []byte) error, left func(name, why string) error) error {
	tree, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer tree.Close()
	info, err := tree.Lstat(Folder)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil
	}
	if err != nil {
		return err
	}
	folder, err := tree.OpenRoot(Folder)
	if err != nil {
		return err
	}
	defer folder.Close()
	files, size := 0, 0
	return fs.WalkDir(folder.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrPermission):
			return left(name, "it cannot be read")
		case err != nil || entry.IsDir():
			return err
		case files == MaxFiles:
			return cmp.Or(left(name, fmt.Sprintf("%d are kept", MaxFiles)), fs.SkipAll)
		}
		files++
		if !entry.Type().IsRegular() {
			return left(name, "it is no file")
		}
		content, err := read(folder, name)
		switch {
		case errors.Is(err, fs.ErrPermission):
			return left(name, "it cannot be read")
		case err != nil:
			return err
		case len(content) > MaxFile:
			return left(name, fmt.Sprintf("it has more than %d MiB", MaxFile>>20))
		case size+len(content) > MaxBytes:
			return left(name, fmt.Sprintf("with those before it, it has more than %d MiB", MaxBytes>>20))
		}
		size += len(content)
		return take(name, content)
	})
}

// read takes one byte more than is kept at most.
func read(folder *os.Root, name string) ([]byte, error) {
	f, err := folder.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var content bytes.Buffer // as large as the file, for inside a job this is the job's memory
	content.Grow(int(min(info.Size(), MaxFile+1)) + bytes.MinRead)
	_, err = content.ReadFrom(io.LimitReader(f, MaxFile+1))
	return content.Bytes(), err
}
