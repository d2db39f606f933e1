package githubtest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"skep/services/controlplane"
)

// git runs Git on bare repositories in a folder, without the configuration of
// whoever runs it.
type git struct{ folder string }

func (g git) run(ctx context.Context, repository string, stdin []byte, args ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, "git", append([]string{"--git-dir", g.path(repository)}, args...)...)
	command.Dir = g.folder
	command.Env = append(command.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "HOME="+g.folder, "LC_ALL=C")
	command.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("git %s: %w: %s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

func (g git) path(repository string) string {
	return filepath.Join(g.folder, filepath.FromSlash(repository)+".git")
}

func (g git) init(ctx context.Context, repository string) error {
	if err := os.MkdirAll(filepath.Dir(g.path(repository)), 0o700); err != nil {
		return err
	}
	_, err := g.run(ctx, repository, nil, "init", "--quiet", "--bare", "--initial-branch", defaultBranch)
	return err
}

// fetch takes over a branch of another repository here as a ref.
func (g git) fetch(ctx context.Context, into, from, branch, ref string) error {
	_, err := g.run(ctx, into, nil, "fetch", "--quiet", "--no-tags", g.path(from), "+refs/heads/"+branch+":"+ref)
	return err
}

// heads are the commits of all branches.
func (g git) heads(ctx context.Context, repository string) (map[controlplane.Branch]controlplane.Commit, error) {
	out, err := g.run(ctx, repository, nil, "for-each-ref", "--format=%(objectname) %(refname)", "refs/heads")
	if err != nil {
		return nil, err
	}
	heads := map[controlplane.Branch]controlplane.Commit{}
	for line := range strings.Lines(string(out)) {
		commit, ref, _ := strings.Cut(strings.TrimSpace(line), " ")
		heads[controlplane.Branch(strings.TrimPrefix(ref, "refs/heads/"))] = controlplane.Commit(commit)
	}
	return heads, nil
}

// File is one to commit.
type File struct {
	Content string
	Mode    string // 100644 if empty; 100755, 120000 for a symbolic link
	Remove  bool
}

// commit adds one to a branch. A branch that is new starts at from, unless that
// is empty.
func (g git) commit(ctx context.Context, repository string, b controlplane.Branch, from controlplane.Commit, author, message string, at time.Time, files map[string]File) error {
	var in bytes.Buffer
	data := func(content string) { fmt.Fprintf(&in, "data %d\n%s\n", len(content), content) }
	fmt.Fprintf(&in, "commit refs/heads/%s\ncommitter %s <%[2]s@users.noreply.example.com> %d +0000\n", b, author, at.Unix())
	data(message)
	if from != "" {
		fmt.Fprintf(&in, "from %s\n", from)
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		f := files[path]
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
	_, err := g.run(ctx, repository, in.Bytes(), "fast-import", "--quiet", "--done", "--force")
	return err
}

// quote is for fast-import, which does not undo all of Go's escapes.
func quote(path string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(path) + `"`
}

// archive is the tree of a commit, as a gzipped tar below a folder.
func (g git) archive(ctx context.Context, repository string, c controlplane.Commit, folder string) ([]byte, error) {
	return g.run(ctx, repository, nil, "archive", "--format=tar.gz", "--prefix="+folder+"/", string(c))
}

// has says whether an object is a commit of the repository's.
func (g git) has(ctx context.Context, repository string, c controlplane.Commit) bool {
	_, err := g.run(ctx, repository, nil, "cat-file", "-e", string(c)+"^{commit}")
	return err == nil
}

// tree is the object of a commit's tree.
func (g git) tree(ctx context.Context, repository string, c controlplane.Commit) (string, error) {
	out, err := g.run(ctx, repository, nil, "rev-parse", string(c)+"^{tree}")
	return strings.TrimSpace(string(out)), err
}

// changed are the files that a commit added, removed and modified, and what it says.
func (g git) changed(ctx context.Context, repository string, c controlplane.Commit) (message string, added, removed, modified []string, err error) {
	out, err := g.run(ctx, repository, nil, "show", "--no-renames", "--name-status", "--format=%s", "-z", "--first-parent", string(c))
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
