package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/integration"
	"skep/services/controlplane/webhook"
)

// SourceInput is a source on its way in.
type SourceInput struct {
	Integration controlplane.Name `json:"integration,omitempty" maxLength:"63" doc:"Whose credentials answer: statuses, comments. Empty for a source that answers nothing"`
	Task        controlplane.Name `json:"task,omitempty" maxLength:"63" doc:"What each delivery starts, once. It finds the body in the file /run/event/body. For generic and salesforce"`
	Secret      Secret            `json:"secret,omitzero" doc:"What the provider signs with. Without one that which is there stays"`
	Disabled    bool              `json:"disabled,omitempty"`
}

// Source is where deliveries come from, without its secret.
type Source struct {
	Provider    controlplane.Provider `json:"provider"`
	Name        controlplane.Name     `json:"name"`
	Integration controlplane.Name     `json:"integration,omitempty"`
	Task        controlplane.Name     `json:"task,omitempty"`
	Disabled    bool                  `json:"disabled"`
	Path        string                `json:"path" doc:"Of the URL to give to the provider, on the server's public address"`
	Created     time.Time             `json:"created"`
}

func showSource(s controlplane.Source) Source {
	return Source{
		Provider: s.Provider, Name: s.Name, Integration: s.Integration, Task: s.Task, Disabled: s.Disabled,
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
	var problems []*huma.ErrorDetail
	if in.Body.Integration != "" {
		if _, err := controlplane.ParseName(string(in.Body.Integration)); err != nil {
			problems = append(problems, at("body.integration", "%v", err))
		}
	}
	if in.Body.Task != "" {
		if _, err := controlplane.ParseName(string(in.Body.Task)); err != nil {
			problems = append(problems, at("body.task", "%v", err))
		}
		if in.Provider != controlplane.Generic && in.Provider != controlplane.Salesforce {
			problems = append(problems, at("body.task", "is for sources of %s and %s: what happens in a repository starts runs of projects", controlplane.Generic, controlplane.Salesforce))
		}
	}
	if secret.Len() > 0 {
		if err := checkSecret(in.Provider, secret); err != nil {
			problems = append(problems, at("body.secret", "%v", err))
		}
	}
	if len(problems) > 0 {
		return nil, refuse(problems...)
	}
	source := controlplane.Source{
		Provider: in.Provider, Name: in.Name, Integration: in.Body.Integration, Task: in.Body.Task, Secret: secret, Disabled: in.Body.Disabled,
	}
	var stored controlplane.Source
	var err error
	if secret.Len() > 0 {
		stored, err = a.options.Store.PutSource(ctx, source)
	} else {
		stored, err = a.changeSource(ctx, source)
	}
	// Also after an error: nobody knows how far it came.
	a.options.Webhooks.Forget(in.Provider, in.Name)
	return reply(showSource(stored), err)
}

// changeSource leaves the secret that is there as it is.
func (a *API) changeSource(ctx context.Context, source controlplane.Source) (controlplane.Source, error) {
	stored, err := a.options.Store.ChangeSource(ctx, source)
	if !errors.Is(err, controlplane.ErrNotFound) {
		return stored, err
	}
	// Either the source is not there, or what it refers to.
	kept, e := a.options.Store.Source(ctx, source.Provider, source.Name)
	if errors.Is(e, controlplane.ErrNotFound) {
		return stored, refuse(at("body.secret", "is missing: without one nobody could tell deliveries from forged ones"))
	}
	kept.Secret.Wipe()
	return stored, err
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
