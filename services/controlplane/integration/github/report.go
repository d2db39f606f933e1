package github

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	gh "github.com/google/go-github/v62/github"

	"skep/services/controlplane"
	"skep/services/controlplane/integration"
)

// Report sets a check run as an App, with annotations, and a commit status as a
// user, whom GitHub gives no check runs.
func (f *Forge) Report(ctx context.Context, r controlplane.Repository, c controlplane.Commit, what controlplane.Report) error {
	ctx, owner, name, err := f.call(ctx, r, report)
	if err != nil {
		return err
	}
	if _, err := controlplane.ParseCommit(string(c)); err != nil {
		return err
	}
	me, err := f.who.self(ctx, f.api)
	if err == nil {
		if me.app != 0 {
			err = f.check(ctx, checks{owner: owner, repo: name, commit: string(c), app: me.app}, what)
		} else {
			err = f.status(ctx, owner, name, string(c), what)
		}
	}
	if err != nil {
		return fmt.Errorf("report %s on %s at %s: %w", what.Name, r, c, problem(err))
	}
	return nil
}

// GitHub has four words for a status.
var statuses = map[controlplane.ReportState]string{
	controlplane.ReportPending: "pending", controlplane.ReportSuccess: "success", controlplane.ReportFailure: "failure",
	controlplane.ReportError: "error", controlplane.ReportSuperseded: "error", controlplane.ReportCancelled: "error",
}

const maxDescription = 140

func (f *Forge) status(ctx context.Context, owner, repo, commit string, what controlplane.Report) error {
	title := what.Title
	if what.State == controlplane.ReportSuperseded || what.State == controlplane.ReportCancelled {
		title = strings.TrimSuffix(string(what.State)+": "+title, ": ")
	}
	_, _, err := f.api.Repositories.CreateStatus(ctx, owner, repo, commit, &gh.RepoStatus{
		State: gh.String(statuses[what.State]), Context: &what.Name, TargetURL: link(what.URL), Description: gh.String(integration.Line(title, maxDescription)),
	})
	return err
}

// link leaves out what GitHub would refuse the whole report for.
func link(address string) *string {
	if !strings.HasPrefix(address, "https://") && !strings.HasPrefix(address, "http://") {
		return nil
	}
	return &address
}

// Conclusions of a check run; a pending one has none.
var conclusions = map[controlplane.ReportState]string{
	controlplane.ReportSuccess: "success", controlplane.ReportFailure: "failure",
	// GitHub has no word for what is not the commit's fault and blocks all the same.
	controlplane.ReportError:      "failure",
	controlplane.ReportSuperseded: "cancelled",
	controlplane.ReportCancelled:  "cancelled",
}

const (
	maxTitle       = 255
	maxSummary     = 65535
	maxMessage     = 60 << 10
	maxAnnotations = 1000 // in all
	batch          = 50   // of a request
)

// checks are the check runs of an App on a commit.
type checks struct {
	owner, repo, commit string
	app                 int64
}

// check carries a report in as many requests as its annotations need, and ends
// the run with the last: until then it shows as in progress. The run's external
// id says what is being written, so that after a crash the same report goes on
// where it stopped. A run that is complete is not touched again: GitHub shows
// the newest of a name.
func (f *Forge) check(ctx context.Context, c checks, what controlplane.Report) error {
	next := wanted(what)
	run, unfinished, err := f.latest(ctx, c, what.Name)
	if err != nil {
		return err
	}
	if next.conclusion != "" {
		for _, other := range unfinished {
			if err := f.abandon(ctx, c, other); err != nil {
				return err
			}
		}
	}
	same := run != nil && run.GetExternalID() == next.id
	if same && run.GetStatus() == next.status && run.GetConclusion() == next.conclusion {
		return nil
	}
	done := 0
	switch {
	case run == nil || run.GetStatus() == "completed":
		run = nil
	case same:
		done = min(run.GetOutput().GetAnnotationsCount(), len(next.annotations))
	case run.GetOutput().GetAnnotationsCount() > 0: // another report's, never finished
		if err := f.abandon(ctx, c, run); err != nil {
			return err
		}
		run = nil
	}
	for {
		part := next.annotations[done:min(done+batch, len(next.annotations))]
		done += len(part)
		run, err = f.write(ctx, c, run, next, part, done == len(next.annotations))
		if err != nil || done == len(next.annotations) {
			return err
		}
	}
}

