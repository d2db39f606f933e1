package azuredevopstest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Pull is a pull request as it is opened.
type Pull struct {
	Number         int
	Source, Target string   // branches
	Head           string   // commit
	Author         string   // unique name
	Labels         []string // one that begins with - is not active any more
	Fork           bool
}

type pull struct {
	Pull
	status   string   // active, completed, abandoned
	heads    []string // of the iterations
	threads  []*Thread
	statuses []Status
}

// Thread is a discussion on a pull request.
type Thread struct {
	ID         int            `json:"id"`
	Comments   []*Comment     `json:"comments"`
	Properties map[string]any `json:"properties"`
	Status     string         `json:"status,omitempty"`
	IsDeleted  bool           `json:"isDeleted"`
}

// Comment is one in a thread.
type Comment struct {
	ID      int    `json:"id"`
	Parent  int    `json:"parentCommentId"`
	Content string `json:"content"`
	Type    string `json:"commentType"`
	Deleted bool   `json:"isDeleted,omitempty"`
	Author  struct {
		ID   string `json:"id"`
		Name string `json:"uniqueName"`
	} `json:"author"`
	Likes []string `json:"-"`
}

// OpenPull opens a pull request.
func (s *Server) OpenPull(repository string, p Pull) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repos[repository].pulls[p.Number] = &pull{Pull: p, status: "active", heads: []string{p.Head}}
}

// PushPulls gives the open pull requests of a branch a new head.
func (s *Server) PushPulls(repository, branch, head string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.repos[repository].pulls {
		if p.Source == branch && p.status == "active" && !p.Fork && p.Head != head {
			p.Head, p.heads = head, append(p.heads, head)
		}
	}
}

// ClosePull sets the status: completed or abandoned.
func (s *Server) ClosePull(repository string, number int, status string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repos[repository].pulls[number].status = status
}

// AddThread starts a thread as a user; it is the number of the thread, whose
// comment is 1.
func (s *Server) AddThread(repository string, number int, user, content string, properties map[string]string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &Thread{Comments: []*Comment{{Content: content}}, Properties: markdown()}
	for k, v := range properties {
		t.Properties[k] = property(v)
	}
	s.repos[repository].pulls[number].add(t, s.users[user])
	return t.ID
}

// Threads are copies of those on a pull request.
func (s *Server) Threads(repository string, number int) []Thread {
	s.mu.Lock()
	defer s.mu.Unlock()
	var threads []Thread
	for _, t := range s.repos[repository].pulls[number].threads {
		c := *t
		c.Comments = make([]*Comment, len(t.Comments))
		for i, comment := range t.Comments {
			one := *comment
			one.Likes = slices.Clone(comment.Likes)
			c.Comments[i] = &one
		}
		threads = append(threads, c)
	}
	return threads
}

// DeleteThread deletes a thread's comments, as its author can.
func (s *Server) DeleteThread(repository string, number, thread int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.repos[repository].pulls[number].thread(thread)
	t.IsDeleted = true
	for _, c := range t.Comments {
		c.Deleted, c.Content = true, ""
	}
}

// PullStatuses are those of a pull request, oldest first.
func (s *Server) PullStatuses(repository string, number int) []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.repos[repository].pulls[number].statuses)
}

// markdown is what every thread of a person's has.
func markdown() map[string]any {
	return map[string]any{"Microsoft.TeamFoundation.Discussion.SupportsMarkdown": map[string]any{"$type": "System.Int32", "$value": 1}}
}

func (p *pull) add(t *Thread, author *User) {
	t.ID = len(p.threads) + 1
	for i, c := range t.Comments {
		c.ID, c.Author.ID, c.Author.Name = i+1, author.ID, author.Name
		if c.Type == "" {
			c.Type = "text"
		}
	}
	p.threads = append(p.threads, t)
}

func (p *pull) thread(id int) *Thread {
	for _, t := range p.threads {
		if t.ID == id {
			return t
		}
	}
	return nil
}

func (s *Server) pull(h func(http.ResponseWriter, *http.Request, *pull)) http.HandlerFunc {
	return s.repo(func(w http.ResponseWriter, r *http.Request, repo *repository) {
		p := repo.pulls[number(r, "number")]
		if p == nil {
			problem(w, http.StatusNotFound, "GitPullRequestNotFoundException", "TF401180: The requested pull request was not found.")
			return
		}
		h(w, r, p)
	})
}

func (s *Server) show(p *pull) map[string]any {
	out := map[string]any{
		"pullRequestId": p.Number, "status": p.status, "sourceRefName": "refs/heads/" + p.Source, "targetRefName": "refs/heads/" + p.Target,
		"createdBy":             map[string]string{"id": s.users[p.Author].ID, "uniqueName": p.Author, "displayName": s.users[p.Author].Shown},
		"lastMergeSourceCommit": map[string]string{"commitId": p.Head},
	}
	if p.Fork {
		out["forkSource"] = map[string]any{"name": "refs/heads/" + p.Source, "repository": map[string]string{"id": newID(), "name": "fork"}}
	}
	return out
}

