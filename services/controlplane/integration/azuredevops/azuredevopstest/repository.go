package azuredevopstest

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"skep/services/controlplane"
	"skep/services/controlplane/integration/gittest"
)

// repository is a bare Git repository and what Azure DevOps knows around it.
type repository struct {
	id, project string // GUIDs
	name        string // project/name
	git         gittest.Repository
	replaced    map[string][]byte // archives, by commit
	pulls       map[int]*pull
	statuses    map[string][]Status // by commit
}

// AddRepository serves a bare repository as project/name.
func (s *Server) AddRepository(name string, git gittest.Repository) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repos[name] = &repository{
		id: newID(), project: newID(), name: name, git: git,
		replaced: map[string][]byte{}, pulls: map[int]*pull{}, statuses: map[string][]Status{},
	}
}

// ReplaceArchive sets what the zip of a commit is.
func (s *Server) ReplaceArchive(repository, commit string, content []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repos[repository].replaced[commit] = content
}

// Status is one of a commit or a pull request.
type Status struct {
	State       string `json:"state"`
	Description string `json:"description"`
	TargetURL   string `json:"targetUrl"`
	Context     struct {
		Genre string `json:"genre"`
		Name  string `json:"name"`
	} `json:"context"`
	Iteration int `json:"iterationId,omitempty"`
}

// Statuses are those of a commit, oldest first.
func (s *Server) Statuses(repository, commit string) []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.repos[repository].statuses[commit])
}

// repo finds the repository of a request. Handlers within it hold the lock.
func (s *Server) repo(h func(http.ResponseWriter, *http.Request, *repository)) http.HandlerFunc {
	return s.scope("vso.code", func(w http.ResponseWriter, r *http.Request) {
		found := s.repos[r.PathValue("project")+"/"+r.PathValue("repo")]
		if user, _ := s.caller(r); found == nil || user.allow[found.name]&GenericRead == 0 {
			problem(w, http.StatusNotFound, "GitRepositoryNotFoundException",
				"TF401019: The Git repository with name or identifier "+r.PathValue("repo")+" does not exist or you do not have permissions for the operation you are attempting.")
			return
		}
		h(w, r, found)
	})
}

func (repo *repository) short() string { return repo.name[strings.IndexByte(repo.name, '/')+1:] }

func (s *Server) getRepository(w http.ResponseWriter, r *http.Request, repo *repository) {
	answer(w, map[string]any{
		"id": repo.id, "name": repo.short(), "defaultBranch": "refs/heads/main",
		"project": map[string]any{"id": repo.project, "name": r.PathValue("project")},
	})
}

// items has the tree of a commit as a zip.
func (s *Server) items(w http.ResponseWriter, r *http.Request, repo *repository) {
	q := r.URL.Query()
	commit := q.Get("versionDescriptor.version")
	if q.Get("$format") != "zip" || q.Get("scopePath") != "/" || q.Get("recursionLevel") != "full" || q.Get("versionDescriptor.versionType") != "commit" || q.Get("api-version") == "" {
		problem(w, http.StatusBadRequest, "", "this server only has whole commits as zip")
		return
	}
	archive, err := repo.git.Archive(r.Context(), controlplane.Commit(commit), "zip", "")
	if replaced, ok := repo.replaced[commit]; ok {
		archive, err = replaced, nil
	}
	if err != nil {
		problem(w, http.StatusNotFound, "GitUnresolvableToCommitException", "TF401175: The version descriptor <Commit: "+commit+" > could not be resolved to a version in the repository "+repo.short())
		return
	}
	w.Header().Set("Content-Type", "application/zip")
	_, _ = w.Write(archive) // the client is gone
}

// refs takes the start of a name after refs/, and shows a page of what begins
// with it.
func (s *Server) refs(w http.ResponseWriter, r *http.Request, repo *repository) {
	q := r.URL.Query()
	heads, err := repo.git.Heads(r.Context())
	if err != nil {
		problem(w, http.StatusInternalServerError, "", err.Error())
		return
	}
	var found []map[string]string
	// The order is nowhere promised: this one has a name after what it begins.
	for _, b := range slices.Backward(slices.Sorted(maps.Keys(heads))) {
		name, token := "refs/heads/"+string(b), q.Get("continuationToken")
		if strings.HasPrefix(name, "refs/"+q.Get("filter")) && (token == "" || name < token) {
			found = append(found, map[string]string{"name": name, "objectId": string(heads[b])})
		}
	}
	if len(found) > s.page {
		found = found[:s.page]
		w.Header().Set("X-MS-ContinuationToken", found[s.page-1]["name"])
	}
	list(w, found)
}

func (s *Server) postStatus(w http.ResponseWriter, r *http.Request, repo *repository) {
	commit := r.PathValue("commit")
	if !repo.git.Has(r.Context(), controlplane.Commit(commit)) {
		problem(w, http.StatusNotFound, "GitCommitDoesNotExistException", "TF401175: no such commit")
		return
	}
	status, ok := readStatus(w, r)
	if !ok {
		return
	}
	repo.statuses[commit] = append(repo.statuses[commit], status)
	answer(w, status)
}

func readStatus(w http.ResponseWriter, r *http.Request) (Status, bool) {
	var status Status
	if !read(w, r, &status) {
		return status, false
	}
	if status.Context.Name == "" || !slices.Contains([]string{"pending", "succeeded", "failed", "error", "notApplicable"}, status.State) {
		problem(w, http.StatusBadRequest, "InvalidArgumentValueException", "status without a name, or with a state that there is not")
		return status, false
	}
	return status, true
}

func number(r *http.Request, name string) int {
	n, _ := strconv.Atoi(r.PathValue(name)) // zero is nobody's number
	return n
}
