package azuredevopstest

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// gitNamespace is the security namespace of Git repositories.
const gitNamespace = "2e9eb7ed-3c0a-47d4-87c1-0ffdd275fd87"

// Hide keeps a user out of access control lists, as if the service knew
// nothing of them.
func (s *Server) Hide(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[user].hidden = true
}

// identities finds people by id, or by any of their names: the display name is
// one of them.
func (s *Server) identities(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var found []map[string]any
	for _, name := range slices.Sorted(maps.Keys(s.users)) {
		u := s.users[name]
		byID := q.Get("identityIds") != "" && strings.EqualFold(u.ID, q.Get("identityIds"))
		value := q.Get("filterValue")
		byName := q.Get("searchFilter") == "General" && (strings.EqualFold(u.Name, value) || strings.EqualFold(u.Shown, value))
		if byID || byName {
			found = append(found, map[string]any{
				"id": u.ID, "descriptor": u.descriptor(), "providerDisplayName": u.Shown, "isActive": !u.Gone, "isContainer": false,
				"properties": map[string]any{"Account": property(u.Name), "Mail": property(u.Name), "Domain": property("00000000-0000-0000-0000-000000000001")},
			})
		}
	}
	list(w, found)
}

// accessControl has the list of one token for the descriptors asked for.
func (s *Server) accessControl(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var lists []map[string]any
	for _, name := range slices.Sorted(maps.Keys(s.repos)) {
		repo := s.repos[name]
		if r.PathValue("namespace") != gitNamespace || q.Get("token") != "repoV2/"+repo.project+"/"+repo.id {
			continue
		}
		entries := map[string]any{}
		for _, u := range s.users {
			if u.hidden || !slices.Contains(strings.Split(q.Get("descriptors"), ","), u.descriptor()) {
				continue
			}
			// What counts comes from groups: the entry itself has nothing.
			entry := map[string]any{"descriptor": u.descriptor(), "allow": 0, "deny": 0}
			if q.Get("includeExtendedInfo") == "true" {
				entry["extendedInfo"] = map[string]int{"effectiveAllow": u.allow[name], "effectiveDeny": u.deny[name]}
			}
			entries[u.descriptor()] = entry
		}
		lists = append(lists, map[string]any{"inheritPermissions": true, "token": q.Get("token"), "acesDictionary": entries, "includeExtendedInfo": true})
	}
	list(w, lists)
}

// Run is one of a pipeline.
type Run struct {
	ID         int
	Ref        string
	Version    string
	Parameters map[string]string
	State      string
	Result     string
}

type pipeline struct {
	project string
	runs    []*Run
}

// AddPipeline adds a pipeline to a project.
func (s *Server) AddPipeline(project string, id int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pipelines[id] = &pipeline{project: project}
}

// EndRun completes a run.
func (s *Server) EndRun(pipeline, run int, result string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.pipelines[pipeline].runs[run-1]
	r.State, r.Result = "completed", result
}

// Runs are copies of those of a pipeline.
func (s *Server) Runs(pipeline int) []Run {
	s.mu.Lock()
	defer s.mu.Unlock()
	var runs []Run
	for _, r := range s.pipelines[pipeline].runs {
		runs = append(runs, *r)
	}
	return runs
}

func (s *Server) startRun(w http.ResponseWriter, r *http.Request) {
	p := s.pipelines[number(r, "pipeline")]
	if p == nil || p.project != r.PathValue("project") {
		problem(w, http.StatusNotFound, "PipelineNotFoundException", "The pipeline was not found")
		return
	}
	var in struct {
		Resources struct {
			Repositories map[string]struct {
				Ref     string `json:"refName"`
				Version string `json:"version"`
			} `json:"repositories"`
		} `json:"resources"`
		Parameters map[string]string `json:"templateParameters"`
	}
	if !read(w, r, &in) {
		return
	}
	self := in.Resources.Repositories["self"]
	run := &Run{ID: len(p.runs) + 1, Ref: self.Ref, Version: self.Version, Parameters: in.Parameters, State: "inProgress"}
	p.runs = append(p.runs, run)
	s.showRun(w, r, run)
}

func (s *Server) getRun(w http.ResponseWriter, r *http.Request) {
	p, id := s.pipelines[number(r, "pipeline")], number(r, "run")
	if p == nil || p.project != r.PathValue("project") || id < 1 || id > len(p.runs) {
		problem(w, http.StatusNotFound, "RunNotFoundException", "The run was not found")
		return
	}
	s.showRun(w, r, p.runs[id-1])
}

func (s *Server) showRun(w http.ResponseWriter, r *http.Request, run *Run) {
	id := strconv.Itoa(run.ID)
	out := map[string]any{
		"id": run.ID, "name": "20261121." + id, "state": run.State, "createdDate": time.Now().UTC().Format(time.RFC3339),
		"_links": map[string]any{"web": map[string]string{"href": s.URL + "/" + s.Organization + "/" + r.PathValue("project") + "/_build/results?buildId=" + id}},
	}
	if run.Result != "" {
		out["result"] = run.Result
	}
	answer(w, out)
}
