package salesforce

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"skep/secrets"
	"skep/services/controlplane/integration"
	"skep/services/controlplane/integration/rest"
)

// Session is what a task needs to call the organization's API.
type Session struct {
	InstanceURL string
	AccessToken secrets.Value // the holder's, to wipe
	// Expires is when it may be over at the earliest.
	Expires time.Time
}

const (
	// lifetime is the shortest session timeout that an organization can set.
	// Salesforce does not say which one it has.
	lifetime = 15 * time.Minute
	// least is what a session that is handed out has left.
	least = 10 * time.Minute
	// assertionLifetime stays below the three minutes that Salesforce takes.
	assertionLifetime = 2 * time.Minute
)

// Session is one with some time left. Only one caller signs in at a time, and
// those who wait get the same session.
func (a *Account) Session(ctx context.Context) (Session, error) {
	return a.session(ctx, func() bool { return a.current.Expires.Sub(a.options.Time()) >= least })
}

// fresh signs in, whatever there is.
func (a *Account) fresh(ctx context.Context) (Session, error) {
	return a.session(ctx, func() bool { return false })
}

func (a *Account) session(ctx context.Context, good func() bool) (Session, error) {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return Session{}, ctx.Err()
	}
	if !good() {
		next, err := a.signIn(ctx)
		if err != nil {
			return Session{}, fmt.Errorf("sign in to Salesforce: %w", err)
		}
		a.current.AccessToken.Wipe()
		a.current = next
	}
	copied := a.current
	var err error
	copied.AccessToken, err = a.current.AccessToken.Clone()
	return copied, err
}

// token is the answer of the token endpoint.
type token struct {
	Access   string `json:"access_token"`
	Instance string `json:"instance_url"`
	Identity string `json:"id"` // https://<host>/id/<organization>/<user>
	Type     string `json:"token_type"`
	Refresh  string `json:"refresh_token"` // where they are rotated
}

func (a *Account) signIn(ctx context.Context) (Session, error) {
	var session Session
	err := a.credentials(ctx, func(v integration.Values) error {
		g, err := a.grant(v)
		if err != nil {
			return err
		}
		if a.tokens.Base == nil || *a.tokens.Base != *g.login {
			config := integration.Config{Base: g.login, Limited: limited}
			a.tokens = rest.API{Base: g.login, HTTP: integration.NewHTTP(config, a.options), Check: checkToken}
		}
		held := []string{g.form.Get("assertion"), g.form.Get("refresh_token"), g.form.Get("client_secret")}
		var t token
		start := a.options.Time()
		if err := a.tokens.Form(integration.WithMask(ctx, held...), "services/oauth2/token", g.form, &t); err != nil {
			return err
		}
		if t.Refresh != "" && t.Refresh != g.form.Get("refresh_token") {
			if err := a.keep(ctx, g, t.Refresh); err != nil {
				return err
			}
		}
		session, err = a.accept(t, start)
		return err
	})
	return session, err
}

func (a *Account) keep(ctx context.Context, g grant, next string) error {
	if a.Keep == nil {
		return errors.New("the connected app rotates refresh tokens, and there is nowhere to keep the next one: turn rotation off in its settings, or use the JWT bearer flow")
	}
	if err := a.Keep(ctx, g.field, secrets.NewValue([]byte(g.before+next+g.after))); err != nil {
		return fmt.Errorf("keep the next refresh token: %w", err)
	}
	return nil
}

// accept looks at a token before anybody gets it.
func (a *Account) accept(t token, start time.Time) (Session, error) {
	if t.Access == "" || !strings.EqualFold(t.Type, "Bearer") {
		return Session{}, errors.New("the answer holds no bearer token")
	}
	instance, err := integration.ParseBase(t.Instance, a.options)
	if err != nil {
		return Session{}, fmt.Errorf("instance_url %w", err)
	}
	_, ids, _ := strings.Cut(t.Identity, "/id/")
	organization, _, _ := strings.Cut(ids, "/")
	if err := a.ours(organization); err != nil {
		return Session{}, err
	}
	return Session{
		InstanceURL: strings.TrimSuffix(instance.String(), "/"),
		AccessToken: secrets.NewValue([]byte(t.Access)),
		Expires:     start.Add(lifetime),
	}, nil
}

// grant is what is sent to the token endpoint.
type grant struct {
	login *url.URL
	form  url.Values
	// field is the credential with the refresh token, which stands between what
	// is before and after it.
	field, before, after string
}

// grant goes the way that there are credentials for.
func (a *Account) grant(v integration.Values) (grant, error) {
	switch {
	case v.Has(PrivateKey):
		assertion, err := a.assertion(v)
		form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion}}
		return grant{login: a.door(a.login), form: form}, err
	case v.Has(SFDXAuthURL):
		return a.authURL(v)
	}
	form, err := refresh(a.client, v[ClientSecret], v[RefreshToken])
	return grant{login: a.door(a.login), form: form, field: RefreshToken}, err
}

func (a *Account) authURL(v integration.Values) (grant, error) {
	text, err := v.Bytes(SFDXAuthURL)
	if err != nil {
		return grant{}, err
	}
	parsed, err := ParseAuthURL(text)
	if err != nil {
		return grant{}, err
	}
	login := a.login
	if login == nil {
		if login, err = integration.ParseBase(parsed.LoginURL, a.options); err != nil {
			return grant{}, fmt.Errorf("the host in %s %w", SFDXAuthURL, err)
		}
	}
	form, err := refresh(parsed.ClientID, parsed.ClientSecret, parsed.RefreshToken)
	return grant{
		login: login, form: form, field: SFDXAuthURL,
		before: "force://" + parsed.ClientID + ":" + form.Get("client_secret") + ":", after: "@" + strings.TrimPrefix(parsed.LoginURL, "https://"),
	}, err
}

// refresh is the form of RFC 6749, 6. An app may have no secret.
func refresh(client string, secret, token secrets.Value) (url.Values, error) {
	content, err := token.Bytes()
	if err != nil {
		return nil, err
	}
	form := url.Values{"grant_type": {"refresh_token"}, "client_id": {client}, "refresh_token": {string(content)}}
	if content, err = secret.Bytes(); err != nil {
		return nil, err
	}
	if len(content) > 0 {
		form.Set("client_secret", string(content))
	}
	return form, nil
}

// door is where to sign in: what was set, or where everybody does.
func (a *Account) door(set *url.URL) *url.URL {
	if set == nil {
		set, _ = url.Parse(a.environment.login() + "/") // one of two constants
	}
	return set
}

// assertion says who wants to act as whom, signed by the connected app's key
// (RFC 7523, 3). The audience is one string, as Salesforce documents it.
func (a *Account) assertion(v integration.Values) (string, error) {
	pem, err := v.Bytes(PrivateKey)
	if err != nil {
		return "", err
	}
	key, err := parseKey(pem)
	if err != nil {
		return "", fmt.Errorf("%s %w", PrivateKey, err)
	}
	return jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": a.client, "sub": a.user, "aud": a.audience, "exp": a.options.Time().Add(assertionLifetime).Unix(),
	}).SignedString(key)
}