func (s *Server) getPull(w http.ResponseWriter, _ *http.Request, p *pull) { answer(w, s.show(p)) }

// listPulls shows a page, newest first.
func (s *Server) listPulls(w http.ResponseWriter, r *http.Request, repo *repository) {
	q := r.URL.Query()
	want := q.Get("searchCriteria.status")
	if want == "" {
		want = "active" // the default of the API
	}
	var numbers []int
	for n, p := range repo.pulls {
		if want == "all" || p.status == want {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	skip, _ := strconv.Atoi(q.Get("$skip"))
	top, _ := strconv.Atoi(q.Get("$top"))
	if top <= 0 || top > s.page {
		top = min(s.page, 101) // the default of the API
	}
	numbers = numbers[min(skip, len(numbers)):]
	var found []map[string]any
	for _, n := range numbers[:min(top, len(numbers))] {
		found = append(found, s.show(repo.pulls[n]))
	}
	list(w, found)
}

func (s *Server) labels(w http.ResponseWriter, _ *http.Request, p *pull) {
	var found []map[string]any
	for _, l := range p.Labels {
		found = append(found, map[string]any{"id": newID(), "name": strings.TrimPrefix(l, "-"), "active": !strings.HasPrefix(l, "-")})
	}
	list(w, found)
}

func (s *Server) iterations(w http.ResponseWriter, _ *http.Request, p *pull) {
	var found []map[string]any
	for i, head := range p.heads {
		found = append(found, map[string]any{"id": i + 1, "sourceRefCommit": map[string]string{"commitId": head}})
	}
	list(w, found)
}

func (s *Server) listThreads(w http.ResponseWriter, _ *http.Request, p *pull) { list(w, p.threads) }

func (s *Server) postThread(w http.ResponseWriter, r *http.Request, p *pull) {
	var in struct {
		Comments []struct {
			Content string `json:"content"`
			Type    any    `json:"commentType"`
		} `json:"comments"`
		Properties map[string]any `json:"properties"`
		Status     string         `json:"status"`
	}
	if !read(w, r, &in) {
		return
	}
	if len(in.Comments) == 0 || in.Comments[0].Content == "" || len(in.Comments[0].Content) > 150_000 {
		problem(w, http.StatusBadRequest, "InvalidArgumentValueException", "A comment has 1 to 150000 characters")
		return
	}
	t := &Thread{Status: in.Status, Properties: markdown()}
	for _, c := range in.Comments {
		t.Comments = append(t.Comments, &Comment{Content: c.Content})
	}
	for k, v := range in.Properties { // a bare string and a typed one are both taken
		switch v := v.(type) {
		case string:
			t.Properties[k] = property(v)
		case map[string]any:
			text, _ := v["$value"].(string)
			t.Properties[k] = property(text)
		}
	}
	user, _ := s.caller(r)
	p.add(t, user)
	answer(w, t)
}

func (s *Server) patchComment(w http.ResponseWriter, r *http.Request, p *pull) {
	c := p.comment(r)
	var in struct {
		Content string `json:"content"`
	}
	switch user, _ := s.caller(r); {
	case c == nil || c.Deleted:
		problem(w, http.StatusNotFound, "CommentNotFoundException", "The comment was not found")
	case c.Author.ID != user.ID:
		problem(w, http.StatusForbidden, "CommentCannotBeUpdatedException", "A comment is changed by its author alone")
	case read(w, r, &in):
		c.Content = in.Content
		answer(w, c)
	}
}

func (s *Server) like(w http.ResponseWriter, r *http.Request, p *pull) {
	c := p.comment(r)
	if c == nil || c.Deleted {
		problem(w, http.StatusNotFound, "CommentNotFoundException", "The comment was not found")
		return
	}
	if user, _ := s.caller(r); !slices.Contains(c.Likes, user.Name) {
		c.Likes = append(c.Likes, user.Name)
	}
	w.WriteHeader(http.StatusOK)
}

func (p *pull) comment(r *http.Request) *Comment {
	if t := p.thread(number(r, "thread")); t != nil {
		for _, c := range t.Comments {
			if c.ID == number(r, "comment") {
				return c
			}
		}
	}
	return nil
}

func (s *Server) postPullStatus(w http.ResponseWriter, r *http.Request, p *pull) {
	status, ok := readStatus(w, r)
	if !ok {
		return
	}
	if status.Iteration > len(p.heads) {
		problem(w, http.StatusBadRequest, "InvalidArgumentValueException", "There is no such iteration")
		return
	}
	p.statuses = append(p.statuses, status)
	answer(w, status)
}

func read(w http.ResponseWriter, r *http.Request, v any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<20)).Decode(v); err != nil {
		problem(w, http.StatusBadRequest, "", "malformed JSON")
		return false
	}
	return true
}
