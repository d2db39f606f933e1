package azuredevops

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"skep/services/controlplane"
)

// Run is one of a pipeline.
type Run struct {
	ID    int
	Name  string
	State RunState
	URL   string // its page
}

// RunState is what has become of a run.
type RunState string

const (
	RunInProgress RunState = "in progress"
	RunSucceeded  RunState = "succeeded"
	RunFailed     RunState = "failed"
	RunCanceled   RunState = "canceled"
)

type pipelineRun struct {
	ID     int    `json:"id"`
	Name   string `json:"name"`
	State  string `json:"state"`  // inProgress, canceling, completed, unknown
	Result string `json:"result"` // succeeded, failed, canceled, unknown
	Links  struct {
		Web struct {
			URL string `json:"href"`
		} `json:"web"`
	} `json:"_links"`
}

func (p pipelineRun) run() (Run, error) {
	r := Run{ID: p.ID, Name: p.Name, URL: p.Links.Web.URL, State: RunInProgress}
	if p.State != "completed" {
		return r, nil
	}
	switch p.Result {
	case "succeeded":
		r.State = RunSucceeded
	case "failed":
		r.State = RunFailed
	case "canceled":
		r.State = RunCanceled
	default:
		return Run{}, fmt.Errorf("run %d is completed with the result %q", p.ID, p.Result)
	}
	return r, nil
}

// StartRun runs a pipeline of the repository's project, on a commit of a branch
// of the repository that the pipeline belongs to. The API has no key that keeps
// a repeated call from running twice: call it once.
func (f *Forge) StartRun(ctx context.Context, r controlplane.Repository, pipeline int, b controlplane.Branch, c controlplane.Commit, parameters map[string]string) (Run, error) {
	self := map[string]string{"refName": "refs/heads/" + string(b), "version": string(c)}
	in := map[string]any{"resources": map[string]any{"repositories": map[string]any{"self": self}}}
	if len(parameters) > 0 {
		in["templateParameters"] = parameters
	}
	return f.run(ctx, r, http.MethodPost, in, strconv.Itoa(pipeline), "runs")
}

// PipelineRun is how a run does.
func (f *Forge) PipelineRun(ctx context.Context, r controlplane.Repository, pipeline, run int) (Run, error) {
	return f.run(ctx, r, http.MethodGet, nil, strconv.Itoa(pipeline), "runs", strconv.Itoa(run))
}

func (f *Forge) run(ctx context.Context, r controlplane.Repository, method string, in any, segments ...string) (Run, error) {
	if _, err := f.path(r); err != nil { // is it ours?
		return Run{}, err
	}
	project := strings.Split(string(r), "/")[1]
	var answer pipelineRun
	if _, err := f.api.Call(ctx, method, f.in(project, append([]string{"pipelines"}, segments...)...), query(), in, &answer); err != nil {
		return Run{}, fmt.Errorf("pipeline %s of %s: %w", segments[0], project, err)
	}
	return answer.run()
}
