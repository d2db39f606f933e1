package githubtest

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"skep/services/controlplane"
)

type status struct {
	sha                         controlplane.Commit
	context, state, description string
	target                      string
	creator                     string
}

type checkRun struct {
	ID          int64
	SHA         controlplane.Commit
	Name        string
	Status      string // queued, in_progress, completed
	Conclusion  string
	DetailsURL  string
	ExternalID  string
	Title       string
	Summary     string
	Annotations []Annotation
}

// Annotation is one of a check run.
type Annotation struct {
	Path        string `json:"path"`
	StartLine   int    `json:"start_line"`
	EndLine     int    `json:"end_line"`
	StartColumn int    `json:"start_column"`
	EndColumn   int    `json:"end_column"`
	Level       string `json:"annotation_level"`
	Message     string `json:"message"`
	Title       string `json:"title"`
}

// Report is a status or a check run as the page of a commit shows it: the newest
// of each name.
type Report struct {
	Name string
	// State of a status; of a check run its conclusion, or its status until it
	// has one.
	State       string
	Title       string
	Summary     string
	URL         string
	Annotations []Annotation
}

// Reports are those of a commit, in the order in which names were first seen.
func (s *Server) Reports(name controlplane.Repository, c controlplane.Commit) []Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.repositories[name]
	if r == nil {
		return nil
	}
	var reports []Report
	put := func(report Report) {
		i := slices.IndexFunc(reports, func(other Report) bool { return other.Name == report.Name })
		if i < 0 {
			reports = append(reports, report)
			return
		}
		reports[i] = report
	}
	for _, one := range r.statuses {
		if one.sha == c {
			put(Report{Name: one.context, State: one.state, Title: one.description, URL: one.target})
		}
	}
	for _, one := range r.checks {
		if one.SHA != c {
			continue
		}
		state := one.Conclusion
		if state == "" {
			state = one.Status
		}
		put(Report{Name: one.Name, State: state, Title: one.Title, Summary: one.Summary, URL: one.DetailsURL, Annotations: slices.Clone(one.Annotations)})
	}
	return reports
}

// Unfinished are the check runs of a commit that nobody completed.
func (s *Server) Unfinished(name controlplane.Repository, c controlplane.Commit) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, one := range s.repositories[name].checks {
		if one.SHA == c && one.Status != "completed" {
			n++
		}
	}
	return n
}

func (s *Server) createStatus(c *call) answer {
	var in struct {
		State       string `json:"state"`
		TargetURL   string `json:"target_url"`
		Description string `json:"description"`
		Context     string `json:"context"`
	}
	if a, fine := c.decode(&in); !fine {
		return a
	}
	sha := controlplane.Commit(c.PathValue("sha"))
	switch {
	case !slices.Contains([]string{"error", "failure", "pending", "success"}, in.State):
		return invalid("Status", "state", "state is not included in the list")
	case utf8.RuneCountInString(in.Description) > 140:
		return invalid("Status", "description", "description is too long (maximum is 140 characters)")
	case in.TargetURL != "" && !web(in.TargetURL):
		return invalid("Status", "target_url", "target_url must use http(s) scheme")
	}
	if _, err := controlplane.ParseCommit(string(sha)); err != nil || !s.git.repository(string(c.repo.name)).Has(c.Context(), sha) {
		return problem(http.StatusUnprocessableEntity, "No commit found for SHA: %s", sha)
	}
	if in.Context == "" {
		in.Context = "default"
	}
	one := &status{sha: sha, context: in.Context, state: in.State, description: in.Description, target: in.TargetURL, creator: c.who.login}
	c.repo.statuses = append(c.repo.statuses, one)
	return created(object{
		"id": s.id(), "state": one.state, "context": one.context, "description": one.description, "target_url": one.target,
		"creator": s.userObject(one.creator), "created_at": stamp(s.now()), "updated_at": stamp(s.now()),
	})
}

func web(address string) bool {
	return strings.HasPrefix(address, "https://") || strings.HasPrefix(address, "http://")
}

// checkRunFields are what a request may set. A field that is nil stays.
type checkRunFields struct {
	Name       *string              `json:"name"`
	HeadSHA    *controlplane.Commit `json:"head_sha"`
	DetailsURL *string              `json:"details_url"`
	ExternalID *string              `json:"external_id"`
	Status     *string              `json:"status"`
	Conclusion *string              `json:"conclusion"`
	Output     *struct {
		Title       *string      `json:"title"`
		Summary     *string      `json:"summary"`
		Annotations []Annotation `json:"annotations"`
	} `json:"output"`
}

