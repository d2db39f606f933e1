package github

import (
	"context"
	"encoding/json"
	"fmt"

	gh "github.com/google/go-github/v62/github"

	"skep/services/controlplane"
	"skep/services/controlplane/integration"
)

var _ controlplane.Deployments = (*Forge)(nil)

// GitHub's words for what became of a deployment.
var deploymentStates = map[controlplane.DeploymentState]string{
	controlplane.DeploymentBegun: "in_progress", controlplane.DeploymentDone: "success", controlplane.DeploymentFailed: "failure",
	controlplane.DeploymentGone: "inactive",
}

// environment is where deployments are looked for: those of one task are ours.
type environment struct {
	owner, repo, name, task string
}

// payload tells the deployments of a commit apart.
type payload struct {
	Run string `json:"run"`
}

// Deployment makes one when it begins, and adds a status when that is news. One
// that is done ends those before it: GitHub does so itself for environments
// that are neither transient nor production.
func (f *Forge) Deployment(ctx context.Context, r controlplane.Repository, c controlplane.Commit, d controlplane.Deployment) error {
	ctx, owner, repo, err := f.call(ctx, r, deploy)
	if err != nil {
		return err
	}
	if _, err := controlplane.ParseCommit(string(c)); err != nil {
		return err
	}
	e := environment{owner, repo, d.Environment, task(d.Project)}
	if err := f.deployment(ctx, e, string(c), d); err != nil {
		return fmt.Errorf("tell of a deployment of %s at %s to %s: %w", r, c, d.Environment, problem(err))
	}
	return nil
}

func task(p controlplane.Name) string { return "deploy:" + string(p) }

func (f *Forge) deployment(ctx context.Context, e environment, commit string, d controlplane.Deployment) error {
	all, err := f.deployments(ctx, e)
	if err != nil {
		return err
	}
	var own *gh.Deployment
	for _, one := range all {
		var p payload
		if one.GetSHA() == commit && json.Unmarshal(one.Payload, &p) == nil && p.Run == d.Run {
			own = one
		}
	}
	switch {
	case own == nil && d.State != controlplane.DeploymentBegun:
		return nil // it never began
	case own == nil:
		own, _, err = f.api.Repositories.CreateDeployment(ctx, e.owner, e.repo, &gh.DeploymentRequest{
			Ref: &commit, Task: &e.task, Environment: &e.name, Payload: payload{d.Run},
			// The commit as it is, whatever other checks say of it: they were asked.
			AutoMerge: gh.Bool(false), RequiredContexts: &[]string{},
			TransientEnvironment: gh.Bool(d.Preview), ProductionEnvironment: gh.Bool(!d.Preview),
		})
		if err != nil {
			return err
		}
	}
	if err := f.state(ctx, e, own, d); err != nil || d.State != controlplane.DeploymentDone {
		return err
	}
	for _, older := range all {
		if older.GetID() >= own.GetID() {
			continue
		}
		last, err := f.last(ctx, e, older)
		if err != nil {
			return err
		}
		switch last.GetState() {
		case deploymentStates[controlplane.DeploymentGone]:
			return nil // and so are those before it
		case deploymentStates[controlplane.DeploymentFailed]:
			continue
		}
		if err := f.end(ctx, e, older); err != nil {
			return err
		}
	}
	return nil
}

// deployments are those of the environment, the newest first.
func (f *Forge) deployments(ctx context.Context, e environment) ([]*gh.Deployment, error) {
	found, _, err := f.api.Repositories.ListDeployments(ctx, e.owner, e.repo, &gh.DeploymentsListOptions{
		Environment: e.name, Task: e.task, ListOptions: gh.ListOptions{PerPage: perPage},
	})
	return found, err
}

// state adds a status unless it is the last one's.
func (f *Forge) state(ctx context.Context, e environment, own *gh.Deployment, d controlplane.Deployment) error {
	last, err := f.last(ctx, e, own)
	want := deploymentStates[d.State]
	known := last.GetState() == want && last.GetEnvironmentURL() == d.URL || last != nil && d.State == controlplane.DeploymentBegun
	if err != nil || known {
		return err
	}
	_, _, err = f.api.Repositories.CreateDeploymentStatus(ctx, e.owner, e.repo, own.GetID(), &gh.DeploymentStatusRequest{
		State: &want, Description: gh.String(integration.Line(d.Title, maxDescription)), LogURL: link(d.Log), EnvironmentURL: link(d.URL),
		AutoInactive: gh.Bool(false),
	})
	return err
}

// last is a deployment's newest status, or nil.
func (f *Forge) last(ctx context.Context, e environment, one *gh.Deployment) (*gh.DeploymentStatus, error) {
	found, _, err := f.api.Repositories.ListDeploymentStatuses(ctx, e.owner, e.repo, one.GetID(), &gh.ListOptions{PerPage: 1})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

// end makes a deployment inactive.
func (f *Forge) end(ctx context.Context, e environment, one *gh.Deployment) error {
	return f.state(ctx, e, one, controlplane.Deployment{State: controlplane.DeploymentGone})
}

// Retire makes all deployments to an environment inactive.
func (f *Forge) Retire(ctx context.Context, r controlplane.Repository, project controlplane.Name, name string) error {
	ctx, owner, repo, err := f.call(ctx, r, deploy)
	if err != nil {
		return err
	}
	e := environment{owner, repo, name, task(project)}
	all, err := f.deployments(ctx, e)
	for _, one := range all {
		if err == nil {
			err = f.end(ctx, e, one)
		}
	}
	if err != nil {
		return fmt.Errorf("tell that %s of %s is gone: %w", name, r, problem(err))
	}
	return nil
}
