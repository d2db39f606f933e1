package store

import (
	"context"
	"errors"
	"fmt"
	"math"

	"skep/services/controlplane"
	"skep/services/controlplane/store/internal/db"
)

// PutPreview creates the preview of a pull request or replaces it. Its project
// must be there.
func (s *Store) PutPreview(ctx context.Context, p controlplane.Preview) (controlplane.Preview, error) {
	action := fmt.Sprintf("put preview %d of project %q", p.Number, p.Project)
	err := errors.Join(checkName(p.Project), checkNumber(p.Number), check(text{"the commit", string(p.Commit), 64}))
	for _, name := range append(p.Stacks[:len(p.Stacks):len(p.Stacks)], p.Hosts...) {
		err = errors.Join(err, check(text{"a stack or host", name, 253}))
	}
	if p.Expires.IsZero() {
		err = errors.Join(err, fmt.Errorf("%w: it never expires", controlplane.ErrInvalid))
	}
	if err != nil {
		return controlplane.Preview{}, fmt.Errorf("%s: %w", action, err)
	}
	params := db.PutPreviewParams{
		Project: string(p.Project), Number: int32(p.Number), Commit: string(p.Commit),
		Stacks: append([]string{}, p.Stacks...), Hosts: append([]string{}, p.Hosts...), Expires: p.Expires,
	}
	var row db.Preview
	err = s.do(ctx, action, func(q *db.Queries) (err error) {
		row, err = q.PutPreview(ctx, params)
		return err
	})
	if err != nil {
		return controlplane.Preview{}, err
	}
	return preview(row), nil
}

func checkNumber(n int) error {
	if n < 1 || n > math.MaxInt32 {
		return fmt.Errorf("%w: pull request %d", controlplane.ErrInvalid, n)
	}
	return nil
}

func preview(r db.Preview) controlplane.Preview {
	return controlplane.Preview{
		ID: r.ID, Project: controlplane.Name(r.Project), Number: int(r.Number), Commit: controlplane.Commit(r.Commit),
		Stacks: r.Stacks, Hosts: r.Hosts, Created: r.Created, Updated: r.Updated, Expires: r.Expires,
	}
}

// Preview is that of one pull request.
func (s *Store) Preview(ctx context.Context, project controlplane.Name, number int) (controlplane.Preview, error) {
	action := fmt.Sprintf("look up preview %d of project %q", number, project)
	if err := checkNumber(number); err != nil {
		return controlplane.Preview{}, fmt.Errorf("%s: %w", action, err)
	}
	var row db.Preview
	err := s.do(ctx, action, func(q *db.Queries) (err error) {
		row, err = q.Preview(ctx, string(project), int32(number))
		return err
	})
	if err != nil {
		return controlplane.Preview{}, err
	}
	return preview(row), nil
}

// ListPreviews returns those of a project, or of all if it is empty.
func (s *Store) ListPreviews(ctx context.Context, project controlplane.Name) (found []controlplane.Preview, err error) {
	err = s.do(ctx, "list previews", func(q *db.Queries) error {
		rows, err := all(func(last db.Preview) ([]db.Preview, error) {
			return q.ListPreviews(ctx, db.ListPreviewsParams{Project: string(project), AfterProject: last.Project, AfterNumber: last.Number, MaxRows: maxPage})
		})
		found = convert(rows, preview)
		return err
	})
	return found, err
}

// ExpiredPreviews returns those whose time is over, the longest first.
func (s *Store) ExpiredPreviews(ctx context.Context) (found []controlplane.Preview, err error) {
	err = s.do(ctx, "list expired previews", func(q *db.Queries) error {
		rows, err := q.ExpiredPreviews(ctx, maxPage)
		found = convert(rows, preview)
		return err
	})
	return found, err
}

// DeletePreview forgets the preview of a pull request.
func (s *Store) DeletePreview(ctx context.Context, project controlplane.Name, number int) error {
	action := fmt.Sprintf("delete preview %d of project %q", number, project)
	if err := checkNumber(number); err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	return s.do(ctx, action, func(q *db.Queries) error { return one(q.DeletePreview(ctx, string(project), int32(number))) })
}
