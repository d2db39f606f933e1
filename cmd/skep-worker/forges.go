package main

import (
	"context"
	"sync"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/integration"
	"skep/services/controlplane/integration/azuredevops"
	"skep/services/controlplane/integration/github"
	"skep/services/controlplane/integration/gitlab"
	"skep/services/controlplane/store"
)

// forges opens integrations. A client is kept for as long as its credentials
// are the same: it knows short-lived tokens and rate limits.
type forges struct {
	store       *store.Store
	credentials credentials
	registry    *integration.Registry

	mu   sync.Mutex
	open map[key]opened
}

type key struct {
	provider controlplane.Provider
	name     controlplane.Name
}

type opened struct {
	version int
	forge   controlplane.Forge
}

func newForges(s *store.Store, c credentials, o integration.Options) *forges {
	return &forges{
		store: s, credentials: c, open: map[key]opened{},
		registry: integration.NewRegistry(o, github.Driver(), azuredevops.Driver(), gitlab.Driver()),
	}
}

func (f *forges) Forge(ctx context.Context, p controlplane.Provider, name controlplane.Name) (controlplane.Forge, error) {
	in, err := f.store.Integration(ctx, p, name)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	at := key{p, name}
	if o, ok := f.open[at]; ok && o.version == in.Version {
		return o.forge, nil
	}
	forge, err := f.registry.Forge(p, in.Settings, f.credentials.of(p, name))
	if err != nil {
		return nil, err
	}
	f.open[at] = opened{in.Version, forge}
	return forge, nil
}

// credentials are those of integrations; what they refer to by op:// is read at
// each use. source is nil where there is no 1Password.
type credentials struct {
	store  *store.Store
	source secrets.Source
}

func (c credentials) of(p controlplane.Provider, name controlplane.Name) integration.Credentials {
	return integration.Resolve(func(ctx context.Context, use func(integration.Values) error) error {
		return c.store.Credentials(ctx, p, name, func(v map[string]secrets.Value) error { return use(v) })
	}, c.source)
}

// Credentials are for tasks.
func (c credentials) Credentials(ctx context.Context, p controlplane.Provider, name controlplane.Name, use func(map[string]secrets.Value) error) error {
	return c.of(p, name)(ctx, func(v integration.Values) error { return use(v) })
}
