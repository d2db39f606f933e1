package githubtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"skep/services/controlplane"
	"skep/services/controlplane/integration/gittest"
)

const defaultBranch = "main"

// none is the commit of a branch that is not there.
const none = "0000000000000000000000000000000000000000"

type repository struct {
	id       int64
	name     controlplane.Repository
	forkOf   controlplane.Repository
	hidden   bool // from the credentials
	heads    map[controlplane.Branch]controlplane.Commit
	roles    map[string]string // by login: admin, maintain, write, triage, read
	archives map[controlplane.Commit][]byte
	links    map[string]controlplane.Commit // to archives, by their token
	pulls    map[int64]*pull
	numbers  int64
	statuses []*status
	checks   []*checkRun
	deploys  []*deployment
}

func (r *repository) owner() string { owner, _, _ := strings.Cut(string(r.name), "/"); return owner }
func (r *repository) short() string { _, short, _ := strings.Cut(string(r.name), "/"); return short }

// CreateRepository makes an empty one, owner/name in lower case.
func (s *Server) CreateRepository(ctx context.Context, name controlplane.Repository) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.create(ctx, name, "")
	return err
}

func (s *Server) create(ctx context.Context, name, forkOf controlplane.Repository) (*repository, error) {
	if s.repositories[name] != nil {
		return nil, fmt.Errorf("repository %s: %w", name, controlplane.ErrConflict)
	}
	if err := s.git.init(ctx, string(name)); err != nil {
		return nil, err
	}
	r := &repository{
		id: s.id(), name: name, forkOf: forkOf, heads: map[controlplane.Branch]controlplane.Commit{}, roles: map[string]string{},
		archives: map[controlplane.Commit][]byte{}, links: map[string]controlplane.Commit{}, pulls: map[int64]*pull{},
	}
	s.user(r.owner())
	r.roles[r.owner()] = "admin"
	if u := s.options.User; u != nil && forkOf == "" {
		s.user(u.Login)
		r.roles[u.Login] = "admin"
	}
	s.repositories[name] = r
	return r, nil
}

// Path is the folder of a repository, for Git itself. What is pushed there shows
// after Sync.
func (s *Server) Path(name controlplane.Repository) string { return s.git.path(string(name)) }

// Hide takes a repository from the App's installation and the user's reach.
func (s *Server) Hide(name controlplane.Repository) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.find(name)
	if err != nil {
		return err
	}
	r.hidden = true
	return nil
}

func (s *Server) find(name controlplane.Repository) (*repository, error) {
	if r := s.repositories[name]; r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("repository %s: %w", name, controlplane.ErrNotFound)
}

// Grant gives a login a role: admin, maintain, write, triage, read, or none.
func (s *Server) Grant(name controlplane.Repository, login, role string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.find(name)
	if err != nil {
		return err
	}
	s.user(login)
	r.roles[login] = role
	return nil
}

// Push commits files to a branch, as a user, and delivers what GitHub would. A
// branch that is new starts at main.
func (s *Server) Push(ctx context.Context, name controlplane.Repository, b controlplane.Branch, author string, files map[string]File) (controlplane.Commit, error) {
	s.mu.Lock()
	r, err := s.find(name)
	if err == nil {
		from := r.heads[b]
		if from == "" {
			from = r.heads[defaultBranch]
		}
		err = s.git.repository(string(name)).Commit(ctx, b, gittest.Commit{
			From: from, Author: author, Message: "Change " + strings.Join(slices.Sorted(maps.Keys(files)), ", "), At: s.now(), Files: files,
		})
	}
	s.mu.Unlock()
	if err != nil {
		return "", err
	}
	if err := s.Sync(ctx, name, author); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.heads[b], nil
}

// Sync looks at what was pushed to a repository's folder by Git itself, and
// delivers a push for each branch, in a user's name.
func (s *Server) Sync(ctx context.Context, name controlplane.Repository, author string) error {
	s.mu.Lock()
	posts, err := s.sync(ctx, name, author)
	s.mu.Unlock()
	return errors.Join(err, s.deliver(ctx, posts))
}

