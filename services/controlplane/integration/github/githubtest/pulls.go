package githubtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"skep/services/controlplane"
)

type pull struct {
	number   int64
	id       int64
	title    string
	author   string
	base     controlplane.Branch
	head     controlplane.Branch
	headRepo controlplane.Repository
	sha      controlplane.Commit
	labels   []string
	open     bool
	created  time.Time
	closed   time.Time
	comments []*comment
}

type comment struct {
	id        int64
	author    string
	app       bool
	body      string
	created   time.Time
	updated   time.Time
	reactions []reaction
}

type reaction struct {
	id      int64
	login   string
	content string
}

// PullRequest is one to open. Head exists, unless Fork is set: then it is made
// of main in a repository of the author's, with a commit of its own.
type PullRequest struct {
	Title  string
	Head   controlplane.Branch
	Base   controlplane.Branch
	Author string
	Labels []string
	Fork   bool
}

// OpenPullRequest opens one and delivers it.
func (s *Server) OpenPullRequest(ctx context.Context, name controlplane.Repository, in PullRequest) (int, error) {
	fork := name
	if in.Fork {
		var err error
		if fork, err = s.fork(ctx, name, in); err != nil {
			return 0, err
		}
	}
	s.mu.Lock()
	p, posts, err := s.open(ctx, name, fork, in)
	s.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return int(p.number), s.deliver(ctx, posts)
}

// fork makes a repository of the author's with a commit that the original does
// not have.
func (s *Server) fork(ctx context.Context, name controlplane.Repository, in PullRequest) (controlplane.Repository, error) {
	_, short, _ := strings.Cut(string(name), "/")
	fork := controlplane.Repository(in.Author + "/" + short)
	s.mu.Lock()
	err := func() error {
		if s.repositories[fork] != nil {
			return nil
		}
		if _, err := s.create(ctx, fork, name); err != nil {
			return err
		}
		return s.git.fetch(ctx, string(fork), string(name), string(in.Base), "refs/heads/"+string(in.Head))
	}()
	s.mu.Unlock()
	if err != nil {
		return "", err
	}
	if err := s.Sync(ctx, fork, in.Author); err != nil {
		return "", err
	}
	_, err = s.Push(ctx, fork, in.Head, in.Author, map[string]File{"FORK": {Content: "a change of " + in.Author + "\n"}})
	return fork, err
}

func (s *Server) open(ctx context.Context, name, headRepo controlplane.Repository, in PullRequest) (*pull, []*Delivery, error) {
	r, err := s.find(name)
	if err != nil {
		return nil, nil, err
	}
	from, err := s.find(headRepo)
	if err != nil {
		return nil, nil, err
	}
	if from.heads[in.Head] == "" || r.heads[in.Base] == "" {
		return nil, nil, fmt.Errorf("branch %s or %s: %w", in.Head, in.Base, controlplane.ErrNotFound)
	}
	for _, p := range r.pulls {
		if p.open && p.headRepo == headRepo && p.head == in.Head && p.base == in.Base {
			return nil, nil, fmt.Errorf("a pull request already exists for %s:%s: %w", from.owner(), in.Head, controlplane.ErrConflict)
		}
	}
	r.numbers++
	p := &pull{
		number: r.numbers, id: s.id(), title: in.Title, author: in.Author, base: in.Base, head: in.Head, headRepo: headRepo,
		labels: slices.Clone(in.Labels), open: true, created: s.now(),
	}
	if p.title == "" {
		p.title = "Merge " + string(in.Head)
	}
	s.user(in.Author)
	if err := s.follow(ctx, r, from, p); err != nil {
		return nil, nil, err
	}
	r.pulls[p.number] = p
	posts, err := s.pullEvent(r, p, "opened", in.Author, nil)
	return p, posts, err
}

// follow takes over the head, which is then a commit of the base's repository too.
func (s *Server) follow(ctx context.Context, r, from *repository, p *pull) error {
	p.sha = from.heads[p.head]
	return s.git.fetch(ctx, string(r.name), string(from.name), string(p.head), fmt.Sprintf("refs/pull/%d/head", p.number))
}

