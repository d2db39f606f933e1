package azuredevops

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"skep/services/controlplane"
	"skep/services/controlplane/integration"
)

type status struct {
	State       string        `json:"state"`
	Description string        `json:"description"`
	URL         string        `json:"targetUrl,omitempty"`
	Context     statusContext `json:"context"`
	Iteration   int           `json:"iterationId,omitempty"`
}

type statusContext struct {
	Genre string `json:"genre"`
	Name  string `json:"name"`
}

var states = map[controlplane.ReportState]string{
	controlplane.ReportPending:    "pending",
	controlplane.ReportSuccess:    "succeeded",
	controlplane.ReportFailure:    "failed",
	controlplane.ReportError:      "error",
	controlplane.ReportSuperseded: "notApplicable",
	controlplane.ReportCancelled:  "error", // it blocks a merge until it is done again
}

// maxDescription keeps a status to a line that is shown whole.
const maxDescription = 250

// Report sets the status of the commit, and of the active pull requests whose
// head it is: branch policies look at the latter alone. There it goes to the
// iteration that the commit made, so that it is not taken for the next one's.
// There is no place for the summary and the annotations: the comment has them.
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
	s := status{State: state, Description: integration.Line(report.Title, maxDescription), URL: report.URL, Context: statusContext{Name: report.Name}}
	if i := strings.LastIndexByte(report.Name, '/'); i > 0 && i < len(report.Name)-1 {
		s.Context = statusContext{Genre: report.Name[:i], Name: report.Name[i+1:]}
	}
	address, err := f.path(r, "commits", string(c), "statuses")
	if err != nil {
		return err
	}
	_, onCommit := f.api.Call(ctx, http.MethodPost, address, query(), s, nil)
	if onCommit != nil && !errors.Is(onCommit, controlplane.ErrNotFound) {
		return onCommit
	}
	numbers, err := f.headOf(ctx, r, c)
	if err != nil {
		return err
	}
	if len(numbers) == 0 {
		return onCommit // else the commit is in a fork
	}
	for _, number := range numbers {
		if err := f.reportOn(ctx, r, number, c, s); err != nil {
			return fmt.Errorf("pull request %d: %w", number, err)
		}
	}
	return nil
}

// headOf has the active pull requests with a commit as their head. The API's
// own search for a commit finds merged ones alone.
func (f *Forge) headOf(ctx context.Context, r controlplane.Repository, c controlplane.Commit) ([]int, error) {
	address, err := f.path(r, "pullrequests")
	if err != nil {
		return nil, err
	}
	var numbers []int
	for seen, page := 0, 0; page < maxPages; page++ {
		var answer many[pullRequest]
		q := query("searchCriteria.status", "active", "$top", "100", "$skip", strconv.Itoa(seen))
		if _, err := f.api.Call(ctx, http.MethodGet, address, q, nil, &answer); err != nil {
			return nil, err
		}
		if len(answer.Value) == 0 {
			return numbers, nil
		}
		for _, p := range answer.Value {
			if p.Head.Commit == string(c) {
				numbers = append(numbers, p.Number)
			}
		}
		seen += len(answer.Value)
	}
	return numbers, nil
}

func (f *Forge) reportOn(ctx context.Context, r controlplane.Repository, number int, c controlplane.Commit, s status) error {
	iterations, err := f.path(r, "pullRequests", strconv.Itoa(number), "iterations")
	if err != nil {
		return err
	}
	var answer many[struct {
		ID   int `json:"id"`
		Head struct {
			Commit string `json:"commitId"`
		} `json:"sourceRefCommit"`
	}]
	if _, err := f.api.Call(ctx, http.MethodGet, iterations, query(), nil, &answer); err != nil {
		return err
	}
	for _, i := range answer.Value {
		if i.Head.Commit == string(c) {
			s.Iteration = i.ID // the last: a branch may come back to a commit
		}
	}
	address, err := f.path(r, "pullRequests", strconv.Itoa(number), "statuses")
	if err != nil {
		return err
	}
	_, err = f.api.Call(ctx, http.MethodPost, address, query(), s, nil)
	return err
}