// latest is the newest check run of a name, or nil, and those before it that
// nobody will end: two that began at once left them.
func (f *Forge) latest(ctx context.Context, c checks, name string) (newest *gh.CheckRun, unfinished []*gh.CheckRun, err error) {
	found, _, err := f.api.Checks.ListCheckRunsForRef(ctx, c.owner, c.repo, c.commit, &gh.ListCheckRunsOptions{
		CheckName: &name, AppID: &c.app, Filter: gh.String("all"), ListOptions: gh.ListOptions{PerPage: perPage},
	})
	if err != nil {
		return nil, nil, err
	}
	for _, run := range found.CheckRuns {
		if run.GetName() == name && (newest == nil || run.GetID() > newest.GetID()) {
			newest = run
		}
	}
	for _, run := range found.CheckRuns {
		if run.GetName() == name && run.GetID() != newest.GetID() && run.GetStatus() != "completed" {
			unfinished = append(unfinished, run)
		}
	}
	return newest, unfinished, nil
}

// write makes a run, or changes it if there is one.
func (f *Forge) write(ctx context.Context, c checks, run *gh.CheckRun, next checkRun, part []*gh.CheckRunAnnotation, last bool) (*gh.CheckRun, error) {
	status, conclusion := gh.String("in_progress"), (*string)(nil)
	if last {
		status = &next.status
		if next.conclusion != "" {
			conclusion = &next.conclusion
		}
	}
	output := &gh.CheckRunOutput{Title: &next.title, Summary: &next.summary, Annotations: part}
	if run == nil {
		made, _, err := f.api.Checks.CreateCheckRun(ctx, c.owner, c.repo, gh.CreateCheckRunOptions{
			Name: next.name, HeadSHA: c.commit, DetailsURL: next.url, ExternalID: &next.id, Status: status, Conclusion: conclusion, Output: output,
		})
		return made, err
	}
	changed, _, err := f.api.Checks.UpdateCheckRun(ctx, c.owner, c.repo, run.GetID(), gh.UpdateCheckRunOptions{
		Name: next.name, DetailsURL: next.url, ExternalID: &next.id, Status: status, Conclusion: conclusion, Output: output,
	})
	return changed, err
}

// abandon ends a run that a crash left behind.
func (f *Forge) abandon(ctx context.Context, c checks, run *gh.CheckRun) error {
	_, _, err := f.api.Checks.UpdateCheckRun(ctx, c.owner, c.repo, run.GetID(), gh.UpdateCheckRunOptions{
		Name: run.GetName(), Status: gh.String("completed"), Conclusion: gh.String("cancelled"),
	})
	return err
}

// checkRun is a report in GitHub's words.
type checkRun struct {
	id                                       string // external, of all the rest
	name, status, conclusion, title, summary string
	url                                      *string
	annotations                              []*gh.CheckRunAnnotation
}

func wanted(what controlplane.Report) checkRun {
	c := checkRun{
		name: what.Name, status: "completed", conclusion: conclusions[what.State], url: link(what.URL),
		title: integration.Line(what.Title, maxTitle), summary: integration.Cut(strings.ToValidUTF8(what.Summary, "\uFFFD"), maxSummary, "\n\n(the rest is left out)\n"),
	}
	if what.State == controlplane.ReportPending {
		c.status = "in_progress"
	}
	if c.title == "" { // GitHub wants one with the rest
		c.title = string(what.State)
	}
	for i, a := range what.Annotations {
		if i == maxAnnotations {
			c.summary = integration.Cut(c.summary, maxSummary-100, "") + fmt.Sprintf("\n\n(%d more problems are not shown in the files)\n", len(what.Annotations)-i)
			break
		}
		c.annotations = append(c.annotations, annotation(a))
	}
	content, _ := json.Marshal([]any{c.name, c.title, c.summary, c.url, c.annotations, what.State}) // strings and numbers
	sum := sha256.Sum256(content)
	c.id = hex.EncodeToString(sum[:16])
	return c
}

func annotation(a controlplane.Annotation) *gh.CheckRunAnnotation {
	line, level := max(a.Line, 1), "failure"
	if a.Warning {
		level = "warning"
	}
	out := &gh.CheckRunAnnotation{
		Path: gh.String(strings.TrimPrefix(a.Path, "/")), StartLine: &line, EndLine: &line, AnnotationLevel: &level,
		Message: gh.String(integration.Cut(a.Message, maxMessage, "...")),
	}
	if a.Column > 0 { // GitHub takes columns for one line alone, and both of them
		out.StartColumn, out.EndColumn = gh.Int(a.Column), gh.Int(a.Column)
	}
	if a.Rule != "" {
		out.Title = gh.String(integration.Line(a.Rule, maxTitle))
	}
	return out
}
