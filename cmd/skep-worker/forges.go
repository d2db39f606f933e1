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
	store    *store.Store
	registry *integration.Registry

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

func newForges(s *store.Store, o integration.Options) *forges {
	return &forges{
		store: s, open: map[key]opened{},
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
	credentials := func(ctx context.Context, use func(integration.Values) error) error {
		return f.store.Credentials(ctx, p, name, func(v map[string]secrets.Value) error { return use(v) })
	}
	forge, err := f.registry.Forge(p, in.Settings, credentials)
	if err != nil {
		return nil, err
	}
	f.open[at] = opened{in.Version, forge}
	return forge, nil
}