// movePulls tells of new commits on the heads of pull requests.
func (s *Server) movePulls(ctx context.Context, from *repository, b controlplane.Branch, author string) ([]*Delivery, error) {
	var posts []*Delivery
	for _, name := range slices.Sorted(maps.Keys(s.repositories)) {
		r := s.repositories[name]
		for _, number := range slices.Sorted(maps.Keys(r.pulls)) {
			p := r.pulls[number]
			if !p.open || p.headRepo != from.name || p.head != b || from.heads[b] == "" {
				continue
			}
			before := p.sha
			if err := s.follow(ctx, r, from, p); err != nil {
				return posts, err
			}
			post, err := s.pullEvent(r, p, "synchronize", author, object{"before": before, "after": p.sha})
			if err != nil {
				return posts, err
			}
			posts = append(posts, post...)
		}
	}
	return posts, nil
}

// change does something to a pull request and delivers an event about it.
func (s *Server) change(ctx context.Context, name controlplane.Repository, number int, do func(*repository, *pull) ([]*Delivery, error)) error {
	s.mu.Lock()
	r, err := s.find(name)
	var posts []*Delivery
	if err == nil {
		if p := r.pulls[int64(number)]; p != nil {
			posts, err = do(r, p)
		} else {
			err = fmt.Errorf("pull request %d: %w", number, controlplane.ErrNotFound)
		}
	}
	s.mu.Unlock()
	return errors.Join(err, s.deliver(ctx, posts))
}

// ClosePullRequest closes one without merging it, in a user's name.
func (s *Server) ClosePullRequest(ctx context.Context, name controlplane.Repository, number int, login string) error {
	return s.change(ctx, name, number, func(r *repository, p *pull) ([]*Delivery, error) {
		p.open, p.closed = false, s.now()
		return s.pullEvent(r, p, "closed", login, nil)
	})
}

// ReopenPullRequest opens a closed one.
func (s *Server) ReopenPullRequest(ctx context.Context, name controlplane.Repository, number int, login string) error {
	return s.change(ctx, name, number, func(r *repository, p *pull) ([]*Delivery, error) {
		p.open, p.closed = true, time.Time{}
		return s.pullEvent(r, p, "reopened", login, nil)
	})
}

// Label adds a label.
func (s *Server) Label(ctx context.Context, name controlplane.Repository, number int, login, label string) error {
	return s.change(ctx, name, number, func(r *repository, p *pull) ([]*Delivery, error) {
		p.labels = append(p.labels, label)
		return s.pullEvent(r, p, "labeled", login, object{"label": s.labelObject(r, label)})
	})
}

// Comment is a user's comment on a pull request.
func (s *Server) Comment(ctx context.Context, name controlplane.Repository, number int, login, body string) (id int64, err error) {
	err = s.change(ctx, name, number, func(r *repository, p *pull) ([]*Delivery, error) {
		s.user(login)
		c := &comment{id: s.id(), author: login, body: body, created: s.now(), updated: s.now()}
		p.comments, id = append(p.comments, c), c.id
		return s.commentEvent(r, p, c, login)
	})
	return id, err
}

// Said is a comment as the page of a pull request shows it.
type Said struct {
	ID     int64
	Author string
	Body   string
	Eyes   []string // logins of those who reacted with eyes
}

// Comments are all on a pull request, the oldest first.
func (s *Server) Comments(name controlplane.Repository, number int) []Said {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.repositories[name]
	if r == nil || r.pulls[int64(number)] == nil {
		return nil
	}
	var said []Said
	for _, c := range r.pulls[int64(number)].comments {
		one := Said{ID: c.id, Author: c.author, Body: c.body}
		for _, reaction := range c.reactions {
			if reaction.content == "eyes" {
				one.Eyes = append(one.Eyes, reaction.login)
			}
		}
		said = append(said, one)
	}
	return said
}

