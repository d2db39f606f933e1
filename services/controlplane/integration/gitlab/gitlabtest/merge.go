package gitlabtest

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
)

// MergeRequest is one as it is opened.
type MergeRequest struct {
	Number         int
	Source, Target string // branches
	Head           string // commit
	Author         string
	Labels         []string
	Fork           bool
}

type mergeRequest struct {
	MergeRequest
	project int
	fork    int
	state   string
	notes   []*Note
}

// Note is a comment on a merge request.
type Note struct {
	ID     int
	Author string
	Body   string
	System bool
	Awards []string // who gave eyes
}

// OpenMerge opens a merge request.
func (s *Server) OpenMerge(project string, m MergeRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.projects[project]
	p.merges[m.Number] = &mergeRequest{MergeRequest: m, project: p.id, fork: s.next(), state: "opened"}
}

// PushMerges gives the open merge requests of a branch a new head.
func (s *Server) PushMerges(project, branch, head string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.projects[project].merges {
		if m.Source == branch && m.state == "opened" && !m.Fork {
			m.Head = head
		}
	}
}

// CloseMerge sets the state: closed or merged.
func (s *Server) CloseMerge(project string, number int, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.projects[project].merges[number].state = state
}

// DeleteFork removes the project that a merge request comes from.
func (s *Server) DeleteFork(project string, number int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.projects[project].merges[number].fork = 0
}

// AddNote writes a note as a user, or as GitLab itself. It is the note's id.
func (s *Server) AddNote(project string, number int, user, body string, system bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := &Note{ID: s.next(), Author: user, Body: body, System: system}
	m := s.projects[project].merges[number]
	m.notes = append(m.notes, n)
	return n.ID
}

// Notes are copies of those on a merge request, the oldest first.
func (s *Server) Notes(project string, number int) []Note {
	s.mu.Lock()
	defer s.mu.Unlock()
	var notes []Note
	for _, n := range s.projects[project].merges[number].notes {
		c := *n
		c.Awards = slices.Clone(n.Awards)
		notes = append(notes, c)
	}
	return notes
}

func (s *Server) merge(h func(http.ResponseWriter, *http.Request, *mergeRequest)) http.HandlerFunc {
	return s.in(func(w http.ResponseWriter, r *http.Request, p *project) {
		number, _ := strconv.Atoi(r.PathValue("number")) // zero is nobody's
		m := p.merges[number]
		if m == nil {
			refuse(w, http.StatusNotFound, "404 Not found")
			return
		}
		h(w, r, m)
	})
}

func (s *Server) getMerge(w http.ResponseWriter, _ *http.Request, m *mergeRequest) {
	out := map[string]any{
		"iid": m.Number, "sha": m.Head, "source_branch": m.Source, "target_branch": m.Target, "state": m.state, "labels": m.Labels,
		"author": s.users[m.Author].show(), "target_project_id": m.project, "source_project_id": m.project,
	}
	switch {
	case m.Fork && m.fork == 0:
		out["source_project_id"] = nil
	case m.Fork:
		out["source_project_id"] = m.fork
	}
	answer(w, http.StatusOK, out)
}

func (s *Server) show(n *Note) map[string]any {
	return map[string]any{"id": n.ID, "body": n.Body, "system": n.System, "author": s.users[n.Author].show()}
}

// listNotes shows the newest first unless it is told otherwise.
func (s *Server) listNotes(w http.ResponseWriter, r *http.Request, m *mergeRequest) {
	notes := []map[string]any{}
	for _, n := range m.notes {
		notes = append(notes, s.show(n))
	}
	if r.FormValue("sort") != "asc" {
		slices.Reverse(notes)
	}
	page(w, r, notes)
}

var quickAction = regexp.MustCompile(`(?m)^[ \t]*/([a-z_]+).*\n?`)

// act carries out quick actions, and takes them out of the text.
func (s *Server) act(body string) string {
	for _, found := range quickAction.FindAllStringSubmatch(body, -1) {
		s.actions = append(s.actions, found[1])
	}
	return quickAction.ReplaceAllString(body, "")
}

func (s *Server) note(w http.ResponseWriter, r *http.Request) (string, bool) {
	var in struct {
		Body string `json:"body"`
	}
	if !read(w, r, &in) {
		return "", false
	}
	if in.Body == "" || len([]rune(in.Body)) > 1_000_000 {
		answer(w, http.StatusBadRequest, map[string]any{"message": map[string][]string{"note": {"is too long (maximum is 1000000 characters)"}}})
		return "", false
	}
	return s.act(in.Body), true
}

func (s *Server) postNote(w http.ResponseWriter, r *http.Request, m *mergeRequest) {
	if body, ok := s.note(w, r); ok {
		n := &Note{ID: s.next(), Author: s.caller(r).Name, Body: body}
		m.notes = append(m.notes, n)
		answer(w, http.StatusCreated, s.show(n))
	}
}

func (m *mergeRequest) find(r *http.Request) *Note {
	for _, n := range m.notes {
		if strconv.Itoa(n.ID) == r.PathValue("note") {
			return n
		}
	}
	return nil
}

func (s *Server) putNote(w http.ResponseWriter, r *http.Request, m *mergeRequest) {
	n := m.find(r)
	switch {
	case n == nil:
		refuse(w, http.StatusNotFound, "404 Note Not Found")
	case n.Author != s.caller(r).Name:
		refuse(w, http.StatusForbidden, "403 Forbidden")
	default:
		if body, ok := s.note(w, r); ok {
			n.Body = body
			answer(w, http.StatusOK, s.show(n))
		}
	}
}

func (s *Server) award(w http.ResponseWriter, r *http.Request, m *mergeRequest) {
	n := m.find(r)
	switch caller := s.caller(r).Name; {
	case n == nil:
		refuse(w, http.StatusNotFound, "404 Note Not Found")
	case r.FormValue("name") != "eyes":
		refuse(w, http.StatusNotFound, "404 Award Emoji Name is not a valid emoji name Not Found")
	case slices.Contains(n.Awards, caller):
		refuse(w, http.StatusNotFound, "404 Award Emoji Name has already been taken Not Found")
	default:
		n.Awards = append(n.Awards, caller)
		answer(w, http.StatusCreated, map[string]any{"id": s.next(), "name": "eyes"})
	}
}