func (s *Server) createCheckRun(c *call) answer {
	if c.who.token == nil {
		return problem(http.StatusForbidden, "You must authenticate via a GitHub App.")
	}
	var in checkRunFields
	if a, fine := c.decode(&in); !fine {
		return a
	}
	if in.Name == nil || *in.Name == "" || in.HeadSHA == nil {
		return problem(http.StatusUnprocessableEntity, "Invalid request. \"name\", \"head_sha\" weren't supplied.")
	}
	if _, err := controlplane.ParseCommit(string(*in.HeadSHA)); err != nil || !s.git.repository(string(c.repo.name)).Has(c.Context(), *in.HeadSHA) {
		return problem(http.StatusUnprocessableEntity, "No commit found for SHA: %s", *in.HeadSHA)
	}
	run := &checkRun{ID: s.id(), SHA: *in.HeadSHA, Status: "queued"}
	if a, fine := run.set(in); !fine {
		return a
	}
	c.repo.checks = append(c.repo.checks, run)
	return created(s.checkRunObject(c.repo, run))
}

func (s *Server) updateCheckRun(c *call) answer {
	if c.who.token == nil {
		return problem(http.StatusForbidden, "You must authenticate via a GitHub App.")
	}
	i := slices.IndexFunc(c.repo.checks, func(run *checkRun) bool { return run.ID == c.number("id") })
	if i < 0 {
		return missing()
	}
	var in checkRunFields
	if a, fine := c.decode(&in); !fine {
		return a
	}
	if a, fine := c.repo.checks[i].set(in); !fine {
		return a
	}
	return ok(s.checkRunObject(c.repo, c.repo.checks[i]))
}

const (
	maxAnnotations = 50 // of a request
	maxSummary     = 65535
	maxTitle       = 255
)

// set takes fields over, all or none.
func (run *checkRun) set(in checkRunFields) (answer, bool) {
	next := *run
	take := func(to *string, from *string) {
		if from != nil {
			*to = *from
		}
	}
	take(&next.Name, in.Name)
	take(&next.DetailsURL, in.DetailsURL)
	take(&next.ExternalID, in.ExternalID)
	take(&next.Status, in.Status)
	if in.Conclusion != nil {
		next.Conclusion, next.Status = *in.Conclusion, "completed"
	}
	switch {
	case !slices.Contains([]string{"queued", "in_progress", "completed"}, next.Status):
		return invalid("CheckRun", "status", "status is not included in the list"), false
	case next.Status == "completed" && !slices.Contains([]string{"action_required", "cancelled", "failure", "neutral", "success", "skipped", "timed_out"}, next.Conclusion):
		return invalid("CheckRun", "conclusion", "conclusion is not included in the list"), false
	case next.DetailsURL != "" && !web(next.DetailsURL):
		return invalid("CheckRun", "details_url", "details_url must use http(s) scheme"), false
	}
	if next.Status != "completed" {
		next.Conclusion = ""
	}
	if out := in.Output; out != nil {
		if out.Summary == nil || out.Title == nil {
			return problem(http.StatusUnprocessableEntity, "Invalid request. \"title\", \"summary\" weren't supplied."), false
		}
		next.Title, next.Summary = *out.Title, *out.Summary
		if a, fine := output(next, out.Annotations); !fine {
			return a, false
		}
		next.Annotations = append(slices.Clone(next.Annotations), out.Annotations...)
	}
	*run = next
	return answer{}, true
}

func output(run checkRun, annotations []Annotation) (answer, bool) {
	switch {
	case utf8.RuneCountInString(run.Summary) > maxSummary:
		return invalid("CheckRun", "summary", "summary exceeds a maximum length of 65535"), false
	case utf8.RuneCountInString(run.Title) > maxTitle:
		return invalid("CheckRun", "title", "title exceeds a maximum length of 255"), false
	case len(annotations) > maxAnnotations:
		return problem(http.StatusUnprocessableEntity, "Invalid request. No more than %d items are allowed; %d were supplied.", maxAnnotations, len(annotations)), false
	}
	for i, a := range annotations {
		bad := a.Path == "" || strings.HasPrefix(a.Path, "/") || a.StartLine < 1 || a.EndLine < a.StartLine || a.Message == "" || len(a.Message) > 64<<10 ||
			!slices.Contains([]string{"notice", "warning", "failure"}, a.Level) || a.StartLine != a.EndLine && a.StartColumn+a.EndColumn > 0 || utf8.RuneCountInString(a.Title) > 255
		if bad {
			return invalid("CheckRun", "annotations", "annotation "+strconv.Itoa(i)+" is invalid"), false
		}
	}
	return answer{}, true
}

func (s *Server) listCheckRuns(c *call) answer {
	var found []*checkRun
	for _, run := range slices.Backward(c.repo.checks) {
		if string(run.SHA) != c.PathValue("sha") || c.FormValue("check_name") != "" && c.FormValue("check_name") != run.Name {
			continue
		}
		older := slices.ContainsFunc(found, func(other *checkRun) bool { return other.Name == run.Name })
		if older && c.FormValue("filter") != "all" {
			continue
		}
		if id := c.FormValue("app_id"); id != "" && id != strconv.FormatInt(s.options.App.ID, 10) {
			continue
		}
		found = append(found, run)
	}
	return paged(s, c, found, func(page []*checkRun) any {
		out := make([]object, len(page))
		for i, run := range page {
			out[i] = s.checkRunObject(c.repo, run)
		}
		return object{"total_count": len(found), "check_runs": out}
	})
}
