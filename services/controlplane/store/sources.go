package store

import (
	"bytes"
	"context"
	"fmt"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/store/internal/db"
)

// PutSource creates a source or replaces it. Its secret is what verifies
// deliveries, so there is none without: it is stored encrypted, and a reference
// is refused, for whoever knows it could sign with it.
func (s *Store) PutSource(ctx context.Context, in controlplane.Source) (controlplane.Source, error) {
	action := fmt.Sprintf("put source %s/%s", in.Provider, in.Name)
	refuse := func(err error) (controlplane.Source, error) {
		return controlplane.Source{}, fmt.Errorf("%s: %w", action, err)
	}
	if err := checkNames(in.Provider, in.Name); err != nil {
		return refuse(err)
	}
	secret, err := in.Secret.Bytes()
	switch {
	case err != nil:
		return refuse(err)
	case len(secret) == 0:
		return refuse(fmt.Errorf("%w: without a secret nobody could tell its deliveries from forged ones", controlplane.ErrInvalid))
	case len(secret) > maxCredential:
		return refuse(fmt.Errorf("%w: the secret has %d bytes, %d are taken", controlplane.ErrInvalid, len(secret), maxCredential))
	case bytes.HasPrefix(secret, reference):
		return refuse(fmt.Errorf("%w: the secret is a reference: resolve it first", controlplane.ErrInvalid))
	}
	err = s.do(ctx, action, func(q *db.Queries) error {
		row, err := q.PutSource(ctx, db.PutSourceParams{
			Provider: string(in.Provider), Name: string(in.Name), Integration: string(in.Integration),
			Task: string(in.Task), Value: secret, Key: s.keys.key, KeyID: s.keys.id, Disabled: in.Disabled,
		})
		in.ID, in.Created = row.ID, row.Created
		return err
	})
	if err != nil {
		return controlplane.Source{}, err
	}
	in.Secret = secrets.Value{}
	return in, nil
}

// ChangeSource replaces all of a source but its secret; ErrNotFound if it is
// not there.
func (s *Store) ChangeSource(ctx context.Context, in controlplane.Source) (controlplane.Source, error) {
	action := fmt.Sprintf("change source %s/%s", in.Provider, in.Name)
	if err := checkNames(in.Provider, in.Name); err != nil {
		return controlplane.Source{}, fmt.Errorf("%s: %w", action, err)
	}
	err := s.do(ctx, action, func(q *db.Queries) error {
		row, err := q.ChangeSource(ctx, db.ChangeSourceParams{
			Provider: string(in.Provider), Name: string(in.Name), Integration: string(in.Integration), Task: string(in.Task), Disabled: in.Disabled,
		})
		in.ID, in.Created = row.ID, row.Created
		return err
	})
	if err != nil {
		return controlplane.Source{}, err
	}
	in.Secret = secrets.Value{}
	return in, nil
}

// Source is one of them with its secret, which the caller wipes.
func (s *Store) Source(ctx context.Context, provider controlplane.Provider, name controlplane.Name) (controlplane.Source, error) {
	action := fmt.Sprintf("look up source %s/%s", provider, name)
	if err := checkNames(provider, name); err != nil {
		return controlplane.Source{}, fmt.Errorf("%s: %w", action, err)
	}
	var found controlplane.Source
	err := s.do(ctx, action, func(q *db.Queries) error {
		r, err := q.Source(ctx, db.SourceParams{KeyIds: s.keys.ids, Keys: s.keys.keys, Provider: string(provider), Name: string(name)})
		if err != nil {
			return err
		}
		if len(r.Value) == 0 {
			return errNoKey(r.KeyID)
		}
		found = source(db.ListSourcesRow{
			ID: r.ID, Provider: r.Provider, Name: r.Name, Integration: r.Integration, Task: r.Task, Disabled: r.Disabled,
			Created: r.Created,
		})
		found.Secret = secrets.NewValue(r.Value)
		return nil
	})
	return found, err
}

// SourceByID is one of them without its secret.
func (s *Store) SourceByID(ctx context.Context, id int64) (controlplane.Source, error) {
	var found controlplane.Source
	err := s.do(ctx, fmt.Sprintf("look up source %d", id), func(q *db.Queries) error {
		r, err := q.SourceByID(ctx, id)
		found = source(db.ListSourcesRow(r))
		return err
	})
	if err != nil {
		return controlplane.Source{}, err
	}
	return found, nil
}

func source(r db.ListSourcesRow) controlplane.Source {
	out := controlplane.Source{
		ID: r.ID, Provider: controlplane.Provider(r.Provider), Name: controlplane.Name(r.Name), Disabled: r.Disabled, Created: r.Created,
	}
	if r.Integration != nil {
		out.Integration = controlplane.Name(*r.Integration)
	}
	if r.Task != nil {
		out.Task = controlplane.Name(*r.Task)
	}
	return out
}

// ListSources returns them without secrets.
func (s *Store) ListSources(ctx context.Context) (sources []controlplane.Source, err error) {
	err = s.do(ctx, "list sources", func(q *db.Queries) error {
		rows, err := all(func(last db.ListSourcesRow) ([]db.ListSourcesRow, error) {
			return q.ListSources(ctx, last.Provider, last.Name, maxPage)
		})
		sources = convert(rows, source)
		return err
	})
	return sources, err
}

// DeleteSource removes it with its deliveries.
func (s *Store) DeleteSource(ctx context.Context, provider controlplane.Provider, name controlplane.Name) error {
	return s.do(ctx, fmt.Sprintf("delete source %s/%s", provider, name), func(q *db.Queries) error {
		return one(q.DeleteSource(ctx, string(provider), string(name)))
	})
}
