package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"os"
	"path"

	"skep/services/controlplane"
)

// artefactFolder is where a task leaves what is to be kept, below /work. On a
// Swarm nothing comes back from there, and the job says so.
const artefactFolder = "artefacts"

const (
	maxArtefact  = 16 << 20 // as the store takes
	maxArtefacts = 100
)

// keep stores the files that a job left. What is no file, too large or too much
// is left out, and a line says so. The folder is the job's: links in it are
// not followed.
func (t *task) keep(ctx context.Context, dir string, said *lines) error {
	tree, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer tree.Close()
	info, err := tree.Lstat(artefactFolder)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil
	}
	if err != nil {
		return err
	}
	folder, err := tree.OpenRoot(artefactFolder)
	if err != nil {
		return err
	}
	defer folder.Close()
	n := 0
	return fs.WalkDir(folder.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		left := func(why string) error {
			said.add("skep", fmt.Sprintf("artefact %q is left out: %s", name, why))
			return nil
		}
		if n++; n > maxArtefacts {
			if n == maxArtefacts+1 {
				return left(fmt.Sprintf("%d are kept", maxArtefacts))
			}
			return nil
		}
		if !entry.Type().IsRegular() {
			return left("it is no file")
		}
		content, err := readFile(folder, name)
		if err != nil {
			return err
		}
		if len(content) > maxArtefact {
			return left(fmt.Sprintf("it has more than %d MiB", maxArtefact>>20))
		}
		media := mime.TypeByExtension(path.Ext(name))
		if media == "" {
			media = "application/octet-stream"
		}
		err = t.w.Tasks.PutArtefact(ctx, t.run.ID, name, media, content)
		if errors.Is(err, controlplane.ErrInvalid) {
			return left(oneLine(err.Error()))
		}
		return err
	})
}

// readFile reads one byte more than is kept at most.
func readFile(folder *os.Root, name string) ([]byte, error) {
	f, err := folder.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxArtefact+1))
}
