package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/integration"
)

// Secret goes in and does not come out: it prints and encodes as [redacted].
type Secret struct{ secrets.Value }

// UnmarshalJSON takes a string. Copies of it stay behind in the decoder.
func (s *Secret) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return errors.New("a credential is a string") // the decoder's error quotes it
	}
	s.Value = secrets.NewValue([]byte(text))
	return nil
}

// Schema is for the OpenAPI document.
func (Secret) Schema(huma.Registry) *huma.Schema {
	longest := 64 << 10
	return &huma.Schema{Type: huma.TypeString, Format: "password", WriteOnly: true, MaxLength: &longest}
}

// IntegrationInput is an integration on its way in.
type IntegrationInput struct {
	Settings    map[string]string `json:"settings,omitempty" doc:"What is no secret: base URL, application id, organization"`
	Credentials map[string]Secret `json:"credentials,omitempty" doc:"All of them, or none to keep those that are there. op:// references are resolved at each use"`
}

// Integration is the credentials for an account at a provider, without them.
type Integration struct {
	Provider    controlplane.Provider `json:"provider"`
	Name        controlplane.Name     `json:"name"`
	Settings    map[string]string     `json:"settings"`
	Credentials []string              `json:"credentials" nullable:"false" doc:"The names of those that are kept"`
	Version     int                   `json:"version" doc:"Goes up with each change"`
	Created     time.Time             `json:"created"`
	Updated     time.Time             `json:"updated"`
	Tested      *time.Time            `json:"tested,omitempty" doc:"When the credentials last worked in a test"`
}

func showIntegration(in controlplane.Integration) Integration {
	return Integration{
		Provider: in.Provider, Name: in.Name, Settings: in.Settings, Credentials: append([]string{}, in.Fields...), Version: in.Version,
		Created: in.Created.UTC(), Updated: in.Updated.UTC(), Tested: timestamp(in.Tested),
	}
}

// Tested is what an account said of itself.
type Tested struct {
	Account string `json:"account" doc:"Whom the provider takes the credentials for"`
}

const testTimeout = 30 * time.Second

func (a *API) integrationRoutes() {
	const one = "/integrations/{provider}/{name}"
	register(a, operation{
		id: "integration.list", method: http.MethodGet, path: "/integrations", summary: "List integrations", scope: controlplane.ScopeRead,
	}, func(ctx context.Context, in *struct {
		Paging
		Provider controlplane.Provider `query:"provider" enum:"azuredevops,generic,github,gitlab,salesforce"`
	}) (*Reply[Page[Integration]], error) {
		found, err := a.options.Store.ListIntegrations(ctx, in.Provider)
		if err != nil {
			return nil, err
		}
		key := func(i controlplane.Integration) string { return string(i.Provider) + "/" + string(i.Name) }
		slices.SortFunc(found, func(x, y controlplane.Integration) int { return strings.Compare(key(x), key(y)) })
		return sorted(in.Paging, filters("integrations", string(in.Provider)), found, key, showIntegration)
	})
	register(a, operation{
		id: "integration.get", method: http.MethodGet, path: one, summary: "Show an integration", scope: controlplane.ScopeRead,
	}, func(ctx context.Context, in *ByProvider) (*Reply[Integration], error) {
		found, err := a.options.Store.Integration(ctx, in.Provider, in.Name)
		return reply(showIntegration(found), err)
	})
	register(a, operation{
		id: "integration.put", method: http.MethodPut, path: one, summary: "Create an integration, replace it, or change its credentials",
		scope: controlplane.ScopeIntegrations,
	}, a.putIntegration)
	register(a, operation{
		id: "integration.delete", method: http.MethodDelete, path: one, summary: "Delete an integration and its credentials",
		scope: controlplane.ScopeIntegrations, status: http.StatusNoContent, errors: []int{http.StatusConflict},
	}, func(ctx context.Context, in *ByProvider) (*nothing, error) {
		return done(a.options.Store.DeleteIntegration(ctx, in.Provider, in.Name))
	})
	register(a, operation{
		id: "integration.test", method: http.MethodPost, path: one + "/test", summary: "Ask the provider whether the credentials work",
		scope: controlplane.ScopeIntegrations, timeout: testTimeout, errors: []int{http.StatusBadGateway},
	}, a.testIntegration)
}

