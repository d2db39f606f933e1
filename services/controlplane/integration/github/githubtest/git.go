package githubtest

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"skep/services/controlplane"
	"skep/services/controlplane/integration/gittest"
)

// git is the bare repositories in a folder.
type git struct{ folder string }

func (g git) run(ctx context.Context, repository string, args ...string) ([]byte, error) {
	return g.repository(repository).Git(ctx, nil, args...)
}

func (g git) repository(name string) gittest.Repository { return gittest.Repository{Dir: g.path(name)} }

func (g git) path(repository string) string {
	return filepath.Join(g.folder, filepath.FromSlash(repository)+".git")
}

func (g git) init(ctx context.Context, repository string) error {
	if err := os.MkdirAll(g.path(repository), 0o700); err != nil {
		return err
	}
	_, err := gittest.Init(ctx, g.path(repository))
	return err
}

// fetch takes over a branch of another repository here as a ref.
func (g git) fetch(ctx context.Context, into, from, branch, ref string) error {
	_, err := g.run(ctx, into, "fetch", "--quiet", "--no-tags", g.path(from), "+refs/heads/"+branch+":"+ref)
	return err
}

// File is one to commit.
type File = gittest.File

// tree is the object of a commit's tree.
func (g git) tree(ctx context.Context, repository string, c controlplane.Commit) (string, error) {
	out, err := g.run(ctx, repository, "rev-parse", string(c)+"^{tree}")
	return strings.TrimSpace(string(out)), err
}

// changed are the files that a commit added, removed and modified, and what it says.
func (g git) changed(ctx context.Context, repository string, c controlplane.Commit) (message string, added, removed, modified []string, err error) {
	out, err := g.run(ctx, repository, "show", "--no-renames", "--name-status", "--format=%s", "-z", "--first-parent", string(c))
	if err != nil {
		return "", nil, nil, nil, err
	}
	message, rest, _ := strings.Cut(string(out), "\x00")
	added, removed, modified = []string{}, []string{}, []string{}
	words := strings.Split(strings.Trim(rest, "\n\x00"), "\x00")
	for i := 0; i+1 < len(words); i += 2 {
		switch strings.TrimSpace(words[i]) {
		case "A":
			added = append(added, words[i+1])
		case "D":
			removed = append(removed, words[i+1])
		default:
			modified = append(modified, words[i+1])
		}
	}
	return strings.TrimSpace(message), added, removed, modified, nil
}
