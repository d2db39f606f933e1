// Package github speaks to GitHub and GitHub Enterprise, as an App or with a
// personal access token.
package github

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	gh "github.com/google/go-github/v62/github"

	"skep/services/controlplane"
	"skep/services/controlplane/integration"
)

// Names of the fields.
const (
	BaseURL      = "base_url"
	AppID        = "app_id"
	Installation = "installation_id"
	PrivateKey   = "private_key"
	Token        = "token"
)

// Driver is GitHub's.
func Driver() integration.Driver {
	return integration.Driver{
		Provider: controlplane.GitHub,
		Fields: []integration.Field{
			{Name: BaseURL, Default: "https://api.github.com/", Address: true, Help: "the API of a GitHub Enterprise Server: https://<host>/api/v3"},
			{Name: AppID, Check: integration.Digits, Help: "the App's number, on its page under Developer settings"},
			{Name: Installation, Check: integration.Digits, Help: "the number at the end of the address of the installation's page"},
			{Name: PrivateKey, Secret: true, Check: checkKey, Help: "the file that GitHub makes under the App's Private keys, whole"},
			{Name: Token, Secret: true, Check: integration.Token, Help: "a personal access token, where there is no App"},
		},
		Together: together,
		Open: func(s integration.Settings, c integration.Credentials, o integration.Options) (integration.Account, error) {
			return Open(s, c, o)
		},
	}
}

func together(s integration.Settings, v integration.Values) integration.Problems {
	var problems integration.Problems
	app := s[AppID] != "" || s[Installation] != "" || v.Has(PrivateKey)
	switch {
	case app && v.Has(Token):
		problems = append(problems, integration.Problem{Field: Token, Message: "there is an App too: leave one of them out, the App is the better one"})
	case app:
		for _, field := range []string{AppID, Installation, PrivateKey} {
			if s[field] == "" && !v.Has(field) {
				problems = append(problems, integration.Problem{Field: field, Message: "is missing: an App has app_id, installation_id and private_key"})
			}
		}
	case !v.Has(Token):
		problems = append(problems, integration.Problem{Message: "nothing to sign in with: set app_id, installation_id and private_key of a GitHub App, or the token of a user"})
	}
	return problems
}

// minKey is what RS256 wants at least, in bits (RFC 7518, 3.3).
const minKey = 2048

func checkKey(pem []byte) error {
	_, err := parseKey(pem)
	return err
}

func parseKey(pem []byte) (*rsa.PrivateKey, error) {
	key, err := jwt.ParseRSAPrivateKeyFromPEM(pem)
	if err != nil {
		// The parser's own words may repeat some of what it read.
		return nil, errors.New("is no RSA key in PEM: give the file that GitHub made, whole, with its BEGIN and END lines")
	}
	if key.N.BitLen() < minKey {
		return nil, fmt.Errorf("has %d bits: GitHub's keys have %d", key.N.BitLen(), minKey)
	}
	return key, nil
}

// Forge is GitHub with one integration's credentials.
type Forge struct {
	api      *gh.Client
	archives *http.Client
	base     *url.URL
	who      identity
}

var _ controlplane.Forge = (*Forge)(nil)

// identity is a way to sign in.
type identity interface {
	// authorize puts credentials on a request, good for the scope in its context.
	authorize(*http.Request) error
	renew(rejected *http.Response) bool
	// self finds out who we are.
	self(context.Context, *gh.Client) (self, error)
	test(context.Context, *gh.Client) (string, error)
}

// self tells our own comments from others'.
type self struct {
	app   int64  // check runs are this App's; 0: no App
	id    int64  // of the user; 0: unknown
	login string // of the App's bot, which nobody else can have
}

func (s self) wrote(u *gh.User) bool {
	if s.id != 0 {
		return u.GetID() == s.id
	}
	return u.GetType() == "Bot" && strings.EqualFold(u.GetLogin(), s.login)
}