func (s *Server) getPull(c *call) answer {
	p := c.repo.pulls[c.number("number")]
	if p == nil {
		return missing()
	}
	return ok(s.pullObject(c.repo, p))
}

func (s *Server) listComments(c *call) answer {
	p := c.repo.pulls[c.number("number")]
	if p == nil {
		return missing()
	}
	return paged(s, c, p.comments, func(page []*comment) any {
		out := make([]object, len(page))
		for i, one := range page {
			out[i] = s.commentObject(c.repo, p, one)
		}
		return out
	})
}

// maxComment is in characters.
const maxComment = 65536

func (s *Server) createComment(c *call) answer {
	p := c.repo.pulls[c.number("number")]
	if p == nil {
		return missing()
	}
	body, a, fine := commentBody(c)
	if !fine {
		return a
	}
	one := &comment{id: s.id(), author: c.who.login, app: c.who.token != nil, body: body, created: s.now(), updated: s.now()}
	s.user(c.who.login)
	p.comments = append(p.comments, one)
	return created(s.commentObject(c.repo, p, one))
}

func commentBody(c *call) (string, answer, bool) {
	var in struct {
		Body string `json:"body"`
	}
	if a, fine := c.decode(&in); !fine {
		return "", a, false
	}
	switch {
	case in.Body == "":
		return "", invalid("IssueComment", "body", "Body cannot be blank"), false
	case utf8.RuneCountInString(in.Body) > maxComment:
		return "", invalid("IssueComment", "body", "Body is too long (maximum is 65536 characters)"), false
	}
	return in.Body, answer{}, true
}

// comment finds the one that a path names.
func (s *Server) comment(c *call) (*pull, *comment) {
	for _, p := range c.repo.pulls {
		for _, one := range p.comments {
			if one.id == c.number("id") {
				return p, one
			}
		}
	}
	return nil, nil
}

// mayEdit is whether a comment is the caller's: with write access one may edit
// others' too, but an installation may not.
func (c *call) mayEdit(one *comment) bool {
	return one.author == c.who.login || c.who.token == nil && slices.Contains([]string{"admin", "maintain", "write"}, c.repo.roles[c.who.login])
}

func (s *Server) updateComment(c *call) answer {
	p, one := s.comment(c)
	if one == nil {
		return missing()
	}
	if !c.mayEdit(one) {
		return problem(http.StatusForbidden, "Resource not accessible by integration")
	}
	body, a, fine := commentBody(c)
	if !fine {
		return a
	}
	one.body, one.updated = body, s.now()
	return ok(s.commentObject(c.repo, p, one))
}

func (s *Server) deleteComment(c *call) answer {
	p, one := s.comment(c)
	if one == nil {
		return missing()
	}
	if !c.mayEdit(one) {
		return problem(http.StatusForbidden, "Resource not accessible by integration")
	}
	p.comments = slices.DeleteFunc(p.comments, func(other *comment) bool { return other == one })
	return answer{status: http.StatusNoContent}
}

func (s *Server) createReaction(c *call) answer {
	_, one := s.comment(c)
	if one == nil {
		return missing()
	}
	var in struct {
		Content string `json:"content"`
	}
	if a, fine := c.decode(&in); !fine {
		return a
	}
	if !slices.Contains([]string{"+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes"}, in.Content) {
		return invalid("Reaction", "content", in.Content+" is not included in the list")
	}
	shape := func(r reaction) object {
		return object{"id": r.id, "node_id": nodeID("REA", r.id), "user": s.userObject(r.login), "content": r.content, "created_at": stamp(s.now())}
	}
	for _, r := range one.reactions {
		if r.login == c.who.login && r.content == in.Content {
			return ok(shape(r))
		}
	}
	s.user(c.who.login)
	r := reaction{id: s.id(), login: c.who.login, content: in.Content}
	one.reactions = append(one.reactions, r)
	return created(shape(r))
}
