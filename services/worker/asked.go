package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"skep/services/controlplane"
)

// errUnknown says that nobody found out yet what a run is about.
var errUnknown = errors.New("the run's commit is not known yet")

// resolve finds out what commit a run is about that a task asked for: once, so
// that another try is about the same one.
func (a *attempt) resolve(ctx context.Context) error {
	return a.recall(ctx, func(ctx context.Context) ([]byte, error) {
		change, err := a.look(ctx)
		if err != nil {
			return nil, err
		}
		return json.Marshal(change)
	})
}

// recall takes what was found out, and does not look.
func (a *attempt) recall(ctx context.Context, find func(context.Context) ([]byte, error)) error {
	if a.input.Change.Kind != controlplane.ChangeAsked {
		return nil
	}
	found, err := a.w.Store.Once(ctx, a.run.ID, "change", find)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(found, &a.input.Change); err != nil {
		return fmt.Errorf("read what the run is about: %w", err)
	}
	return nil
}

// look asks the provider: for the head of a pull request, or of the branch that
// the cluster follows. A rotation is about what is deployed.
func (a *attempt) look(ctx context.Context) (controlplane.Change, error) {
	change, repository := a.input.Change, a.project.Repository
	if change.PullRequest != nil {
		pr, err := a.forge.PullRequest(ctx, repository, change.PullRequest.Number)
		if err != nil {
			return change, fmt.Errorf("read pull request %d: %w", change.PullRequest.Number, err)
		}
		if !pr.Open {
			return change, a.fail(fmt.Errorf("pull request %d is closed", pr.Number))
		}
		change.PullRequest, change.Commit = &pr, pr.Head
		return change, nil
	}
	if a.changesCluster() && a.project.Deploy == controlplane.DeployNever {
		return change, a.fail(errors.New("this project's policy is never to deploy"))
	}
	var err error
	if a.run.Kind == controlplane.RunRotate {
		change.Commit, err = a.w.Store.Deployed(ctx, a.project.Name)
		if err != nil || change.Commit != "" {
			return change, err
		}
	}
	change.Branch = a.project.Branch
	if change.Commit, err = a.forge.Head(ctx, repository, change.Branch); err != nil {
		return change, fmt.Errorf("find the head of the branch that the cluster follows: %w", err)
	}
	return change, nil
}

func (a *attempt) changesCluster() bool {
	return a.run.Kind == controlplane.RunDeploy || a.run.Kind == controlplane.RunRotate
}
