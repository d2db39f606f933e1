package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/store/internal/db"
)

const (
	maxFields     = 50
	maxCredential = 64 << 10
	maxReference  = 1000
)

// reference marks a value that is no secret but says where one is. It is kept
// as it is, and handed out as it is: whoever uses it resolves it.
var reference = []byte("op://")

// PutIntegration creates an integration or replaces it, with all of its
// credentials; with no values at all those that are kept stay. The values are
// the caller's to wipe.
func (s *Store) PutIntegration(ctx context.Context, in controlplane.Integration, values map[string]secrets.Value) (controlplane.Integration, error) {
	action := fmt.Sprintf("put integration %s/%s", in.Provider, in.Name)
	settings, params, err := s.integrationColumns(in, values)
	if err != nil {
		return controlplane.Integration{}, fmt.Errorf("%s: %w", action, err)
	}
	defer func() {
		for _, v := range params.Vals {
			clear(v)
		}
	}()
	err = s.inTx(ctx, action, func(q *db.Queries) error {
		row, err := q.PutIntegration(ctx, string(in.Provider), string(in.Name), settings)
		if err != nil || len(values) == 0 {
			return err
		}
		if err := q.ClearCredentials(ctx, row.ID); err != nil {
			return err
		}
		params.IntegrationID = row.ID
		return q.PutCredentials(ctx, params)
	})
	if err != nil {
		return controlplane.Integration{}, err
	}
	return s.Integration(ctx, in.Provider, in.Name)
}

func (s *Store) integrationColumns(in controlplane.Integration, values map[string]secrets.Value) ([]byte, db.PutCredentialsParams, error) {
	p := db.PutCredentialsParams{Key: s.keys.key, KeyID: s.keys.id}
	if err := checkNames(in.Provider, in.Name); err != nil {
		return nil, p, err
	}
	if err := checkMap("settings", in.Settings, 100, 10_000); err != nil {
		return nil, p, err
	}
	if in.Settings == nil {
		in.Settings = map[string]string{}
	}
	settings, err := encode(in.Settings)
	if err != nil {
		return nil, p, err
	}
	if len(values) > maxFields {
		return nil, p, fmt.Errorf("%w: %d credentials, %d are taken", controlplane.ErrInvalid, len(values), maxFields)
	}
	for _, field := range slices.Sorted(maps.Keys(values)) {
		content, err := values[field].Bytes()
		if err != nil {
			return nil, p, fmt.Errorf("credential %q: %w", field, err)
		}
		if err := check(text{"a credential's name", field, 63}); err != nil {
			return nil, p, err
		}
		if len(content) == 0 || len(content) > maxCredential {
			return nil, p, fmt.Errorf("%w: credential %q has %d bytes: 1 to %d are taken", controlplane.ErrInvalid, field, len(content), maxCredential)
		}
		where := ""
		if bytes.HasPrefix(content, reference) {
			where, content = string(content), nil
			if err := check(text{"a reference", where, maxReference}); err != nil {
				return nil, p, err
			}
		}
		p.Fields, p.Vals, p.Refs = append(p.Fields, field), append(p.Vals, append([]byte{}, content...)), append(p.Refs, where)
	}
	return settings, p, nil
}

func checkNames(provider controlplane.Provider, name controlplane.Name) error {
	if _, err := controlplane.ParseProvider(string(provider)); err != nil {
		return fmt.Errorf("%w: provider %q", controlplane.ErrInvalid, provider)
	}
	return checkName(name)
}

func checkName(name controlplane.Name) error {
	if _, err := controlplane.ParseName(string(name)); err != nil {
		return fmt.Errorf("%w: %w", controlplane.ErrInvalid, err)
	}
	return nil
}

// Integration is one of them, without its credentials.
func (s *Store) Integration(ctx context.Context, provider controlplane.Provider, name controlplane.Name) (controlplane.Integration, error) {
	action := fmt.Sprintf("look up integration %s/%s", provider, name)
	if err := checkNames(provider, name); err != nil {
		return controlplane.Integration{}, fmt.Errorf("%s: %w", action, err)
	}
	found, err := s.integrations(ctx, action, provider, name)
	if err != nil {
		return controlplane.Integration{}, err
	}
	if len(found) == 0 {
		return controlplane.Integration{}, fmt.Errorf("%s: %w", action, controlplane.ErrNotFound)
	}
	return found[0], nil
}

