package github

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"

	gh "github.com/google/go-github/v62/github"

	"skep/services/controlplane"
	"skep/services/controlplane/integration"
)

// Archive is GitHub's tarball. GitHub answers with the address of another
// server, which has its authority in its query and gets nothing else of us.
func (f *Forge) Archive(ctx context.Context, r controlplane.Repository, c controlplane.Commit) (io.ReadCloser, error) {
	body, err := f.archive(ctx, r, c)
	if err != nil {
		return nil, fmt.Errorf("archive of %s at %s: %w", r, c, err)
	}
	return body, nil
}

func (f *Forge) archive(ctx context.Context, r controlplane.Repository, c controlplane.Commit) (io.ReadCloser, error) {
	ctx, owner, name, err := f.call(ctx, r, read)
	if err != nil {
		return nil, err
	}
	if _, err := controlplane.ParseCommit(string(c)); err != nil {
		return nil, err
	}
	response, err := f.get(ctx, f.base.JoinPath("repos", owner, name, "tarball", string(c)))
	if err != nil {
		return nil, err
	}
	if response.StatusCode/100 == 3 {
		address, err := response.Request.URL.Parse(response.Header.Get("Location"))
		response.Body.Close()
		if err != nil || address.Host == "" {
			return nil, errors.New("GitHub sends to an address that is none") // which may hold a token
		}
		if response, err = f.get(ctx, address); err != nil {
			return nil, err
		}
	}
	if err := integration.CheckResponse(response); err != nil {
		return nil, err
	}
	return response.Body, nil
}

func (f *Forge) get(ctx context.Context, address *url.URL) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, integration.Cause(err)
	}
	response, err := f.archives.Do(request)
	return response, integration.Cause(err)
}

// Head is the commit that a branch points to.
func (f *Forge) Head(ctx context.Context, r controlplane.Repository, b controlplane.Branch) (controlplane.Commit, error) {
	ctx, owner, name, err := f.call(ctx, r, read)
	if err != nil {
		return "", err
	}
	if b == "" {
		found, _, err := f.api.Repositories.Get(ctx, owner, name)
		if err != nil {
			return "", fmt.Errorf("default branch of %s: %w", r, problem(err))
		}
		b = controlplane.Branch(found.GetDefaultBranch())
	}
	if _, err := controlplane.ParseBranch(string(b)); err != nil {
		return "", err
	}
	ref, _, err := f.api.Git.GetRef(ctx, owner, name, "heads/"+string(b))
	if err != nil {
		return "", fmt.Errorf("head of %s in %s: %w", b, r, problem(err))
	}
	return controlplane.ParseCommit(ref.GetObject().GetSHA())
}

func (f *Forge) PullRequest(ctx context.Context, r controlplane.Repository, number int) (controlplane.PullRequest, error) {
	ctx, owner, name, err := f.call(ctx, r, read)
	if err != nil {
		return controlplane.PullRequest{}, err
	}
	found, _, err := f.api.PullRequests.Get(ctx, owner, name, number)
	if err != nil {
		return controlplane.PullRequest{}, fmt.Errorf("pull request %d of %s: %w", number, r, problem(err))
	}
	return pullRequest(found)
}

func pullRequest(found *gh.PullRequest) (controlplane.PullRequest, error) {
	head, err := controlplane.ParseCommit(found.GetHead().GetSHA())
	if err != nil {
		return controlplane.PullRequest{}, err
	}
	branch, err := controlplane.ParseBranch(found.GetHead().GetRef())
	if err != nil {
		return controlplane.PullRequest{}, err
	}
	base, err := controlplane.ParseBranch(found.GetBase().GetRef())
	if err != nil {
		return controlplane.PullRequest{}, err
	}
	p := controlplane.PullRequest{
		Number: found.GetNumber(), Head: head, Branch: branch, Base: base, Author: found.GetUser().GetLogin(), Open: found.GetState() == "open",
		// A fork that was removed is null, and no less one.
		Fork: found.GetHead().Repo == nil || found.GetHead().GetRepo().GetID() != found.GetBase().GetRepo().GetID(),
	}
	for _, label := range found.Labels {
		p.Labels = append(p.Labels, label.GetName())
	}
	return p, nil
}

// login is a user's or a bot's. go-github puts it into a path as it is.
var login = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,99}(\[bot\])?$`)

// Permission asks for what GitHub counts together of teams and roles. Whoever
// GitHub does not know may nothing.
func (f *Forge) Permission(ctx context.Context, r controlplane.Repository, who string) (controlplane.Permission, error) {
	ctx, owner, name, err := f.call(ctx, r, read)
	if err != nil {
		return controlplane.PermissionNone, err
	}
	if !login.MatchString(who) {
		return controlplane.PermissionNone, fmt.Errorf("login %q is none of GitHub's", who)
	}
	found, _, err := f.api.Repositories.GetPermissionLevel(ctx, owner, name, who)
	err = problem(err)
	if errors.Is(err, controlplane.ErrNotFound) {
		return controlplane.PermissionNone, nil
	}
	if err != nil {
		return controlplane.PermissionNone, fmt.Errorf("permission of %s in %s: %w", who, r, err)
	}
	switch found.GetPermission() {
	case "admin":
		return controlplane.PermissionAdmin, nil
	case "write":
		return controlplane.PermissionWrite, nil
	case "read":
		return controlplane.PermissionRead, nil
	}
	return controlplane.PermissionNone, nil
}
