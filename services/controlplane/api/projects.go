package api

import (
	"context"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"skep/services/controlplane"
)

// ProjectInput is a project on its way in.
type ProjectInput struct {
	Provider    controlplane.Provider     `json:"provider" enum:"azuredevops,github,gitlab"`
	Integration controlplane.Name         `json:"integration" maxLength:"63"`
	Repository  controlplane.Repository   `json:"repository" maxLength:"400" doc:"owner/name" example:"acme/cluster"`
	Branch      controlplane.Branch       `json:"branch,omitempty" maxLength:"250" doc:"What the cluster follows; empty: the default branch"`
	Folder      string                    `json:"folder,omitempty" maxLength:"1000" doc:"Of cluster.yaml in the repository"`
	Cluster     controlplane.Name         `json:"cluster" maxLength:"63" doc:"One deploy at a time for each cluster and branch"`
	Deploy      controlplane.DeployPolicy `json:"deploy" enum:"never,manual,always" doc:"What a push to the branch may do"`
	Previews    Previews                  `json:"previews,omitzero"`
}

// Previews says whether pull requests get environments of their own.
type Previews struct {
	Enabled  bool     `json:"enabled,omitempty"`
	Label    string   `json:"label,omitempty" maxLength:"200" doc:"On the pull request, asks for one; empty: commands alone do"`
	Lifetime Duration `json:"lifetime,omitempty" doc:"Since the last push or command"`
	Limit    int      `json:"limit,omitempty" minimum:"0" maximum:"10000" doc:"At once"`
}

// Project binds a cluster to the repository that describes it.
type Project struct {
	Name controlplane.Name `json:"name"`
	ProjectInput
	Created time.Time `json:"created"`
}

// Duration is written as Go does, without zeros at its end: 90s, 1h30m.
type Duration time.Duration

// MarshalText writes it.
func (d Duration) MarshalText() ([]byte, error) {
	text := time.Duration(d).String()
	for _, zero := range []string{"m0s", "h0m"} {
		if whole, ok := strings.CutSuffix(text, zero); ok {
			text = whole + zero[:1]
		}
	}
	return []byte(text), nil
}

// UnmarshalText reads it. What is wrong is said where it is used: see problem.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil || parsed < 0 {
		parsed = -1
	}
	*d = Duration(parsed)
	return nil
}

func (d Duration) problem(where string, most time.Duration) []*huma.ErrorDetail {
	switch {
	case d < 0:
		return []*huma.ErrorDetail{at(where, "is no duration, as 90s or 1h30m are")}
	case time.Duration(d) > most:
		return []*huma.ErrorDetail{at(where, "is more than %s", most)}
	}
	return nil
}

// Schema is for the OpenAPI document.
func (Duration) Schema(huma.Registry) *huma.Schema {
	longest := 40
	return &huma.Schema{Type: huma.TypeString, MaxLength: &longest, Examples: []any{"1h30m"}}
}

func showProject(p controlplane.Project) Project {
	return Project{
		Name: p.Name, Created: p.Created.UTC(), ProjectInput: ProjectInput{
			Provider: p.Provider, Integration: p.Integration, Repository: p.Repository, Branch: p.Branch, Folder: p.Folder, Cluster: p.Cluster,
			Deploy: p.Deploy, Previews: Previews{
				Enabled: p.Previews.Enabled, Label: p.Previews.Label, Lifetime: Duration(p.Previews.Lifetime), Limit: p.Previews.Limit,
			},
		},
	}
}

// A preview that nobody came back to for a quarter of a year is forgotten.
const longestPreview = 90 * 24 * time.Hour

// project is the input as the domain has it, with all that is wrong at once.
func (in ProjectInput) project(name controlplane.Name) (controlplane.Project, error) {
	var problems []*huma.ErrorDetail
	complain := func(where string, err error) {
		if err != nil {
			problems = append(problems, at(where, "%v", err))
		}
	}
	_, err := controlplane.ParseName(string(in.Integration))
	complain("body.integration", err)
	_, err = controlplane.ParseName(string(in.Cluster))
	complain("body.cluster", err)
	_, err = controlplane.ParseRepository(string(in.Repository))
	complain("body.repository", err)
	if in.Branch != "" {
		_, err = controlplane.ParseBranch(string(in.Branch))
		complain("body.branch", err)
	}
	// A backslash is a separator elsewhere.
	if in.Folder != "" && (!fs.ValidPath(in.Folder) || strings.ContainsFunc(in.Folder, func(r rune) bool { return r < ' ' || r == '\\' || r == 0x7f })) {
		problems = append(problems, at("body.folder", "is no path in a repository: write it with slashes, without ., .. and one at an end"))
	}
	problems = append(problems, in.Previews.Lifetime.problem("body.previews.lifetime", longestPreview)...)
	if len(problems) > 0 {
		return controlplane.Project{}, refuse(problems...)
	}
	return controlplane.Project{
		Name: name, Integration: in.Integration, Provider: in.Provider, Repository: in.Repository, Branch: in.Branch, Folder: in.Folder,
		Cluster: in.Cluster, Deploy: in.Deploy, Previews: controlplane.Previews{
			Enabled: in.Previews.Enabled, Label: in.Previews.Label, Lifetime: time.Duration(in.Previews.Lifetime), Limit: in.Previews.Limit,
		},
	}, nil
}

func (a *API) projectRoutes() {
	const one = "/projects/{name}"
	register(a, operation{
		id: "project.list", method: http.MethodGet, path: "/projects", summary: "List projects", scope: controlplane.ScopeRead,
	}, func(ctx context.Context, in *Paging) (*Reply[Page[Project]], error) {
		found, err := a.options.Store.ListProjects(ctx)
		if err != nil {
			return nil, err
		}
		key := func(p controlplane.Project) string { return string(p.Name) }
		slices.SortFunc(found, func(x, y controlplane.Project) int { return strings.Compare(key(x), key(y)) })
		return sorted(*in, "projects", found, key, showProject)
	})
	register(a, operation{
		id: "project.get", method: http.MethodGet, path: one, summary: "Show a project", scope: controlplane.ScopeRead,
	}, func(ctx context.Context, in *ByName) (*Reply[Project], error) {
		found, err := a.options.Store.Project(ctx, in.Name)
		return reply(showProject(found), err)
	})
	register(a, operation{
		id: "project.put", method: http.MethodPut, path: one, summary: "Create a project or replace it", scope: controlplane.ScopeIntegrations,
	}, func(ctx context.Context, in *struct {
		ByName
		Body ProjectInput
	}) (*Reply[Project], error) {
		p, err := in.Body.project(in.Name)
		if err != nil {
			return nil, err
		}
		stored, err := a.options.Store.PutProject(ctx, p)
		return reply(showProject(stored), err)
	})
	register(a, operation{
		id: "project.delete", method: http.MethodDelete, path: one, summary: "Delete a project that has no previews",
		scope: controlplane.ScopeIntegrations, status: http.StatusNoContent, errors: []int{http.StatusConflict},
	}, func(ctx context.Context, in *ByName) (*nothing, error) {
		return done(a.options.Store.DeleteProject(ctx, in.Name))
	})
}
