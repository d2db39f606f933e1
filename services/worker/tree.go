package worker

import (
	"context"
	"errors"
	"fmt"

	"skep/services/controlplane"
	"skep/services/worker/tree"
)

// errTree says that an archive holds what no repository of stacks does.
var errTree = tree.ErrUnusable

// checkout puts the tree of a commit into a folder. Archives of providers have
// a folder of their own around it.
func checkout(ctx context.Context, f controlplane.Forge, r controlplane.Repository, c controlplane.Commit, dir string) (err error) {
	ctx, end := step(ctx, "fetch")
	defer func() { end(err) }()
	archive, err := f.Archive(ctx, r, c)
	if err != nil {
		return fmt.Errorf("fetch %s at %s: %w", r, c, err)
	}
	err = tree.Unpack(archive, dir, 1)
	if err := errors.Join(err, archive.Close()); err != nil {
		return fmt.Errorf("unpack %s at %s: %w", r, c, err)
	}
	return nil
}