// ListIntegrations returns those of a provider, or of all if it is empty.
func (s *Store) ListIntegrations(ctx context.Context, provider controlplane.Provider) ([]controlplane.Integration, error) {
	return s.integrations(ctx, "list integrations", provider, "")
}

func (s *Store) integrations(ctx context.Context, action string, provider controlplane.Provider, name controlplane.Name) ([]controlplane.Integration, error) {
	var found []controlplane.Integration
	err := s.do(ctx, action, func(q *db.Queries) error {
		rows, err := all(func(last db.ListIntegrationsRow) ([]db.ListIntegrationsRow, error) {
			return q.ListIntegrations(ctx, db.ListIntegrationsParams{
				Provider: string(provider), Name: string(name), AfterProvider: last.Provider, AfterName: last.Name, MaxRows: maxPage,
			})
		})
		if err != nil {
			return err
		}
		found = make([]controlplane.Integration, 0, len(rows))
		for _, r := range rows {
			in := controlplane.Integration{
				Provider: controlplane.Provider(r.Provider), Name: controlplane.Name(r.Name), Fields: r.Fields,
				Version: int(r.Version), KeyID: r.KeyID, Created: r.Created, Updated: r.Updated, Tested: moment(r.Tested),
			}
			if err := json.Unmarshal(r.Settings, &in.Settings); err != nil {
				return fmt.Errorf("the settings of %s/%s: %w", r.Provider, r.Name, err)
			}
			found = append(found, in)
		}
		return nil
	})
	return found, err
}

// DeleteIntegration removes it with its credentials; ErrConflict while sources
// or projects need it.
func (s *Store) DeleteIntegration(ctx context.Context, provider controlplane.Provider, name controlplane.Name) error {
	return s.do(ctx, fmt.Sprintf("delete integration %s/%s", provider, name), func(q *db.Queries) error {
		return one(q.DeleteIntegration(ctx, string(provider), string(name)))
	})
}

// IntegrationTested notes that its credentials worked just now.
func (s *Store) IntegrationTested(ctx context.Context, provider controlplane.Provider, name controlplane.Name) error {
	return s.do(ctx, fmt.Sprintf("note the test of integration %s/%s", provider, name), func(q *db.Queries) error {
		return one(q.IntegrationTested(ctx, string(provider), string(name)))
	})
}

// Credentials decrypts the credentials of an integration for one operation and
// wipes them when it is over. References, op://, are handed over as such. What
// the driver buffered on the way is out of reach.
func (s *Store) Credentials(ctx context.Context, provider controlplane.Provider, name controlplane.Name, use func(map[string]secrets.Value) error) error {
	action := fmt.Sprintf("read the credentials of %s/%s", provider, name)
	values := map[string]secrets.Value{}
	wipe := func() {
		for _, v := range values {
			v.Wipe()
		}
	}
	defer wipe()
	err := s.do(ctx, action, func(q *db.Queries) error {
		rows, err := q.Credentials(ctx, db.CredentialsParams{
			KeyIds: s.keys.ids, Keys: s.keys.keys, Provider: string(provider), Name: string(name),
		})
		if err != nil {
			return err
		}
		var errs []error
		for _, r := range rows {
			if r.Reference != "" {
				r.Value = []byte(r.Reference)
			}
			values[r.Field] = secrets.NewValue(r.Value)
			if r.Value == nil {
				errs = append(errs, errNoKey(r.KeyID))
			}
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return err
	}
	if len(values) == 0 {
		// Either there is no such integration, or it needs none.
		if _, err := s.Integration(ctx, provider, name); err != nil {
			return err
		}
	}
	return use(values)
}

func errNoKey(id string) error {
	return fmt.Errorf("it is encrypted with the key %s, and this server was not given that", id)
}
