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
	"time"

	"skep/services/controlplane"
)

// Repository is a bare repository whose default branch is main.
type Repository struct{ Dir string }

// Init makes one in a folder that is there.
func Init(ctx context.Context, dir string) (Repository, error) {
	r := Repository{dir}
	_, err := r.Git(ctx, nil, "init", "--quiet", "--bare", "--initial-branch=main", ".")
	return r, err
}

// Git runs a command of Git's on the repository, without the configuration of
// whoever runs the test.
func (r Repository) Git(ctx context.Context, in []byte, args ...string) ([]byte, error) {
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
	all := map[string]File{}
	for path, content := range files {
		all[path] = File{Content: content}
	}
	if err := r.Commit(ctx, b, Commit{From: parent, Author: "Ada", Message: "change", At: time.Unix(0, 0), Files: all}); err != nil {
		return "", err
	}
	return r.Head(ctx, b)
}

// File is one to commit.
type File struct {
	Content string
	Mode    string // 100644 if empty; 100755, 120000 for a symbolic link
	Remove  bool
}

// Commit is one to make.
type Commit struct {
	From            controlplane.Commit // where a branch that is new begins; empty for nowhere
	Author, Message string
	At              time.Time
	Files           map[string]File // by path
}

// Commit adds a commit to a branch.
func (r Repository) Commit(ctx context.Context, b controlplane.Branch, c Commit) error {
	var in bytes.Buffer
	data := func(content string) { fmt.Fprintf(&in, "data %d\n%s\n", len(content), content) }
	fmt.Fprintf(&in, "commit refs/heads/%s\ncommitter %s <%[2]s@users.noreply.example.com> %d +0000\n", b, c.Author, c.At.Unix())
	data(c.Message)
	if c.From != "" {
		fmt.Fprintf(&in, "from %s\n", c.From)
	}
	for _, path := range slices.Sorted(maps.Keys(c.Files)) {
		f := c.Files[path]
		if f.Remove {
			fmt.Fprintf(&in, "D %s\n", quote(path))
			continue
		}
		mode := f.Mode
		if mode == "" {
			mode = "100644"
		}
		fmt.Fprintf(&in, "M %s inline %s\n", mode, quote(path))
		data(f.Content)
	}
	in.WriteString("done\n")
	_, err := r.Git(ctx, in.Bytes(), "fast-import", "--quiet", "--done", "--force", "--date-format=raw")
	return err
}

// quote is for fast-import, which does not undo all of Go's escapes.
func quote(path string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(path) + `"`
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
	out, err := r.Git(ctx, nil, "for-each-ref", "--format=%(objectname) %(refname:lstrip=2)", "refs/heads")
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
		_, err = r.Git(ctx, nil, "cat-file", "-e", string(c)+"^{commit}")
	}
	return err == nil
}

// Archive is the tree of a commit, as zip or tar.gz, below a prefix.
func (r Repository) Archive(ctx context.Context, c controlplane.Commit, format, prefix string) ([]byte, error) {
	if !r.Has(ctx, c) {
		return nil, fmt.Errorf("%w: commit %s", controlplane.ErrNotFound, c)
	}
	return r.Git(ctx, nil, "archive", "--format="+format, "--prefix="+prefix, string(c))
}
