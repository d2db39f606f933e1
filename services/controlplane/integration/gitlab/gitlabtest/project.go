package gitlabtest

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"skep/services/controlplane"
	"skep/services/controlplane/integration/gittest"
)

type project struct {
	id       int
	git      gittest.Repository
	members  map[string]Member
	merges   map[int]*mergeRequest
	statuses map[string][]*Status // by commit, oldest first
	replaced map[string][]byte    // archives, by commit
}

// Status is one of a commit.
type Status struct {
	ID          int    `json:"id"`
	Name        string `json:"name"`
	State       string `json:"status"`
	Description string `json:"description"`
	URL         string `json:"target_url"`
}

// ReplaceArchive sets what the archive of a commit is.
func (s *Server) ReplaceArchive(project, commit string, content []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.projects[project].replaced[commit] = content
}

// Statuses are those of a commit, the newest of each name, in order of their
// names.
func (s *Server) Statuses(project, commit string) []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.projects[project].latest(commit)
}

func (p *project) latest(commit string) []Status {
	newest := map[string]Status{}
	for _, s := range p.statuses[commit] {
		newest[s.Name] = *s
	}
	var list []Status
	for _, name := range slices.Sorted(maps.Keys(newest)) {
		list = append(list, newest[name])
	}
	return list
}

// in finds the project of a request. Handlers within it hold the lock.
func (s *Server) in(h func(http.ResponseWriter, *http.Request, *project)) http.HandlerFunc {
	return s.locked(func(w http.ResponseWriter, r *http.Request) {
		p := s.projects[r.PathValue("project")]
		if p == nil || p.members[s.caller(r).Name].Access == 0 {
			refuse(w, http.StatusNotFound, "404 Project Not Found")
			return
		}
		h(w, r, p)
	})
}

func (s *Server) getProject(w http.ResponseWriter, r *http.Request, p *project) {
	answer(w, http.StatusOK, map[string]any{"id": p.id, "path_with_namespace": r.PathValue("project"), "default_branch": "main"})
}

func (s *Server) getMember(w http.ResponseWriter, r *http.Request, p *project) {
	for _, name := range slices.Sorted(maps.Keys(p.members)) {
		m, u := p.members[name], s.users[name]
		if m.Access == 0 || strconv.Itoa(u.id) != r.PathValue("user") {
			continue
		}
		out := u.show()
		out["access_level"], out["membership_state"], out["expires_at"] = m.Access, "active", nil
		if m.State != "" {
			out["state"] = m.State
		}
		if m.Membership != "" {
			out["membership_state"] = m.Membership
		}
		if m.Expires != "" {
			out["expires_at"] = m.Expires
		}
		answer(w, http.StatusOK, out)
		return
	}
	refuse(w, http.StatusNotFound, "404 Not found")
}

func (s *Server) archive(w http.ResponseWriter, r *http.Request, p *project) {
	commit := r.FormValue("sha")
	content, ok := p.replaced[commit]
	if !ok {
		name := strings.ReplaceAll(r.PathValue("project"), "/", "-")
		var err error
		if content, err = p.git.Archive(r.Context(), controlplane.Commit(commit), "tar.gz", name+"-"+commit+"-"+commit+"/"); err != nil {
			refuse(w, http.StatusNotFound, "404 File Not Found")
			return
		}
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(content) // the client is gone
}

func (s *Server) branch(w http.ResponseWriter, r *http.Request, p *project) {
	head, err := p.git.Head(r.Context(), controlplane.Branch(r.PathValue("branch")))
	if err != nil {
		refuse(w, http.StatusNotFound, "404 Branch Not Found")
		return
	}
	answer(w, http.StatusOK, map[string]any{"name": r.PathValue("branch"), "commit": map[string]any{"id": head}})
}

func (s *Server) listStatuses(w http.ResponseWriter, r *http.Request, p *project) {
	var found []Status
	for _, status := range p.latest(r.PathValue("commit")) {
		if name := r.FormValue("name"); name == "" || name == status.Name {
			found = append(found, status)
		}
	}
	page(w, r, found)
}

// actives are the states of a status that a further one goes on from; any other
// starts anew.
var actives = []string{"pending", "running"}

// postStatus has GitLab's state machine: what is pending cannot become pending.
func (s *Server) postStatus(w http.ResponseWriter, r *http.Request, p *project) {
	var in struct {
		Name        string `json:"name"`
		State       string `json:"state"`
		Description string `json:"description"`
		URL         string `json:"target_url"`
	}
	commit := r.PathValue("commit")
	if !read(w, r, &in) {
		return
	}
	switch {
	case s.strict:
		refuse(w, http.StatusBadRequest, "400 Bad request")
		return
	case p.members[s.caller(r).Name].Access < 30:
		refuse(w, http.StatusForbidden, "403 Forbidden")
		return
	case !p.git.Has(r.Context(), controlplane.Commit(commit)):
		refuse(w, http.StatusNotFound, "404 Commit Not Found")
		return
	case !slices.Contains([]string{"pending", "running", "success", "failed", "canceled", "skipped"}, in.State):
		answer(w, http.StatusBadRequest, map[string]string{"error": "state does not have a valid value"})
		return
	case len([]rune(in.Description)) > 255:
		answer(w, http.StatusBadRequest, map[string]any{"message": map[string][]string{"description": {"is too long (maximum is 255 characters)"}}})
		return
	}
	var current *Status
	for _, status := range p.statuses[commit] {
		if status.Name == in.Name && slices.Contains(actives, status.State) {
			current = status
		}
	}
	if current != nil && in.State == current.State {
		event := map[string]string{"pending": "enqueue", "running": "run"}[in.State]
		refuse(w, http.StatusBadRequest, "Cannot transition status via :"+event+" from :"+current.State+` (Reason(s): Status cannot transition via "`+event+`")`)
		return
	}
	if current == nil {
		current = &Status{ID: s.next(), Name: in.Name}
		p.statuses[commit] = append(p.statuses[commit], current)
	}
	current.State, current.Description, current.URL = in.State, in.Description, in.URL
	answer(w, http.StatusCreated, current)
}
