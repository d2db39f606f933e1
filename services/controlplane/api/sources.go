package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/integration"
	"skep/services/controlplane/webhook"
)

// SourceInput is a source on its way in.
type SourceInput struct {
	Integration controlplane.Name `json:"integration,omitempty" maxLength:"63" doc:"Whose credentials answer: statuses, comments. Empty for a source that answers nothing"`
	Secret      Secret            `json:"secret,omitzero" doc:"What the provider signs with. Without one that which is there stays"`
	Disabled    bool              `json:"disabled,omitempty"`
}

// Source is where deliveries come from, without its secret.
type Source struct {
	Provider    controlplane.Provider `json:"provider"`
	Name        controlplane.Name     `json:"name"`
	Integration controlplane.Name     `json:"integration,omitempty"`
	Disabled    bool                  `json:"disabled"`
	Path        string                `json:"path" doc:"Of the URL to give to the provider, on the server's public address"`
	Created     time.Time             `json:"created"`
}

func showSource(s controlplane.Source) Source {
	return Source{
		Provider: s.Provider, Name: s.Name, Integration: s.Integration, Disabled: s.Disabled,
		Path: webhook.Path + sourceKey(s), Created: s.Created.UTC(),
	}
}

func sourceKey(s controlplane.Source) string { return string(s.Provider) + "/" + string(s.Name) }

func (a *API) sourceRoutes() {
	const one = "/sources/{provider}/{name}"
	register(a, operation{
		id: "source.list", method: http.MethodGet, path: "/sources", summary: "List sources of webhooks", scope: controlplane.ScopeRead,
	}, func(ctx context.Context, in *Paging) (*Reply[Page[Source]], error) {
		found, err := a.options.Store.ListSources(ctx)
		if err != nil {
			return nil, err
		}
		slices.SortFunc(found, func(x, y controlplane.Source) int { return strings.Compare(sourceKey(x), sourceKey(y)) })
		return sorted(*in, "sources", found, sourceKey, showSource)
	})
	register(a, operation{
		id: "source.get", method: http.MethodGet, path: one, summary: "Show a source", scope: controlplane.ScopeRead,
	}, func(ctx context.Context, in *ByProvider) (*Reply[Source], error) {
		all, err := a.options.Store.ListSources(ctx) // nothing is decrypted to be shown
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(all, func(s controlplane.Source) bool { return sourceKey(s) == in.String() })
		if i < 0 {
			return nil, fmt.Errorf("source %s: %w", in, controlplane.ErrNotFound)
		}
		return &Reply[Source]{Body: showSource(all[i])}, nil
	})
	register(a, operation{
		id: "source.put", method: http.MethodPut, path: one, summary: "Create a source, replace it, or change its secret",
		scope: controlplane.ScopeIntegrations,
	}, a.putSource)
	register(a, operation{
		id: "source.delete", method: http.MethodDelete, path: one, summary: "Delete a source and its deliveries",
		scope: controlplane.ScopeIntegrations, status: http.StatusNoContent, errors: []int{http.StatusConflict},
	}, func(ctx context.Context, in *ByProvider) (*nothing, error) {
		err := a.options.Store.DeleteSource(ctx, in.Provider, in.Name)
		a.options.Webhooks.Forget(in.Provider, in.Name)
		return done(err)
	})
}

func (a *API) putSource(ctx context.Context, in *struct {
	ByProvider
	Body SourceInput
}) (*Reply[Source], error) {
	secret := in.Body.Secret.Value
	defer secret.Wipe()
	if in.Body.Integration != "" {
		if _, err := controlplane.ParseName(string(in.Body.Integration)); err != nil {
			return nil, refuse(at("body.integration", "%v", err))
		}
	}
	if secret.Len() == 0 {
		kept, err := a.options.Store.Source(ctx, in.Provider, in.Name)
		switch {
		case errors.Is(err, controlplane.ErrNotFound):
			return nil, refuse(at("body.secret", "is missing: without one nobody could tell deliveries from forged ones"))
		case err != nil:
			return nil, err
		}
		defer kept.Secret.Wipe()
		secret = kept.Secret
	} else if err := checkSecret(in.Provider, secret); err != nil {
		return nil, refuse(at("body.secret", "%v", err))
	}
	stored, err := a.options.Store.PutSource(ctx, controlplane.Source{
		Provider: in.Provider, Name: in.Name, Integration: in.Body.Integration, Secret: secret, Disabled: in.Body.Disabled,
	})
	// Also after an error: nobody knows how far it came.
	a.options.Webhooks.Forget(in.Provider, in.Name)
	return reply(showSource(stored), err)
}

func checkSecret(p controlplane.Provider, secret secrets.Value) error {
	content, err := secret.Bytes()
	if err != nil {
		return err
	}
	if integration.IsReference(content) {
		return errors.New("is an op:// reference: whoever knows it could sign with it, so give the value itself")
	}
	return webhook.CheckSecret(p, secret)
}
