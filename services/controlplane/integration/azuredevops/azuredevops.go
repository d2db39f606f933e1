// Package azuredevops is the forge Azure DevOps, Services and Server.
//
// It calls the REST API, version 7.1, itself: Microsoft's azure-devops-go-api
// writes a package variable with each answer (a data race between two
// requests), shares what it learns of one credential's server with all others,
// reads answers without bound and takes a sign-in page for a success.
//
// The personal access token needs the scopes Code (Read & write) and Code
// (Status) for reports and comments, Identity (Read) and Security (Manage) to
// look up what a person may do, and Build (Read & execute) where pipelines are
// run.
package azuredevops

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"skep/services/controlplane"
	"skep/services/controlplane/integration"
	"skep/services/controlplane/integration/rest"
)

// Names of the fields.
const (
	BaseURL      = "base_url"
	Organization = "organization"
	Token        = "token"
)

// Driver opens Azure DevOps.
func Driver() integration.Driver {
	return integration.Driver{
		Provider: controlplane.AzureDevOps,
		Fields: []integration.Field{
			{Name: BaseURL, Default: "https://dev.azure.com", Address: true, Help: "where the organizations are; for Azure DevOps Server https://<host>/<virtual directory>"},
			{Name: Organization, Required: true, Check: checkOrganization, Help: "the organization, or the collection of Azure DevOps Server: the first part of the path of its pages"},
			{Name: Token, Secret: true, Required: true, Check: integration.Token, Help: "a personal access token: User settings, Personal access tokens"},
		},
		Open: func(s integration.Settings, c integration.Credentials, o integration.Options) (integration.Account, error) {
			return Open(s, c, o)
		},
	}
}

func checkOrganization(value []byte) error {
	// What goes for the first part of a repository goes for it.
	if _, err := controlplane.ParseRepository(string(value) + "/x"); err != nil || strings.ContainsRune(string(value), '/') {
		return fmt.Errorf("%q is no name of an organization", value)
	}
	return nil
}

// Forge is one organization with one token.
type Forge struct {
	organization string
	api          rest.API
	archives     rest.API // which take longer and are larger
	identity     rest.API // who people are; a host of its own at the hosted service
}

var _ controlplane.Forge = (*Forge)(nil)

const (
	// maxArchive bounds a zipped tree.
	maxArchive = 512 << 20
	// archiveTimeout is for a whole archive.
	archiveTimeout = 10 * time.Minute
)

// Open makes a client and asks nothing.
func Open(s integration.Settings, credentials integration.Credentials, o integration.Options) (*Forge, error) {
	base, err := integration.ParseBase(s[BaseURL], o)
	if err != nil {
		return nil, fmt.Errorf("%s %w", BaseURL, err)
	}
	if err := checkOrganization([]byte(s[Organization])); err != nil {
		return nil, fmt.Errorf("%s: %w", Organization, err)
	}
	authorize := func(r *http.Request) error {
		return credentials(r.Context(), func(v integration.Values) error {
			token, err := v.Bytes(Token)
			if err != nil {
				return err
			}
			r.SetBasicAuth("", string(token))
			// Answer 401 instead of a redirect to the sign-in page.
			r.Header.Set("X-TFS-FedAuthRedirect", "Suppress")
			return nil
		})
	}
	api := func(base *url.URL, limit int64, timeout time.Duration) rest.API {
		config := integration.Config{Base: base, Authorize: authorize, Limit: limit, Timeout: timeout}
		return rest.API{Base: base, HTTP: integration.NewHTTP(config, o), Check: check}
	}
	return &Forge{
		organization: s[Organization],
		api:          api(base, 0, 0),
		archives:     api(base, maxArchive, archiveTimeout),
		identity:     api(identityBase(base), 0, 0),
	}, nil
}

// identityBase is where people are looked up: a host of its own at the hosted
// service, the same one at Azure DevOps Server.
func identityBase(base *url.URL) *url.URL {
	if base.Hostname() != "dev.azure.com" {
		return base
	}
	u := *base
	u.Host = "vssps." + u.Host
	return &u
}

// errSignIn is the answer to a token that the service does not even read.
var errSignIn = fmt.Errorf("%w: Azure DevOps answered with its sign-in page: the token is wrong, expired or revoked; make a new one and rotate the integration", controlplane.ErrDenied)

// check knows the sign-in page, which comes as a success or a redirect.
func check(r *http.Response) error {
	if r.StatusCode == http.StatusNonAuthoritativeInfo || r.StatusCode == http.StatusFound {
		r.Body.Close()
		return errSignIn
	}
	return integration.CheckResponse(r)
}

// version of the API; previews stand beside what they are for.
const version = "7.1"

func query(pairs ...string) url.Values {
	q := url.Values{"api-version": {version}}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return q
}

// many is around every list.
type many[T any] struct {
	Value []T `json:"value"`
}

// path is that of a repository's API: organization/project/name.
func (f *Forge) path(r controlplane.Repository, more ...string) (string, error) {
	parts := strings.Split(string(r), "/")
	switch {
	case len(parts) != 3:
		return "", fmt.Errorf("repository %q: at Azure DevOps it is organization/project/name", r)
	case !strings.EqualFold(parts[0], f.organization):
		return "", fmt.Errorf("%w: repository %q is not of the organization %s, whose token this is", controlplane.ErrDenied, r, f.organization)
	}
	return f.in(parts[1], append([]string{"git", "repositories", parts[2]}, more...)...), nil
}

// in is a path in a project's API; an empty one is the organization's.
func (f *Forge) in(project string, segments ...string) string {
	all := []string{f.organization}
	if project != "" {
		all = append(all, project)
	}
	all = append(append(all, "_apis"), segments...)
	return rest.Path(all...)
}

// Test asks who the token belongs to.
func (f *Forge) Test(ctx context.Context) (string, error) {
	me, err := f.whoAmI(ctx)
	if err != nil {
		return "", err
	}
	return me.name(), nil
}

// whoAmI is the identity that the token acts as.
func (f *Forge) whoAmI(ctx context.Context) (identity, error) {
	var answer struct {
		User identity `json:"authenticatedUser"`
	}
	_, err := f.api.Call(ctx, http.MethodGet, f.in("", "connectionData"), query("api-version", version+"-preview"), nil, &answer)
	if err != nil {
		return identity{}, fmt.Errorf("ask who the token belongs to: %w", err)
	}
	if answer.User.ID == "" || answer.User.ID == anonymous {
		return identity{}, fmt.Errorf("ask who the token belongs to: %w", errSignIn)
	}
	return answer.User, nil
}

// anonymous is who has no token at all, at organizations with public projects.
const anonymous = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"

var errNoComment = errors.New(`a comment at Azure DevOps is "<thread>/<comment>"`)
