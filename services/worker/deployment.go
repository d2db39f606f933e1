package worker

import (
	"context"
	"errors"
	"fmt"

	"skep/services/controlplane"
)

// environment is what providers call where a run deploys to: the project's, or
// the preview's own.
func (a *attempt) environment() (name string, preview, ok bool) {
	switch pr := a.input.Change.PullRequest; {
	case a.run.Kind == controlplane.RunDeploy && a.input.Change.Commit != "":
		return string(a.project.Name), false, true
	case (a.run.Kind == controlplane.RunPreview || a.run.Kind == controlplane.RunDestroy) && pr != nil:
		return previewName(pr.Number), true, true
	}
	return "", false, false
}

// deployed tells a provider that shows deployments of this one. It may lack the
// permission, and what is deployed is deployed all the same: then the run's log
// says so.
func (a *attempt) deployed(ctx context.Context, state controlplane.DeploymentState, title, url string) {
	shows, can := a.forge.(controlplane.Deployments)
	name, preview, ok := a.environment()
	if !can || !ok {
		return
	}
	var err error
	if a.run.Kind == controlplane.RunDestroy {
		err = shows.Retire(ctx, a.project.Repository, a.project.Name, name)
	} else {
		err = shows.Deployment(ctx, a.project.Repository, a.input.Change.Commit, controlplane.Deployment{
			Run: string(a.run.ID), Project: a.project.Name, Environment: name, Preview: preview, State: state, Title: title, Log: a.link(), URL: url,
		})
	}
	if err != nil && ctx.Err() == nil {
		a.lines.add("skep", fmt.Sprintf("%s did not hear of the deployment: %v", a.project.Provider, err))
		lost := a.lines.flush(ctx)
		a.w.Log.WarnContext(ctx, "a provider did not hear of a deployment", "run", a.run.ID, "error", errors.Join(err, lost))
	}
}