const (
	maxArchive     = 512 << 20
	archiveTimeout = 10 * time.Minute
)

// Open makes a client; it asks nothing yet.
func Open(s integration.Settings, c integration.Credentials, o integration.Options) (*Forge, error) {
	base, err := integration.ParseBase(s[BaseURL], o)
	if err != nil {
		return nil, fmt.Errorf("%s %w", BaseURL, err)
	}
	f := &Forge{base: base, who: &user{credentials: c}}
	if s[AppID] != "" {
		if f.who, err = newApp(base, s, c, o); err != nil {
			return nil, err
		}
	}
	config := integration.Config{Base: base, Authorize: f.who.authorize, Renew: f.who.renew, Limited: limited, Gate: &integration.Gate{}}
	f.api = newAPI(config, o)
	config.Limit, config.Timeout = maxArchive, archiveTimeout
	f.archives = integration.NewHTTP(config, o)
	return f, nil
}

func newAPI(c integration.Config, o integration.Options) *gh.Client {
	api := gh.NewClient(integration.NewHTTP(c, o))
	api.BaseURL, api.UploadURL = c.Base, c.Base
	api.UserAgent = "skep"
	return api
}

// limited sees a secondary limit without Retry-After: then a minute is the
// least. https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
func limited(r *http.Response, body []byte) (time.Duration, bool) {
	refused := r.StatusCode == http.StatusForbidden || r.StatusCode == http.StatusTooManyRequests
	if !refused || r.Header.Get("Retry-After") != "" || r.Header.Get("X-RateLimit-Remaining") == "0" {
		return 0, false
	}
	return time.Minute, strings.Contains(string(body), "secondary rate limit") || strings.Contains(string(body), "abuse detection")
}

// part is an owner or a repository. go-github puts both into paths as they are.
var part = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)

func split(r controlplane.Repository) (owner, name string, err error) {
	owner, name, _ = strings.Cut(string(r), "/")
	for _, p := range []string{owner, name} {
		if !part.MatchString(p) || p == "." || p == ".." {
			return "", "", fmt.Errorf("repository %q: GitHub's are owner/name", r)
		}
	}
	return owner, name, nil
}

// call is what an operation on a repository starts with.
func (f *Forge) call(ctx context.Context, r controlplane.Repository, u use) (context.Context, string, string, error) {
	owner, name, err := split(r)
	return within(ctx, scope{repository: name, use: u}), owner, name, err
}

// Test says who we are.
func (f *Forge) Test(ctx context.Context) (string, error) {
	who, err := f.who.test(ctx, f.api)
	if err != nil {
		return "", fmt.Errorf("test credentials: %w", problem(err))
	}
	return who, nil
}

// problem makes an error of ours of one of go-github's.
func problem(err error) error {
	err = integration.Cause(err)
	var rate *gh.RateLimitError
	var abuse *gh.AbuseRateLimitError
	var answer *gh.ErrorResponse
	switch {
	case errors.As(err, &rate): // it knows of a limit that was reached before
		return &controlplane.RetryError{After: max(time.Second, time.Until(rate.Rate.Reset.Time)), Err: errors.New("the rate limit is used up")}
	case errors.As(err, &abuse):
		return &controlplane.RetryError{After: time.Minute, Err: errors.New("the secondary rate limit is exceeded")}
	case errors.As(err, &answer) && answer.Response != nil:
		return statusError(answer)
	}
	return err
}

func statusError(r *gh.ErrorResponse) error {
	words := r.Message
	for i, e := range r.Errors {
		if i < 3 {
			words += "; " + strings.TrimSpace(e.Field+" "+e.Message)
		}
	}
	e := &integration.StatusError{Status: r.Response.StatusCode, Message: integration.Line(words, 300)}
	if request := r.Response.Request; request != nil {
		e.Method, e.Path = request.Method, request.URL.Path
	}
	return e
}