func (s *Server) sync(ctx context.Context, name controlplane.Repository, author string) ([]*Delivery, error) {
	r, err := s.find(name)
	if err != nil {
		return nil, err
	}
	heads, err := s.git.repository(string(name)).Heads(ctx)
	if err != nil {
		return nil, err
	}
	before := r.heads
	r.heads = heads
	all := maps.Clone(before)
	maps.Copy(all, heads)
	var posts []*Delivery
	for _, b := range slices.Sorted(maps.Keys(all)) {
		if before[b] == heads[b] {
			continue
		}
		post, err := s.pushed(ctx, r, b, before[b], heads[b], author)
		if err != nil {
			return posts, err
		}
		posts = append(posts, post...)
		moved, err := s.movePulls(ctx, r, b, author)
		if err != nil {
			return posts, err
		}
		posts = append(posts, moved...)
	}
	return posts, nil
}

// ReplaceArchive sets what the archive of a commit is.
func (s *Server) ReplaceArchive(name controlplane.Repository, c controlplane.Commit, content []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.find(name)
	if err != nil {
		return err
	}
	r.archives[c] = content
	return nil
}

func (s *Server) getRepository(c *call) answer { return ok(s.repositoryObject(c.repo)) }

func (s *Server) getRef(c *call) answer {
	b, isHead := strings.CutPrefix(c.PathValue("ref"), "heads/")
	commit := c.repo.heads[controlplane.Branch(b)]
	if !isHead || commit == "" {
		return missing()
	}
	return ok(object{
		"ref": "refs/heads/" + b, "node_id": nodeID("REF", c.repo.id), "url": s.repoURL(c.repo) + "/git/refs/heads/" + b,
		"object": object{"type": "commit", "sha": commit, "url": s.repoURL(c.repo) + "/git/commits/" + string(commit)},
	})
}

// getTarball sends to codeload with a link that is good once.
func (s *Server) getTarball(c *call) answer {
	commit := controlplane.Commit(c.PathValue("ref"))
	if head := c.repo.heads[controlplane.Branch(commit)]; head != "" {
		commit = head
	}
	if _, err := controlplane.ParseCommit(string(commit)); err != nil || !s.git.repository(string(c.repo.name)).Has(c.Context(), commit) {
		return missing()
	}
	link := rand.Text()
	c.repo.links[link] = commit
	return answer{status: http.StatusFound, header: map[string]string{
		"Location": s.archive + string(c.repo.name) + "/legacy.tar.gz/" + string(commit) + "?token=" + link,
	}}
}

// serveArchive is codeload.github.com: the link is all the authority.
func (s *Server) serveArchive(w http.ResponseWriter, r *http.Request) {
	content, status := s.archiveOf(r)
	if content == nil {
		http.Error(w, "404: Not Found", status)
		return
	}
	w.Header().Set("Content-Type", "application/x-gzip")
	_, _ = w.Write(content) // whoever went away needs no archive
}

func (s *Server) archiveOf(r *http.Request) ([]byte, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := r.Header.Get("Authorization"); a != "" {
		s.strangers = append(s.strangers, a)
		return nil, http.StatusBadRequest
	}
	name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/legacy.tar.gz/")
	repo := s.repositories[controlplane.Repository(name)]
	link := r.FormValue("token")
	if repo == nil || repo.links[link] == "" || string(repo.links[link]) != rest {
		return nil, http.StatusNotFound
	}
	commit := repo.links[link]
	delete(repo.links, link)
	if replaced := repo.archives[commit]; replaced != nil {
		return replaced, http.StatusOK
	}
	content, err := s.git.repository(name).Archive(r.Context(), commit, "tar.gz", strings.ReplaceAll(name, "/", "-")+"-"+string(commit[:7])+"/")
	if err != nil {
		return nil, http.StatusInternalServerError
	}
	return content, http.StatusOK
}

// getPermission folds GitHub's five roles into its older four words.
func (s *Server) getPermission(c *call) answer {
	login := c.PathValue("login")
	if s.users[login] == 0 {
		return problem(http.StatusNotFound, "%s is not a user", login)
	}
	role := c.repo.roles[login]
	if role == "" {
		role = "none"
	}
	permission := role
	switch role {
	case "maintain":
		permission = "write"
	case "triage":
		permission = "read"
	}
	return ok(object{"permission": permission, "role_name": role, "user": s.userObject(login)})
}
