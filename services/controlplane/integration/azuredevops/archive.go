package azuredevops

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"skep/services/controlplane"
	"skep/services/controlplane/integration"
)

const (
	// maxTree bounds what an archive unpacks to, and maxEntries of how many.
	maxTree    = 2 << 30
	maxEntries = 200_000
	// maxLink bounds the target of a symbolic link.
	maxLink = 4 << 10
)

// Archive is converted from the zip that the API has: it goes through a file
// that has no name any more, as a zip is read from its end. The folder is
// <name>-<commit>.
func (f *Forge) Archive(ctx context.Context, r controlplane.Repository, c controlplane.Commit) (io.ReadCloser, error) {
	address, err := f.path(r, "items")
	if err != nil {
		return nil, err
	}
	body, err := f.archives.Open(ctx, address, query(
		"scopePath", "/", "recursionLevel", "full", "versionDescriptor.versionType", "commit", "versionDescriptor.version", string(c),
		"$format", "zip", "download", "true", "zipForUnix", "true", // the latter keeps modes and links
	), "application/zip")
	if err != nil {
		return nil, fmt.Errorf("archive of %s at %s: %w", r, c, err)
	}
	defer body.Close()
	file, err := spool(body)
	if err != nil {
		return nil, fmt.Errorf("archive of %s at %s: %w", r, c, err)
	}
	archive, err := convert(ctx, file, path.Base(string(r))+"-"+string(c))
	if err != nil {
		return nil, fmt.Errorf("archive of %s at %s: %w", r, c, err)
	}
	return archive, nil
}

// spool copies into a file that nobody else finds and a crash does not leave.
func spool(from io.Reader) (*os.File, error) {
	file, err := os.CreateTemp("", "skep-archive-")
	if err != nil {
		return nil, err
	}
	err = os.Remove(file.Name())
	if err == nil {
		_, err = io.Copy(file, from)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// converted is a gzipped tar that is written as it is read.
type converted struct {
	*io.PipeReader
	ctx  context.Context // of the request, as a body's is
	done chan struct{}
	stop func() bool
}

func (c *converted) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.PipeReader.Read(p)
}

// Close waits for the writer.
func (c *converted) Close() error {
	err := c.PipeReader.Close()
	<-c.done
	c.stop()
	return err
}

// convert takes the file over. A tree that is too large is refused before
// anything is unpacked, by what the zip says of itself, and again while it is.
func convert(ctx context.Context, file *os.File, folder string) (io.ReadCloser, error) {
	archive, err := open(file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	reader, writer := io.Pipe()
	c := &converted{PipeReader: reader, ctx: ctx, done: make(chan struct{})}
	c.stop = context.AfterFunc(ctx, func() { writer.CloseWithError(context.Cause(ctx)) })
	go func() {
		defer close(c.done)
		defer file.Close() // it was only read
		writer.CloseWithError(write(writer, archive, folder))
	}()
	return c, nil
}

func open(file *os.File) (*zip.Reader, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	archive, err := zip.NewReader(file, info.Size())
	if err != nil {
		return nil, err
	}
	if len(archive.File) > maxEntries {
		return nil, fmt.Errorf("%w: it has %d files, %d are taken", integration.ErrTooLarge, len(archive.File), maxEntries)
	}
	total := uint64(0)
	for _, f := range archive.File {
		if total += f.UncompressedSize64; f.UncompressedSize64 > maxTree || total > maxTree {
			return nil, fmt.Errorf("%w: it unpacks to more than %d bytes", integration.ErrTooLarge, int64(maxTree))
		}
	}
	return archive, nil
}

func write(to io.Writer, archive *zip.Reader, folder string) error {
	compressed, err := gzip.NewWriterLevel(to, gzip.BestSpeed) // it stays on this machine
	if err != nil {
		return err
	}
	out := tar.NewWriter(compressed)
	if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: folder + "/", Mode: 0o755, ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	for _, f := range archive.File {
		if err := entry(out, f, folder); err != nil {
			return err
		}
	}
	return errors.Join(out.Close(), compressed.Close())
}

func entry(out *tar.Writer, f *zip.File, folder string) error {
	name := strings.TrimSuffix(f.Name, "/")
	if name == "" || !filepath.IsLocal(name) || strings.ContainsAny(name, "\\\x00") {
		return fmt.Errorf("the archive has a path that leads out of it: %q", integration.Line(f.Name, 100))
	}
	header := &tar.Header{Name: folder + "/" + name, Mode: 0o644, ModTime: time.Unix(0, 0)}
	content, err := f.Open()
	if err != nil {
		return fmt.Errorf("%q: %w", f.Name, err)
	}
	defer content.Close()
	switch mode := f.Mode(); {
	case mode.IsDir():
		header.Typeflag, header.Mode, header.Name = tar.TypeDir, 0o755, header.Name+"/"
	case mode&fs.ModeSymlink != 0:
		target, err := io.ReadAll(io.LimitReader(content, maxLink))
		if err != nil {
			return fmt.Errorf("%q: %w", f.Name, err)
		}
		header.Typeflag, header.Mode, header.Linkname = tar.TypeSymlink, 0o777, string(target)
	case mode.IsRegular():
		header.Typeflag, header.Size = tar.TypeReg, int64(f.UncompressedSize64)
		if mode&0o111 != 0 {
			header.Mode = 0o755
		}
	default:
		return fmt.Errorf("%q is neither a file nor a folder nor a link", f.Name)
	}
	if err := out.WriteHeader(header); err != nil {
		return fmt.Errorf("%q: %w", f.Name, err)
	}
	if header.Typeflag != tar.TypeReg {
		return nil
	}
	// The tar refuses a byte more than the zip said there would be.
	if _, err := io.Copy(out, content); err != nil {
		return fmt.Errorf("%q: %w", f.Name, err)
	}
	return nil
}

// Head goes through the refs that begin with the branch's name: release
// matches release-2 as well.
func (f *Forge) Head(ctx context.Context, r controlplane.Repository, b controlplane.Branch) (controlplane.Commit, error) {
	if b == "" {
		address, err := f.path(r)
		if err != nil {
			return "", err
		}
		var found struct {
			Default string `json:"defaultBranch"`
		}
		if _, err := f.api.Call(ctx, "GET", address, query(), nil, &found); err != nil {
			return "", fmt.Errorf("default branch of %s: %w", r, err)
		}
		b = controlplane.Branch(strings.TrimPrefix(found.Default, "refs/heads/"))
	}
	if _, err := controlplane.ParseBranch(string(b)); err != nil {
		return "", err
	}
	address, err := f.path(r, "refs")
	if err != nil {
		return "", err
	}
	type ref struct {
		Name   string `json:"name"`
		Object string `json:"objectId"`
	}
	q := query("filter", "heads/"+string(b), "$top", "1000")
	for range maxPages {
		var answer many[ref]
		headers, err := f.api.Call(ctx, "GET", address, q, nil, &answer)
		if err != nil {
			return "", fmt.Errorf("branch %s of %s: %w", b, r, err)
		}
		for _, found := range answer.Value {
			if found.Name == "refs/heads/"+string(b) {
				return controlplane.ParseCommit(found.Object)
			}
		}
		next := headers.Get("X-MS-ContinuationToken")
		if next == "" {
			return "", fmt.Errorf("branch %s of %s: %w", b, r, controlplane.ErrNotFound)
		}
		q.Set("continuationToken", next)
	}
	return "", fmt.Errorf("branch %s of %s: not among the first %d pages of branches that begin so", b, r, maxPages)
}

// maxPages bounds a walk through a list.
const maxPages = 20
