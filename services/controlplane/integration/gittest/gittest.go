// Package gittest makes bare Git repositories, for fakes of forges to serve.
package gittest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"

	"skep/services/controlplane"
)

// Repository is a bare repository whose default branch is main.
type Repository struct{ Dir string }

// Init makes one in a folder that is there.
func Init(ctx context.Context, dir string) (Repository, error) {
	r := Repository{dir}
	_, err := r.git(ctx, nil, "init", "--quiet", "--bare", "--initial-branch=main", ".")
	return r, err
}

func (r Repository) git(ctx context.Context, in []byte, args ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, "git", args...)
	command.Dir = r.Dir
	command.Stdin = bytes.NewReader(in)
	command.Env = append(os.Environ(), "GIT_DIR=.", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull)
	var out, problems bytes.Buffer
	command.Stdout, command.Stderr = &out, &problems
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("git %s: %w: %s", args[0], err, problems.Bytes())
	}
	return out.Bytes(), nil
}

// Push commits files, by path, on top of a branch. A new branch starts at main,
// if there is one.
func (r Repository) Push(ctx context.Context, b controlplane.Branch, files map[string]string) (controlplane.Commit, error) {
	parent, err := r.Head(ctx, b)
	if errors.Is(err, controlplane.ErrNotFound) {
		parent, err = r.Head(ctx, "main")
	}
	if err != nil && !errors.Is(err, controlplane.ErrNotFound) {
		return "", err
	}
	var in bytes.Buffer
	fmt.Fprintf(&in, "commit refs/heads/%s\ncommitter Ada <ada@example.com> 0 +0000\ndata 6\nchange\n", b)
	if parent != "" {
		fmt.Fprintf(&in, "from %s\n", parent)
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&in, "M 100644 inline %s\ndata %d\n%s\n", path, len(files[path]), files[path])
	}
	if _, err := r.git(ctx, in.Bytes(), "fast-import", "--quiet", "--force", "--date-format=raw"); err != nil {
		return "", err
	}
	return r.Head(ctx, b)
}

// Head is controlplane.ErrNotFound for a branch that is not there.
func (r Repository) Head(ctx context.Context, b controlplane.Branch) (controlplane.Commit, error) {
	heads, err := r.Heads(ctx)
	if err != nil {
		return "", err
	}
	if c, ok := heads[b]; ok {
		return c, nil
	}
	return "", fmt.Errorf("%w: branch %s", controlplane.ErrNotFound, b)
}

// Heads are all branches.
func (r Repository) Heads(ctx context.Context) (map[controlplane.Branch]controlplane.Commit, error) {
	out, err := r.git(ctx, nil, "for-each-ref", "--format=%(objectname) %(refname:lstrip=2)", "refs/heads")
	if err != nil {
		return nil, err
	}
	heads := map[controlplane.Branch]controlplane.Commit{}
	for line := range strings.Lines(string(out)) {
		object, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		heads[controlplane.Branch(name)] = controlplane.Commit(object)
	}
	return heads, nil
}

// Has says whether a commit is there.
func (r Repository) Has(ctx context.Context, c controlplane.Commit) bool {
	_, err := controlplane.ParseCommit(string(c))
	if err == nil {
		_, err = r.git(ctx, nil, "cat-file", "-e", string(c)+"^{commit}")
	}
	return err == nil
}

// Archive is the tree of a commit, as zip or tar.gz, below a prefix.
func (r Repository) Archive(ctx context.Context, c controlplane.Commit, format, prefix string) ([]byte, error) {
	if !r.Has(ctx, c) {
		return nil, fmt.Errorf("%w: commit %s", controlplane.ErrNotFound, c)
	}
	return r.git(ctx, nil, "archive", "--format="+format, "--prefix="+prefix, string(c))
}
