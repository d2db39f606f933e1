package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"skep/services/controlplane"
)

// Previews keeps which there are.
type Previews interface {
	PutPreview(ctx context.Context, p controlplane.Preview) (controlplane.Preview, error)
	ListPreviews(ctx context.Context, project controlplane.Name) ([]controlplane.Preview, error)
	DeletePreview(ctx context.Context, project controlplane.Name, number int) error
}

// previewLifetime is a preview's where the project says nothing.
const previewLifetime = 72 * time.Hour

// previewName is a part of the preview's hosts: pr-12-app.example.com.
func previewName(number int) string { return fmt.Sprintf("pr-%d", number) }

// mayPreview says what stands in the way of a preview.
func (a *attempt) mayPreview(ctx context.Context) error {
	pr := a.input.Change.PullRequest
	switch {
	case pr == nil:
		return a.fail(errors.New("only pull requests have previews"))
	case pr.Fork:
		return a.fail(errors.New("a fork gets no preview"))
	case !a.project.Previews.Enabled:
		return a.fail(errors.New("this project has no previews: set previews.enabled"))
	case a.project.Previews.Limit == 0:
		return nil
	}
	there, err := a.w.Previews.ListPreviews(ctx, a.project.Name)
	if err != nil {
		return err
	}
	others := 0
	for _, p := range there {
		if p.Number != pr.Number {
			others++
		}
	}
	if others >= a.project.Previews.Limit {
		return a.fail(fmt.Errorf("there are %d previews already, as many as the project takes: close one with /skep destroy", others))
	}
	return nil
}

// follow has a preview that is there brought to what was pushed. One that the
// label asks for is followed by the dispatcher.
func (a *attempt) follow(ctx context.Context) error {
	change, label := a.input.Change, a.project.Previews.Label
	pr := change.PullRequest
	if change.Kind != controlplane.ChangeOpened || a.input.Command != nil || pr.Fork || !a.project.Previews.Enabled ||
		label != "" && slices.Contains(pr.Labels, label) || a.run.Kind == controlplane.RunPreview {
		return nil
	}
	there, err := a.w.Previews.ListPreviews(ctx, a.project.Name)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(there, func(p controlplane.Preview) bool { return p.Number == pr.Number }) {
		return nil
	}
	return a.start(ctx, "follow", controlplane.RunPreview, controlplane.Normal, a.project.PreviewQueue(pr.Number))
}

// ownRules puts the cluster file of the branch that is followed in the place of
// the pull request's, which else would say what its own preview may reach.
func (a *attempt) ownRules(ctx context.Context) (err error) {
	branch := a.project.Branch
	if branch == "" {
		branch = a.input.Change.PullRequest.Base
	}
	head, err := a.forge.Head(ctx, a.project.Repository, branch)
	if err != nil {
		return fmt.Errorf("find the head of %s: %w", branch, err)
	}
	dir, err := os.MkdirTemp("", "skep-run-")
	if err != nil {
		return fmt.Errorf("%w: %w", errLaunch, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := checkout(ctx, a.forge, a.project.Repository, head, dir); errors.Is(err, errTree) {
		return a.fail(err)
	} else if err != nil {
		return err
	}
	name := filepath.Join(filepath.FromSlash(a.project.Folder), "cluster.yaml")
	from, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer from.Close()
	content, err := from.ReadFile(name)
	if err != nil {
		return a.fail(fmt.Errorf("there is no %s on %s, which says what previews may reach", filepath.ToSlash(name), branch))
	}
	return a.replace("cluster.yaml", content)
}

// preview deploys the stacks under names of their own.
func (a *attempt) preview(ctx context.Context) error {
	number, lifetime := a.input.Change.PullRequest.Number, a.project.Previews.Lifetime
	if lifetime == 0 {
		lifetime = previewLifetime
	}
	a.deployed(ctx, controlplane.DeploymentBegun, "deploying", "")
	args := append([]string{"preview", "up", previewName(number)}, a.stacks()...)
	exit, err := a.ask(ctx, "preview", true, append(args, "--ttl", lifetime.String(), "--undo", "--json")...)
	if err != nil {
		return err
	}
	var said struct {
		Stacks  []string  `json:"stacks"`
		URLs    []string  `json:"urls"`
		Expires time.Time `json:"expires"`
	}
	if exit.Code != exitDone || json.Unmarshal(exit.Answer, &said) != nil {
		return a.broken("skep preview up", exit)
	}
	_, err = a.w.Previews.PutPreview(ctx, controlplane.Preview{
		Project: a.project.Name, Number: number, Commit: a.input.Change.Commit, Stacks: said.Stacks, Hosts: said.URLs, Expires: said.Expires,
	})
	if err != nil {
		return err
	}
	a.result.Deployed = true
	a.result.Summary = "preview until " + said.Expires.UTC().Format(time.DateTime) + " UTC"
	if len(said.URLs) > 0 {
		a.address = said.URLs[0]
		a.result.Plan = "- " + strings.Join(said.URLs, "\n- ") + "\n"
	}
	return nil
}

// destroy removes a preview, whether it is there or not.
func (a *attempt) destroy(ctx context.Context) error {
	pr := a.input.Change.PullRequest
	if pr == nil {
		return a.fail(errors.New("only pull requests have previews"))
	}
	exit, err := a.skep(ctx, "destroy", true, "preview", "down", previewName(pr.Number), "--yes")
	if err != nil {
		return err
	}
	if exit.Code != exitDone {
		return a.broken("skep preview down", exit)
	}
	if err := a.w.Previews.DeletePreview(ctx, a.project.Name, pr.Number); err != nil && !errors.Is(err, controlplane.ErrNotFound) {
		return err
	}
	a.deployed(ctx, controlplane.DeploymentGone, "", "")
	a.result.Summary = "the preview is removed"
	return nil
}
