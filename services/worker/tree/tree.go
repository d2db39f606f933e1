// Package tree packs folders into archives and unpacks archives of strangers.
// It links the standard library alone, for it runs inside jobs too.
package tree

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// What an archive may unpack to. A stack folder has kilobytes.
const (
	maxFile  = 64 << 20
	maxFiles = 50_000
)

// maxTree is a variable for a test that would take minutes to reach it.
var maxTree int64 = 512 << 20

// ErrUnusable says that an archive holds what no tree of stacks does.
var ErrUnusable = errors.New("the tree cannot be used")

// Unpack writes a gzipped tar into a folder, without the first elements of its
// paths. The archive comes from whoever can push: files stay inside, links are
// left out if they point outside, devices always, and the sum of it is bounded,
// whatever the headers say.
func Unpack(archive io.Reader, dir string, strip int) error {
	zipped, err := gzip.NewReader(archive)
	if err != nil {
		return fmt.Errorf("%w: no gzip: %w", ErrUnusable, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	left := &io.LimitedReader{R: zipped, N: maxTree}
	files := tar.NewReader(left)
	for n := 0; ; n++ {
		h, err := files.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case left.N <= 0:
			return fmt.Errorf("%w: it unpacks to more than %d MiB", ErrUnusable, maxTree>>20)
		case err != nil:
			return fmt.Errorf("%w: %w", ErrUnusable, err)
		case n >= maxFiles:
			return fmt.Errorf("%w: it has more than %d files", ErrUnusable, maxFiles)
		}
		if err := writeEntry(root, h, files, strip); err != nil {
			if left.N <= 0 {
				err = fmt.Errorf("%w: it unpacks to more than %d MiB", ErrUnusable, maxTree>>20)
			}
			return err
		}
	}
}

func writeEntry(root *os.Root, h *tar.Header, content io.Reader, strip int) error {
	name := path.Clean("/" + h.Name)[1:]
	for range strip {
		_, name, _ = strings.Cut(name, "/")
	}
	if name == "" || h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name = filepath.FromSlash(name)
	if !filepath.IsLocal(name) || strings.ContainsRune(name, 0) {
		return fmt.Errorf("%w: the path %q leads outside", ErrUnusable, h.Name)
	}
	if dir := filepath.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("%w: %w", ErrUnusable, err)
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := root.MkdirAll(name, 0o755); err != nil {
			return fmt.Errorf("%w: %w", ErrUnusable, err)
		}
	case tar.TypeReg:
		return writeFile(root, name, h, content)
	case tar.TypeSymlink:
		if !inside(name, h.Linkname) {
			return nil
		}
		if err := root.Symlink(filepath.FromSlash(h.Linkname), name); err != nil {
			return fmt.Errorf("%w: %w", ErrUnusable, err)
		}
	}
	return nil
}

// inside says whether a link stays in the tree.
func inside(name, target string) bool {
	target = filepath.FromSlash(target)
	return !filepath.IsAbs(target) && filepath.IsLocal(filepath.Join(filepath.Dir(name), target))
}

func writeFile(root *os.Root, name string, h *tar.Header, content io.Reader) (err error) {
	if h.Size > maxFile {
		return fmt.Errorf("%w: %s has %d MiB, more than %d", ErrUnusable, name, h.Size>>20, maxFile>>20)
	}
	mode := os.FileMode(0o644)
	if h.FileInfo().Mode()&0o100 != 0 {
		mode = 0o755
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.Copy(f, content); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnusable, name, err)
	}
	return nil
}

// Pack writes a folder as a gzipped tar that Unpack takes. Files that it would
// leave out are left out here.
func Pack(dir string, to io.Writer) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	zipped := gzip.NewWriter(to)
	archive := tar.NewWriter(zipped)
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		return add(archive, root, name, entry)
	})
	return errors.Join(err, archive.Close(), zipped.Close())
}

func add(archive *tar.Writer, root *os.Root, name string, entry fs.DirEntry) (err error) {
	h := &tar.Header{Name: name, Mode: 0o755}
	switch entry.Type() {
	case fs.ModeDir:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
		return archive.WriteHeader(h)
	case fs.ModeSymlink:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = root.Readlink(name); err != nil || !inside(name, h.Linkname) {
			return err
		}
		return archive.WriteHeader(h)
	case 0:
	default:
		return nil
	}
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h.Typeflag, h.Size = tar.TypeReg, info.Size()
	if info.Mode()&0o100 == 0 {
		h.Mode = 0o644
	}
	if err := archive.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.CopyN(archive, f, info.Size())
	return err
}
