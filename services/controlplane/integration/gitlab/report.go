package gitlab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"skep/services/controlplane"
	"skep/services/controlplane/integration"
)

var states = map[controlplane.ReportState]string{
	controlplane.ReportPending:    "pending",
	controlplane.ReportSuccess:    "success",
	controlplane.ReportFailure:    "failed",
	controlplane.ReportError:      "failed", // the title says whose fault it is
	controlplane.ReportSuperseded: "canceled",
	controlplane.ReportCancelled:  "canceled",
}

// maxDescription is GitLab's limit, in characters.
const maxDescription = 255

type status struct {
	Name        string `json:"name"`
	State       string `json:"state"`
	Description string `json:"description,omitempty"`
	URL         string `json:"target_url,omitempty"`
}

// Report sets the commit's status. There is no place for the summary and the
// annotations: the note has them. GitLab takes a status for a commit on a branch
// of the project alone: one that is only in a fork is controlplane.ErrNotFound.
func (f *Forge) Report(ctx context.Context, r controlplane.Repository, c controlplane.Commit, report controlplane.Report) error {
	if err := f.report(ctx, r, c, report); err != nil {
		return fmt.Errorf("report %s on %s at %s: %w", report.Name, r, c, err)
	}
	return nil
}

func (f *Forge) report(ctx context.Context, r controlplane.Repository, c controlplane.Commit, report controlplane.Report) error {
	state, ok := states[report.State]
	if !ok {
		return fmt.Errorf("there is no state %q", report.State)
	}
	s := status{Name: report.Name, State: state, Description: integration.Line(report.Title, maxDescription), URL: report.URL}
	_, err := f.api.Call(ctx, http.MethodPost, project(r, "statuses", string(c)), nil, s, nil)
	var refused *integration.StatusError
	if !errors.As(err, &refused) || refused.Status != http.StatusBadRequest {
		return err
	}
	// What is pending cannot become pending (gitlab-org/gitlab#25807): it is a
	// success if it is.
	var list []struct {
		Name  string `json:"name"`
		State string `json:"status"`
	}
	if readErr := f.get(ctx, project(r, "repository", "commits", string(c), "statuses"), url.Values{"name": {report.Name}}, &list); readErr != nil {
		return errors.Join(err, readErr)
	}
	for _, l := range list {
		if l.Name == report.Name && l.State == state {
			return nil
		}
	}
	return err
}
