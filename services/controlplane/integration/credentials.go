package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"skep/secrets"
)

// Credentials hands over the values of one integration for one operation. They
// are wiped when use returns: use keeps none.
type Credentials func(ctx context.Context, use func(Values) error) error

// Bytes is the content of one credential; an error if it is not there.
func (v Values) Bytes(name string) ([]byte, error) {
	content, err := v[name].Bytes()
	if err != nil {
		return nil, fmt.Errorf("credential %s: %w", name, err)
	}
	if len(content) == 0 {
		return nil, fmt.Errorf("credential %s is not set", name)
	}
	return content, nil
}

// Has says whether a credential is there.
func (v Values) Has(name string) bool { return v[name].Len() > 0 }

// IsReference says that a credential is an op:// reference to the value.
func IsReference(value []byte) bool { return bytes.HasPrefix(value, []byte("op://")) }

// Resolve puts what references stand for in their place, at each use. source is
// nil where there is no 1Password.
func Resolve(credentials Credentials, source secrets.Source) Credentials {
	return func(ctx context.Context, use func(Values) error) error {
		return credentials(ctx, func(kept Values) error {
			resolved, err := resolve(ctx, kept, source)
			if err != nil {
				return err
			}
			defer resolved.wipe()
			all := maps.Clone(kept)
			maps.Copy(all, resolved)
			return use(all)
		})
	}
}

func resolve(ctx context.Context, kept Values, source secrets.Source) (Values, error) {
	references := map[string]secrets.Reference{}
	for name, value := range kept {
		content, err := value.Bytes()
		if err != nil {
			return nil, fmt.Errorf("credential %s: %w", name, err)
		}
		if !IsReference(content) {
			continue
		}
		if references[name], err = secrets.ParseReference(string(content)); err != nil {
			return nil, fmt.Errorf("credential %s: %w", name, err)
		}
	}
	if len(references) == 0 {
		return nil, nil
	}
	if source == nil {
		return nil, errors.New("credentials are op:// references and this server has no 1Password: set the values themselves, or give it the address of 1Password Connect")
	}
	answers := source.Read(ctx, slices.Collect(maps.Values(references)))
	defer answers.Wipe()
	if err := answers.Err(); err != nil {
		return nil, err
	}
	resolved := make(Values, len(references))
	for name, r := range references {
		// Two names may share a reference, and so a value.
		value, err := answers[r].Value.Clone()
		if err != nil {
			resolved.wipe()
			return nil, fmt.Errorf("credential %s: %w", name, err)
		}
		resolved[name] = value
	}
	return resolved, nil
}

func (v Values) wipe() {
	for _, value := range v {
		value.Wipe()
	}
}

// Keep hands out what open gives, and wipes it afterwards: for credentials that
// are not in a store.
func Keep(open func() Values) Credentials {
	return func(_ context.Context, use func(Values) error) error {
		values := open()
		defer values.wipe()
		return use(values)
	}
}
