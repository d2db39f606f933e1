package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	gh "github.com/google/go-github/v62/github"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/integration"
)

// use is what a token is for. It may that and no more.
type use int

const (
	read   use = iota // the tree, branches, pull requests, who may what
	talk              // comments on pull requests
	react             // reactions to them, for which pull_requests is not enough
	report            // check runs
	deploy            // deployments
)

var (
	reads  = gh.String("read")
	writes = gh.String("write")

	// https://docs.github.com/rest/authentication/permissions-required-for-github-apps
	permissions = map[use]*gh.InstallationPermissions{
		read:   {Metadata: reads, Contents: reads, PullRequests: reads},
		talk:   {Metadata: reads, PullRequests: writes},
		react:  {Metadata: reads, Issues: writes},
		report: {Metadata: reads, Checks: writes},
		deploy: {Metadata: reads, Deployments: writes},
	}
)

// scope is what a token is good for: one repository and one use.
type scope struct {
	repository string
	use        use
}

type scopeKey struct{}

func within(ctx context.Context, s scope) context.Context {
	return context.WithValue(ctx, scopeKey{}, s)
}

// app signs in as an installation of a GitHub App. ADR 0050 says why
// ghinstallation does not.
type app struct {
	id           string
	installation int64
	credentials  integration.Credentials
	options      integration.Options
	api          *gh.Client // signed in as the App itself

	mu     sync.Mutex
	skew   time.Duration // GitHub's clock is ahead of ours by that
	slug   string
	tokens map[scope]*slot
}

// slot holds the token of a scope. Whoever has the turn may use it; so one
// refresh is in flight, and who waits for it can stop waiting.
type slot struct {
	turn  chan struct{}
	value secrets.Value
	until time.Time // to be used no longer
}

func newApp(base *url.URL, s integration.Settings, c integration.Credentials, o integration.Options) (*app, error) {
	installation, err := strconv.ParseInt(s[Installation], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%s is missing or no number", Installation)
	}
	a := &app{id: s[AppID], installation: installation, credentials: c, options: o, tokens: map[scope]*slot{}}
	a.api = newAPI(integration.Config{Base: base, Authorize: a.sign, Renew: a.setClock, Limited: limited, Idempotent: true}, o)
	return a, nil
}

const (
	// back is how far the start of a JWT lies back, as GitHub advises for clocks
	// that differ.
	back = time.Minute
	// lifetime of a JWT; GitHub takes ten minutes at most.
	lifetime = 5 * time.Minute
	// margin is how long before its end a token is used no more: a request and
	// its repetitions take less.
	margin = 2 * time.Minute
	// inTime is how far clocks may differ without being at fault.
	inTime = 5 * time.Second
)

// sign puts a JWT on a request. The key is there for that long.
func (a *app) sign(r *http.Request) error {
	return a.credentials(r.Context(), func(v integration.Values) error {
		pem, err := v.Bytes(PrivateKey)
		if err != nil {
			return err
		}
		key, err := parseKey(pem)
		if err != nil {
			return fmt.Errorf("%s %w", PrivateKey, err)
		}
		a.mu.Lock()
		now := a.options.Time().Add(a.skew)
		a.mu.Unlock()
		signed, err := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.RegisteredClaims{
			Issuer: a.id, IssuedAt: jwt.NewNumericDate(now.Add(-back)), ExpiresAt: jwt.NewNumericDate(now.Add(lifetime)),
		}).SignedString(key)
		if err != nil {
			return fmt.Errorf("sign as the App: %w", err)
		}
		r.Header.Set("Authorization", "Bearer "+signed)
		return nil
	})
}

// setClock goes by GitHub's clock after a JWT was refused, if they differ.
func (a *app) setClock(rejected *http.Response) bool {
	served, err := http.ParseTime(rejected.Header.Get("Date"))
	if err != nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	skew := served.Sub(a.options.Time())
	if (skew - a.skew).Abs() <= inTime {
		return false
	}
	a.skew = skew
	return true
}

func (a *app) authorize(r *http.Request) error {
	s, ok := r.Context().Value(scopeKey{}).(scope)
	if !ok {
		return errors.New("a request of an App without a scope") // a mistake of ours
	}
	return a.withToken(r.Context(), s, func(token []byte) { r.Header.Set("Authorization", "Bearer "+string(token)) })
}

func (a *app) slot(s scope) *slot {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tokens[s] == nil {
		a.tokens[s] = &slot{turn: make(chan struct{}, 1)}
	}
	return a.tokens[s]
}

