package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"mime"
	"path"
	"slices"
	"unicode/utf8"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/worker/artefact"
	"skep/services/worker/output"
)

// keep stores the files that a job left, with its secrets masked. What is no
// file, too large or too much is left out, and a line says so.
func (t *task) keep(ctx context.Context, dir string, hide map[string]secrets.Value, said *lines) error {
	var values [][]byte
	for _, name := range slices.Sorted(maps.Keys(hide)) {
		content, err := hide[name].Bytes()
		if err != nil {
			return fmt.Errorf("hide secret %s: %w", name, err)
		}
		values = append(values, content)
	}
	mask := output.NewMask(values...)
	left := func(name, why string) error {
		said.add("skep", fmt.Sprintf("artefact %q is left out: %s", mask.Bytes([]byte(name)), why))
		return nil
	}
	return artefact.Read(dir, func(name string, content []byte) error {
		masked := mask.Bytes(content)
		switch {
		case string(mask.Bytes([]byte(name))) != name:
			return left(name, "its name holds a secret of the task")
		case !bytes.Equal(masked, content) && !isText(content):
			return left(name, "it holds a secret of the task, and is no text in which that can be masked")
		}
		media := mime.TypeByExtension(path.Ext(name))
		if media == "" {
			media = "application/octet-stream"
		}
		err := t.w.Tasks.PutArtefact(ctx, t.run.ID, name, media, masked)
		if errors.Is(err, controlplane.ErrInvalid) {
			return left(name, oneLine(err.Error()))
		}
		return err
	}, left)
}

func isText(content []byte) bool { return utf8.Valid(content) && !bytes.ContainsRune(content, 0) }