func (a *API) putIntegration(ctx context.Context, in *struct {
	ByProvider
	Body IntegrationInput
}) (*Reply[Integration], error) {
	values := make(integration.Values, len(in.Body.Credentials))
	defer func() {
		for _, v := range values {
			v.Wipe()
		}
	}()
	for name, v := range in.Body.Credentials {
		values[name] = v.Value
	}
	driver, err := a.options.Registry.Driver(in.Provider)
	if err != nil {
		return nil, refuse(at("path.provider", "%v", err))
	}
	check := func(values map[string]secrets.Value) error {
		return a.options.Registry.Check(in.Provider, in.Body.Settings, values)
	}
	if len(values) > 0 {
		err = check(values)
	} else if err = a.options.Store.Credentials(ctx, in.Provider, in.Name, check); errors.Is(err, controlplane.ErrNotFound) {
		err = check(nil)
	}
	var problems integration.Problems
	if errors.As(err, &problems) {
		return nil, refuse(fieldProblems(problems, driver)...)
	}
	if err != nil {
		return nil, err
	}
	stored, err := a.options.Store.PutIntegration(ctx, controlplane.Integration{
		Provider: in.Provider, Name: in.Name, Settings: in.Body.Settings,
	}, values)
	return reply(showIntegration(stored), err)
}

// fieldProblems says where in the body each of them is.
func fieldProblems(problems integration.Problems, d integration.Driver) []*huma.ErrorDetail {
	out := make([]*huma.ErrorDetail, 0, len(problems))
	for _, p := range problems {
		where := "body"
		if p.Field != "" {
			where = "body.settings." + p.Field
			if slices.ContainsFunc(d.Fields, func(f integration.Field) bool { return f.Name == p.Field && f.Secret }) {
				where = "body.credentials." + p.Field
			}
		}
		out = append(out, at(where, "%s", p.Message))
	}
	return out
}

func (a *API) testIntegration(ctx context.Context, in *ByProvider) (*Reply[Tested], error) {
	found, err := a.options.Store.Integration(ctx, in.Provider, in.Name)
	if err != nil {
		return nil, err
	}
	kept := a.credentials(in.Provider, in.Name)
	account, err := a.options.Registry.Open(in.Provider, found.Settings, kept.use)
	if err != nil {
		return nil, huma.Error422UnprocessableEntity(err.Error())
	}
	who, err := account.Test(ctx)
	if withheld := kept.withheld.Load(); err != nil && withheld != nil {
		return nil, huma.Error422UnprocessableEntity("The credentials cannot be used: " + (*withheld).Error())
	}
	if err != nil {
		return nil, a.testFailed(ctx, err)
	}
	if err := a.options.Store.IntegrationTested(ctx, in.Provider, in.Name); err != nil {
		return nil, err
	}
	return &Reply[Tested]{Body: Tested{Account: who}}, nil
}

// credentials are those of an integration, and why they could not be resolved:
// that is the caller's to know, and names fields and references but no value.
type credentials struct {
	use      integration.Credentials
	withheld atomic.Pointer[error]
}

func (a *API) credentials(p controlplane.Provider, n controlplane.Name) *credentials {
	c := &credentials{}
	c.use = func(ctx context.Context, use func(integration.Values) error) error {
		return a.options.Store.Credentials(ctx, p, n, func(v map[string]secrets.Value) error {
			used := false
			resolved := integration.Resolve(func(_ context.Context, use func(integration.Values) error) error { return use(v) }, a.options.Secrets)
			err := resolved(ctx, func(v integration.Values) error {
				used = true
				return use(v)
			})
			if !used && ctx.Err() == nil {
				c.withheld.Store(&err)
			}
			return err
		})
	}
	return c
}

// testFailed says what a provider said. What clients say of an answer is
// without credentials; of the rest, only the log has the words.
func (a *API) testFailed(ctx context.Context, err error) error {
	var patience *controlplane.RetryError
	var status *integration.StatusError
	switch {
	case errors.As(err, &patience):
		return err
	case errors.Is(err, controlplane.ErrDenied):
		return huma.Error422UnprocessableEntity("The provider refuses the credentials: " + err.Error())
	case errors.As(err, &status), errors.Is(err, integration.ErrRefused):
		return huma.Error502BadGateway(err.Error())
	}
	a.log.WarnContext(ctx, "an integration's test failed", "error", integration.Cause(err))
	return huma.Error502BadGateway("The provider could not be asked. The server's log has the reason under this problem's instance.")
}