func (a *app) withToken(ctx context.Context, s scope, use func([]byte)) error {
	kept := a.slot(s)
	select {
	case kept.turn <- struct{}{}:
		defer func() { <-kept.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if !a.options.Time().Before(kept.until) {
		if err := a.refresh(ctx, s, kept); err != nil {
			return err
		}
	}
	token, err := kept.value.Bytes()
	if err != nil {
		return err
	}
	use(token)
	return nil
}

// refresh has the slot's turn.
func (a *app) refresh(ctx context.Context, s scope, kept *slot) error {
	fresh, response, err := a.api.Apps.CreateInstallationToken(ctx, a.installation, &gh.InstallationTokenOptions{
		Repositories: []string{s.repository}, Permissions: permissions[s.use],
	})
	if err != nil {
		return fmt.Errorf("get a token for %s: %w", s.repository, a.refused(err))
	}
	if fresh.GetToken() == "" || fresh.ExpiresAt == nil {
		return fmt.Errorf("get a token for %s: the answer has none", s.repository)
	}
	now := a.options.Time()
	served := now
	if at, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		served = at
	}
	good := fresh.ExpiresAt.Sub(served) // by GitHub's clock alone
	kept.value.Wipe()
	kept.value = secrets.NewValue([]byte(fresh.GetToken()))
	kept.until = now.Add(max(good-margin, good/2))
	return nil
}

// refused says what GitHub's answer to the App itself means. None of them says
// that a repository or a pull request is not there.
func (a *app) refused(err error) error {
	err = problem(err)
	var status *integration.StatusError
	if !errors.As(err, &status) {
		return err
	}
	hint := ""
	switch status.Status {
	case http.StatusUnauthorized:
		hint = fmt.Sprintf("is %s a key of the App %s?", PrivateKey, a.id)
	case http.StatusNotFound:
		hint = fmt.Sprintf("is %d an installation of the App %s, and is it there still?", a.installation, a.id)
	case http.StatusUnprocessableEntity:
		hint = "the App needs " + strings.Join(needed(nil), ", ") + ", and the repository to be among those that it is installed for"
	default:
		return err
	}
	return fmt.Errorf("%w: %v (%s)", controlplane.ErrDenied, status, hint)
}

// renew forgets a token that GitHub refused: somebody may have ended it early.
func (a *app) renew(rejected *http.Response) bool {
	s, ok := rejected.Request.Context().Value(scopeKey{}).(scope)
	if !ok {
		return false
	}
	kept := a.slot(s)
	select {
	case kept.turn <- struct{}{}:
		defer func() { <-kept.turn }()
	case <-rejected.Request.Context().Done():
		return false
	}
	token, err := kept.value.Bytes()
	if err == nil && rejected.Request.Header.Get("Authorization") == "Bearer "+string(token) {
		kept.until = time.Time{}
	}
	return true // either it is forgotten now, or another request was faster
}

func (a *app) self(ctx context.Context, _ *gh.Client) (self, error) {
	id, err := strconv.ParseInt(a.id, 10, 64)
	if err != nil {
		return self{}, err
	}
	a.mu.Lock()
	slug := a.slug
	a.mu.Unlock()
	if slug == "" {
		found, _, err := a.api.Apps.Get(ctx, "")
		if err != nil {
			return self{}, a.refused(err)
		}
		slug = found.GetSlug()
		a.mu.Lock()
		a.slug = slug
		a.mu.Unlock()
	}
	return self{app: id, login: slug + "[bot]"}, nil
}

// test also finds what the installation may not do.
func (a *app) test(ctx context.Context, _ *gh.Client) (string, error) {
	found, _, err := a.api.Apps.Get(ctx, "")
	if err != nil {
		return "", a.refused(err)
	}
	installed, _, err := a.api.Apps.GetInstallation(ctx, a.installation)
	if err != nil {
		return "", a.refused(err)
	}
	if installed.SuspendedAt != nil {
		return "", fmt.Errorf("%w: the installation is suspended: an owner of %s can end that", controlplane.ErrDenied, installed.GetAccount().GetLogin())
	}
	if lacking := needed(installed.Permissions); len(lacking) > 0 {
		return "", fmt.Errorf("%w: the installation lacks %s: grant it on the App's page, and accept that on the installation's",
			controlplane.ErrDenied, strings.Join(lacking, ", "))
	}
	return fmt.Sprintf("App %s, installed for %s", found.GetSlug(), installed.GetAccount().GetLogin()), nil
}

// needed are the permissions that an installation does not have of those that
// Skep uses; all of them for nil.
func needed(has *gh.InstallationPermissions) []string {
	if has == nil {
		has = &gh.InstallationPermissions{}
	}
	var lacking []string
	for _, p := range []struct {
		name, level string
		has         *string
	}{{"contents", "read", has.Contents}, {"pull_requests", "write", has.PullRequests}, {"issues", "write", has.Issues}, {"checks", "write", has.Checks}} {
		if p.has == nil || !slices.Contains([]string{p.level, "write", "admin"}, *p.has) {
			lacking = append(lacking, p.name+": "+p.level)
		}
	}
	return lacking
}
