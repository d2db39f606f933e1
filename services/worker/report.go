package worker

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"go.opentelemetry.io/otel/attribute"

	"skep/services/controlplane"
)

// name is the status's: one for each project of a repository, one for its
// previews, and one for its secrets.
func (a *attempt) name() string {
	name := "skep/" + string(a.project.Name)
	switch {
	case commentKey(a.run.Kind) == "preview":
		name += "/preview"
	case a.run.Kind == controlplane.RunRotate:
		name += "/rotate"
	}
	return name
}

// report sets the state of the commit.
func (a *attempt) report(ctx context.Context, r controlplane.Report) (err error) {
	if a.input.Change.Commit == "" {
		return nil
	}
	ctx, end := step(ctx, "report", attribute.String("skep.state", string(r.State)))
	defer func() { end(err) }()
	r.Name, r.URL = a.name(), a.link()
	if err := a.forge.Report(ctx, a.project.Repository, a.input.Change.Commit, r); err != nil {
		return fmt.Errorf("report the state of %s: %w", a.input.Change.Commit, err)
	}
	return nil
}

// link is the run's address in the API.
func (a *attempt) link() string {
	if a.w.URL == "" {
		return ""
	}
	return strings.TrimSuffix(a.w.URL, "/") + "/api/v1/runs/" + string(a.run.ID)
}

// tell says how the run ended: on the commit, and on the pull request.
func (a *attempt) tell(ctx context.Context, kind controlplane.RunKind, cause error) error {
	r := controlplane.Report{State: controlplane.ReportSuccess, Title: a.result.Summary, Annotations: a.annotations()}
	var failed *failure
	switch {
	case errors.As(cause, &failed):
		r.State, r.Title = controlplane.ReportFailure, oneLine(failed.Error())
	case cause != nil:
		r.State, r.Title = controlplane.ReportError, oneLine(cause.Error())
	}
	return a.announce(ctx, kind, r)
}

// announce puts a report on the commit and the pull request.
func (a *attempt) announce(ctx context.Context, kind controlplane.RunKind, r controlplane.Report) error {
	r.Summary = a.markdown(kind, r)
	switch {
	case a.result.Deployed:
		a.deployed(ctx, controlplane.DeploymentDone, r.Title, a.address)
	case r.State == controlplane.ReportCancelled:
		a.deployed(ctx, controlplane.DeploymentGone, r.Title, "")
	case r.State != controlplane.ReportSuccess:
		a.deployed(ctx, controlplane.DeploymentFailed, r.Title, "")
	}
	err := a.report(ctx, r)
	if pr := a.input.Change.PullRequest; pr != nil {
		body := "### Skep: " + string(a.project.Name) + "\n\n" + r.Summary
		if e := a.forge.Comment(ctx, a.project.Repository, pr.Number, commentKey(kind)+"/"+string(a.project.Name), body); e != nil {
			err = errors.Join(err, fmt.Errorf("comment on pull request %d: %w", pr.Number, e))
		}
	}
	return err
}

// commentKey keeps a comment for what is planned, and one for the preview.
func commentKey(kind controlplane.RunKind) string {
	if kind == controlplane.RunPreview || kind == controlplane.RunDestroy {
		return "preview"
	}
	return "plan"
}

// markdown is the summary of a run.
func (a *attempt) markdown(kind controlplane.RunKind, r controlplane.Report) string {
	var b strings.Builder
	commit := a.input.Change.Commit
	fmt.Fprintf(&b, "**%s** of `%.12s`: %s\n", kind, commit, text(r.Title))
	if len(a.result.Problems) > 0 {
		b.WriteString("\n| where | rule | problem |\n|---|---|---|\n")
		for i, p := range a.result.Problems {
			if i == maxRows {
				fmt.Fprintf(&b, "\nand %d more\n", len(a.result.Problems)-maxRows)
				break
			}
			fmt.Fprintf(&b, "| %s:%d | %s | %s |\n", code(p.File), p.Line, code(p.Rule), text(p.Message+". "+p.Remedy))
		}
	}
	if a.result.Plan != "" {
		b.WriteString("\n" + a.result.Plan)
	}
	return b.String()
}

// maxRows bounds a table of problems; the annotations and the log have all.
const maxRows = 50

// annotations are the problems at their places in the repository.
func (a *attempt) annotations() []controlplane.Annotation {
	var out []controlplane.Annotation
	for _, p := range a.result.Problems {
		// skep names files from where it runs, which is the repository's root.
		file := path.Clean(p.File)
		if p.File == "" || path.IsAbs(file) || strings.HasPrefix(file, "../") {
			continue
		}
		message := p.Message
		if p.Remedy != "" {
			message += ": " + p.Remedy
		}
		out = append(out, controlplane.Annotation{
			Path: file, Line: max(p.Line, 1), Column: p.Column,
			Warning: p.Severity != "error", Rule: p.Rule, Message: message,
		})
	}
	return out
}

// text keeps Markdown of a stranger from doing anything: no link, no image, no
// mention, no HTML.
func text(s string) string {
	return strings.NewReplacer("\n", " ", "\r", " ", "|", "\\|", "<", "&lt;", "`", "\\`", "[", "\\[", "!", "\\!", "*", "\\*", "_", "\\_",
		"@", "@\u200b", "#", "#\u200b", "://", ":\u200b//").Replace(s)
}

// code is text in a span of code.
func code(s string) string {
	return "`" + strings.NewReplacer("`", "'", "|", "\\|", "\n", " ", "\r", " ").Replace(s) + "`"
}

func oneLine(s string) string {
	s, _, _ = strings.Cut(printable(s), "\n")
	if r := []rune(s); len(r) > 140 {
		s = string(r[:139]) + "…"
	}
	return s
}
