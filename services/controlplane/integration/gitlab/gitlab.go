// Package gitlab is the forge GitLab, gitlab.com and self-managed.
//
// It calls the REST API, version 4, itself, over the transport that all clients
// share. The token, a personal, project or group access token, needs the scope
// api and at least the role Developer; a status on a protected branch asks for
// Maintainer.
package gitlab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"skep/services/controlplane"
	"skep/services/controlplane/integration"
	"skep/services/controlplane/integration/rest"
)

// Names of the fields.
const (
	BaseURL = "base_url"
	Token   = "token"
)

// Driver opens GitLab.
func Driver() integration.Driver {
	return integration.Driver{
		Provider: controlplane.GitLab,
		Fields: []integration.Field{
			{Name: BaseURL, Default: "https://gitlab.com", Address: true, Help: "where GitLab is, with its path below the host if it has one"},
			{Name: Token, Secret: true, Required: true, Check: integration.Token, Help: "an access token with the scope api: Settings, Access tokens, of the project, its group or a user of Skep's own"},
		},
		Open: func(s integration.Settings, c integration.Credentials, o integration.Options) (integration.Account, error) {
			return Open(s, c, o)
		},
	}
}

// Forge is one GitLab with one token.
type Forge struct {
	api      rest.API
	archives rest.API // which take longer and are larger
	now      func() time.Time
}

var _ controlplane.Forge = (*Forge)(nil)

const (
	// maxArchive bounds a gzipped tree.
	maxArchive = 512 << 20
	// archiveTimeout is for a whole archive.
	archiveTimeout = 10 * time.Minute
	// maxPages bounds a walk through a list, perPage is the most that a page has.
	maxPages = 100
	perPage  = "100"
)

// Open makes a client and asks nothing.
func Open(s integration.Settings, credentials integration.Credentials, o integration.Options) (*Forge, error) {
	base, err := integration.ParseBase(s[BaseURL], o)
	if err != nil {
		return nil, fmt.Errorf("%s %w", BaseURL, err)
	}
	base = base.JoinPath("api/v4/")
	authorize := func(r *http.Request) error {
		return credentials(r.Context(), func(v integration.Values) error {
			token, err := v.Bytes(Token)
			if err == nil {
				r.Header.Set("Authorization", "Bearer "+string(token))
			}
			return err
		})
	}
	api := func(limit int64, timeout time.Duration) rest.API {
		config := integration.Config{Base: base, Authorize: authorize, Limit: limit, Timeout: timeout}
		return rest.API{Base: base, HTTP: integration.NewHTTP(config, o)}
	}
	return &Forge{api: api(0, 0), archives: api(maxArchive, archiveTimeout), now: o.Time}, nil
}

func project(r controlplane.Repository, segments ...string) string {
	return rest.Path(append([]string{"projects", string(r)}, segments...)...)
}

func (f *Forge) get(ctx context.Context, path string, q url.Values, out any) error {
	_, err := f.api.Call(ctx, http.MethodGet, path, q, nil, out)
	return err
}

type user struct {
	ID       int64  `json:"id"`
	Username string `json:"username"`
	State    string `json:"state"` // active, blocked, ...
}

// Test asks who the token belongs to; a project's has a user of its own.
func (f *Forge) Test(ctx context.Context) (string, error) {
	me, err := f.whoAmI(ctx)
	return me.Username, err
}

func (f *Forge) whoAmI(ctx context.Context) (user, error) {
	var me user
	if err := f.get(ctx, "user", nil, &me); err != nil {
		return user{}, fmt.Errorf("ask who the token belongs to: %w", err)
	}
	if me.ID == 0 || me.Username == "" {
		return user{}, errors.New("ask who the token belongs to: the answer names nobody")
	}
	return me, nil
}

// Archive is as GitLab makes it.
func (f *Forge) Archive(ctx context.Context, r controlplane.Repository, c controlplane.Commit) (io.ReadCloser, error) {
	body, err := f.archives.Open(ctx, project(r, "repository", "archive.tar.gz"), url.Values{"sha": {string(c)}}, "application/octet-stream")
	if err != nil {
		return nil, fmt.Errorf("archive of %s at %s: %w", r, c, err)
	}
	return body, nil
}

func (f *Forge) Head(ctx context.Context, r controlplane.Repository, b controlplane.Branch) (controlplane.Commit, error) {
	if b == "" {
		var found struct {
			Default controlplane.Branch `json:"default_branch"`
		}
		if err := f.get(ctx, project(r), nil, &found); err != nil {
			return "", fmt.Errorf("default branch of %s: %w", r, err)
		}
		b = found.Default
	}
	if _, err := controlplane.ParseBranch(string(b)); err != nil {
		return "", err
	}
	var branch struct {
		Commit struct {
			ID string `json:"id"`
		} `json:"commit"`
	}
	if err := f.get(ctx, project(r, "repository", "branches", string(b)), nil, &branch); err != nil {
		return "", fmt.Errorf("branch %s of %s: %w", b, r, err)
	}
	return controlplane.ParseCommit(branch.Commit.ID)
}

// PullRequest is a merge request, by the number that its project gave it.
func (f *Forge) PullRequest(ctx context.Context, r controlplane.Repository, number int) (controlplane.PullRequest, error) {
	pull, err := f.mergeRequest(ctx, r, number)
	if err != nil {
		return controlplane.PullRequest{}, fmt.Errorf("merge request %d of %s: %w", number, r, err)
	}
	return pull, nil
}

func (f *Forge) mergeRequest(ctx context.Context, r controlplane.Repository, number int) (controlplane.PullRequest, error) {
	none := controlplane.PullRequest{}
	var m struct {
		Number int      `json:"iid"`
		Head   string   `json:"sha"`
		Branch string   `json:"source_branch"`
		Base   string   `json:"target_branch"`
		Source int64    `json:"source_project_id"` // null once the fork was deleted
		Target int64    `json:"target_project_id"`
		Author user     `json:"author"`
		Labels []string `json:"labels"`
		State  string   `json:"state"` // opened, closed, locked, merged
	}
	if err := f.get(ctx, project(r, "merge_requests", strconv.Itoa(number)), nil, &m); err != nil {
		return none, err
	}
	head, err := controlplane.ParseCommit(m.Head)
	if err != nil {
		return none, err
	}
	branch, err := controlplane.ParseBranch(m.Branch)
	if err != nil {
		return none, err
	}
	base, err := controlplane.ParseBranch(m.Base)
	if err != nil {
		return none, err
	}
	return controlplane.PullRequest{
		Number: m.Number, Head: head, Branch: branch, Base: base, Fork: m.Source == 0 || m.Source != m.Target,
		Author: m.Author.Username, Labels: m.Labels, Open: m.State == "opened",
	}, nil
}
