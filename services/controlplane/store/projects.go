package store

import (
	"context"
	"fmt"
	"time"

	"skep/services/controlplane"
	"skep/services/controlplane/store/internal/db"
)

// PutProject creates a project or replaces it. Its integration must be there.
func (s *Store) PutProject(ctx context.Context, p controlplane.Project) (controlplane.Project, error) {
	action := fmt.Sprintf("put project %q", p.Name)
	if err := checkProject(p); err != nil {
		return controlplane.Project{}, fmt.Errorf("%s: %w", action, err)
	}
	var row db.Project
	err := s.do(ctx, action, func(q *db.Queries) (err error) {
		row, err = q.PutProject(ctx, db.PutProjectParams{
			Name: string(p.Name), Provider: string(p.Provider), Integration: string(p.Integration), Repository: string(p.Repository),
			Branch: string(p.Branch), Folder: p.Folder, Cluster: string(p.Cluster), Deploy: string(p.Deploy),
			Previews: p.Previews.Enabled, PreviewLabel: p.Previews.Label, PreviewLifetime: int64(p.Previews.Lifetime),
			PreviewLimit: int32(p.Previews.Limit),
		})
		return err
	})
	if err != nil {
		return controlplane.Project{}, err
	}
	return project(row), nil
}

const maxPreviews = 10_000

func checkProject(p controlplane.Project) error {
	if err := checkNames(p.Provider, p.Name); err != nil {
		return err
	}
	for _, name := range []controlplane.Name{p.Integration, p.Cluster} {
		if err := checkName(name); err != nil {
			return err
		}
	}
	if _, err := controlplane.ParseRepository(string(p.Repository)); err != nil {
		return fmt.Errorf("%w: %w", controlplane.ErrInvalid, err)
	}
	if p.Branch != "" {
		if _, err := controlplane.ParseBranch(string(p.Branch)); err != nil {
			return fmt.Errorf("%w: %w", controlplane.ErrInvalid, err)
		}
	}
	if p.Previews.Lifetime < 0 || p.Previews.Limit < 0 || p.Previews.Limit > maxPreviews {
		return fmt.Errorf("%w: previews for %s, %d at once", controlplane.ErrInvalid, p.Previews.Lifetime, p.Previews.Limit)
	}
	return check(text{"the folder", p.Folder, 1000}, text{"the label", p.Previews.Label, 200})
}

func project(r db.Project) controlplane.Project {
	return controlplane.Project{
		ID: r.ID, Name: controlplane.Name(r.Name), Integration: controlplane.Name(r.Integration), Provider: controlplane.Provider(r.Provider),
		Repository: controlplane.Repository(r.Repository), Branch: controlplane.Branch(r.Branch), Folder: r.Folder,
		Cluster: controlplane.Name(r.Cluster), Deploy: controlplane.DeployPolicy(r.Deploy), Created: r.Created,
		Previews: controlplane.Previews{
			Enabled: r.Previews, Label: r.PreviewLabel, Lifetime: time.Duration(r.PreviewLifetime), Limit: int(r.PreviewLimit),
		},
	}
}

// Project is one of them.
func (s *Store) Project(ctx context.Context, name controlplane.Name) (controlplane.Project, error) {
	var row db.Project
	err := s.do(ctx, fmt.Sprintf("look up project %q", name), func(q *db.Queries) (err error) {
		row, err = q.Project(ctx, string(name))
		return err
	})
	if err != nil {
		return controlplane.Project{}, err
	}
	return project(row), nil
}

// ListProjects returns them by name.
func (s *Store) ListProjects(ctx context.Context) (projects []controlplane.Project, err error) {
	err = s.do(ctx, "list projects", func(q *db.Queries) error {
		rows, err := all(func(last db.Project) ([]db.Project, error) { return q.ListProjects(ctx, last.Name, maxPage) })
		projects = convert(rows, project)
		return err
	})
	return projects, err
}

// ProjectsOf returns those that a repository describes, by name.
func (s *Store) ProjectsOf(ctx context.Context, provider controlplane.Provider, repository controlplane.Repository) (projects []controlplane.Project, err error) {
	err = s.do(ctx, fmt.Sprintf("look up the projects of %s", repository), func(q *db.Queries) error {
		rows, err := q.ProjectsOf(ctx, string(provider), string(repository), maxPage)
		projects = convert(rows, project)
		return err
	})
	return projects, err
}

// DeleteProject removes a project; ErrConflict while it has previews.
func (s *Store) DeleteProject(ctx context.Context, name controlplane.Name) error {
	return s.do(ctx, fmt.Sprintf("delete project %q", name), func(q *db.Queries) error {
		return one(q.DeleteProject(ctx, string(name)))
	})
}
