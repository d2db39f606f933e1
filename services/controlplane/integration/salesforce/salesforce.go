// Package salesforce signs in to Salesforce organizations, production and
// sandbox, and hands out sessions to tasks just before they need them.
//
// It speaks OAuth 2.0 itself: the JWT bearer flow of a connected app, and the
// refresh token flow, with a refresh token or an SFDX auth URL.
package salesforce

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

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/integration"
	"skep/services/controlplane/integration/rest"
)

// Names of the fields.
const (
	EnvironmentField = "environment"
	OrganizationID   = "organization_id"
	LoginURL         = "login_url"
	Audience         = "audience"
	ClientID         = "client_id"
	Username         = "username"
	PrivateKey       = "private_key"
	ClientSecret     = "client_secret"
	RefreshToken     = "refresh_token"
	SFDXAuthURL      = "sfdx_auth_url"
)

// Environment is what kind of organization one is.
type Environment string

const (
	Production Environment = "production"
	Sandbox    Environment = "sandbox"
)

// login is where the environment's organizations sign in, and what assertions
// are for.
func (e Environment) login() string {
	if e == Sandbox {
		return "https://test.salesforce.com"
	}
	return "https://login.salesforce.com"
}

// Driver opens Salesforce.
func Driver() integration.Driver {
	return integration.Driver{
		Provider: controlplane.Salesforce,
		Fields: []integration.Field{
			{Name: EnvironmentField, Required: true, Check: checkEnvironment, Help: "production (a Developer Edition too) or sandbox (a scratch organization too): it is checked against the organization"},
			{Name: OrganizationID, Required: true, Check: checkOrganization, Help: "15 or 18 characters, under Setup, Company Information: it is checked against every session"},
			{Name: LoginURL, Address: true, Help: "https://<My Domain>.my.salesforce.com, where the organization lets nobody in at login.salesforce.com or test.salesforce.com"},
			{Name: Audience, Check: checkAudience, Help: "of assertions, where it is not login.salesforce.com or test.salesforce.com"},
			{Name: ClientID, Help: "the consumer key of the connected app"},
			{Name: Username, Help: "who tasks act as, for the JWT bearer flow"},
			{Name: PrivateKey, Secret: true, Check: checkKey, Help: "in PEM, of the certificate that the connected app has under Use digital signatures: for the JWT bearer flow"},
			{Name: ClientSecret, Secret: true, Check: integration.Token, Help: "the consumer secret of the connected app, for the refresh token flow"},
			{Name: RefreshToken, Secret: true, Check: integration.Token, Help: "for the refresh token flow"},
			{Name: SFDXAuthURL, Secret: true, Check: checkAuthURL, Help: "force://..., as sf org auth show-sfdx-auth-url shows it"},
		},
		Together: together,
		Open: func(s integration.Settings, c integration.Credentials, o integration.Options) (integration.Account, error) {
			return Open(s, c, o)
		},
	}
}

func checkEnvironment(value []byte) error {
	if e := Environment(value); e != Production && e != Sandbox {
		return fmt.Errorf("%q is neither %s nor %s", value, Production, Sandbox)
	}
	return nil
}

var organizationID = regexp.MustCompile(`^00D[0-9A-Za-z]{12}([0-9A-Z]{3})?$`)

func checkOrganization(value []byte) error {
	if !organizationID.Match(value) {
		return fmt.Errorf("%q is no organization's id: it begins with 00D and has 15 or 18 characters", value)
	}
	return nil
}

func checkAudience(value []byte) error {
	if u, err := url.Parse(string(value)); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" {
		return fmt.Errorf("%q is not of the form https://host", value)
	}
	return nil
}

// minKey is what RS256 wants at least, in bits (RFC 7518, 3.3).
const minKey = 2048

func checkKey(pem []byte) error {
	_, err := parseKey(pem)
	return err
}

func parseKey(pem []byte) (*rsa.PrivateKey, error) {
	key, err := jwt.ParseRSAPrivateKeyFromPEM(pem)
	if err != nil { // the parser's own words may repeat some of what it read
		return nil, errors.New("is no RSA key in PEM: give the file whole, with its BEGIN and END lines, and without a passphrase")
	}
	if key.N.BitLen() < minKey {
		return nil, fmt.Errorf("has %d bits; use %d or more", key.N.BitLen(), minKey)
	}
	return key, nil
}

func checkAuthURL(value []byte) error {
	_, err := ParseAuthURL(value)
	return err
}

// together wants one way to sign in, whole, and no sandbox at production's door.
func together(s integration.Settings, v integration.Values) integration.Problems {
	var problems integration.Problems
	add := func(field, message string) {
		problems = append(problems, integration.Problem{Field: field, Message: message})
	}
	ways := 0
	for _, name := range []string{PrivateKey, RefreshToken, SFDXAuthURL} {
		if v.Has(name) {
			ways++
		}
	}
	if ways != 1 {
		add("", "set one of "+PrivateKey+" (JWT bearer flow), "+RefreshToken+" and "+SFDXAuthURL+": it is the way to sign in")
		return problems
	}
	if !v.Has(SFDXAuthURL) && s[ClientID] == "" {
		add(ClientID, "is missing: the consumer key of the connected app")
	}
	if v.Has(PrivateKey) && s[Username] == "" {
		add(Username, "is missing: the JWT bearer flow names who tasks act as")
	}
	if v.Has(SFDXAuthURL) && (s[ClientID] != "" || v.Has(ClientSecret)) {
		add(SFDXAuthURL, "has the connected app in it: leave "+ClientID+" and "+ClientSecret+" out")
	}
	other := Production.login()
	if s[EnvironmentField] == string(Production) {
		other = Sandbox.login()
	}
	if strings.TrimSuffix(s[LoginURL], "/") == other {
		add(LoginURL, "is not where a "+s[EnvironmentField]+" organization signs in")
	}
	return problems
}

// Account is one organization, as one user.
type Account struct {
	environment  Environment
	organization string
	login        *url.URL // nil: the SFDX auth URL has it
	audience     string
	client, user string
	credentials  integration.Credentials
	options      integration.Options

	// Keep stores a credential whose refresh token was exchanged for the next
	// one, where the connected app rotates them: the last one is worthless by
	// then. Without it, such an app is refused. It is set before the first use.
	Keep func(ctx context.Context, field string, value secrets.Value) error

	// turn is taken by whoever signs in; what is below belongs to them.
	turn    chan struct{}
	current Session
	tokens  rest.API // of the token endpoint
}

var _ integration.Account = (*Account)(nil)

// Open makes an account and asks nothing.
func Open(s integration.Settings, c integration.Credentials, o integration.Options) (*Account, error) {
	environment := Environment(s[EnvironmentField])
	if err := errors.Join(checkEnvironment([]byte(environment)), checkOrganization([]byte(s[OrganizationID]))); err != nil {
		return nil, err
	}
	a := &Account{
		environment: environment, organization: s[OrganizationID], audience: s[Audience], client: s[ClientID], user: s[Username],
		credentials: c, options: o, turn: make(chan struct{}, 1),
	}
	if a.audience == "" {
		a.audience = environment.login()
	}
	if s[LoginURL] != "" {
		var err error
		if a.login, err = integration.ParseBase(s[LoginURL], o); err != nil {
			return nil, fmt.Errorf("%s %w", LoginURL, err)
		}
	}
	return a, nil
}

// Organization is what an account was found to be.
type Organization struct {
	ID          string
	Name        string
	Edition     string // Enterprise Edition, ...
	Environment Environment
	User        string
	InstanceURL string
}

// Test signs in and says who and where that is.
func (a *Account) Test(ctx context.Context) (string, error) {
	o, err := a.Validate(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s at %s (%s, %s, %s)", o.User, o.Name, o.Edition, o.Environment, o.ID), nil
}

// Validate signs in anew, and holds the organization to what was registered: its
// id and whether it is a sandbox.
func (a *Account) Validate(ctx context.Context) (Organization, error) {
	session, err := a.fresh(ctx)
	if err != nil {
		return Organization{}, err
	}
	defer session.AccessToken.Wipe()
	base, err := integration.ParseBase(session.InstanceURL, a.options)
	if err != nil {
		return Organization{}, fmt.Errorf("instance_url %w", err)
	}
	api := rest.API{Base: base, HTTP: integration.NewHTTP(integration.Config{Base: base, Limited: limited, Authorize: func(r *http.Request) error {
		token, err := session.AccessToken.Bytes()
		r.Header.Set("Authorization", "Bearer "+string(token))
		return err
	}}, a.options)}
	return a.validate(ctx, api, session.InstanceURL)
}

// version of the REST API, which every organization has.
const version = "v60.0"

func (a *Account) validate(ctx context.Context, api rest.API, instance string) (Organization, error) {
	var user struct {
		Organization string `json:"organization_id"`
		Name         string `json:"preferred_username"`
	}
	if _, err := api.Call(ctx, http.MethodGet, "services/oauth2/userinfo", nil, nil, &user); err != nil {
		return Organization{}, fmt.Errorf("ask who the session belongs to: %w (the connected app needs the scopes id and api)", err)
	}
	if err := a.ours(user.Organization); err != nil {
		return Organization{}, err
	}
	var answer struct {
		Records []struct {
			ID      string `json:"Id"`
			Name    string `json:"Name"`
			Sandbox *bool  `json:"IsSandbox"`
			Edition string `json:"OrganizationType"`
		} `json:"records"`
	}
	q := url.Values{"q": {"SELECT Id, Name, IsSandbox, OrganizationType FROM Organization"}}
	if _, err := api.Call(ctx, http.MethodGet, rest.Path("services", "data", version, "query"), q, nil, &answer); err != nil {
		return Organization{}, fmt.Errorf("ask for the organization: %w", err)
	}
	if len(answer.Records) != 1 || answer.Records[0].Sandbox == nil {
		return Organization{}, errors.New("ask for the organization: the answer does not say whether it is a sandbox")
	}
	record, found := answer.Records[0], Production
	if err := a.ours(record.ID); err != nil {
		return Organization{}, err
	}
	if *record.Sandbox {
		found = Sandbox
	}
	if found != a.environment {
		return Organization{}, fmt.Errorf("%w: organization %s is %s and was registered as %s: change the integration's %s, or sign in to the other one",
			ErrOtherOrganization, record.ID, found, a.environment, EnvironmentField)
	}
	return Organization{ID: record.ID, Name: record.Name, Edition: record.Edition, Environment: found, User: user.Name, InstanceURL: instance}, nil
}

// ErrOtherOrganization says that the credentials lead somewhere else than was
// registered.
var ErrOtherOrganization = fmt.Errorf("%w: another Salesforce organization", controlplane.ErrDenied)

// ours compares ids: the last three of 18 characters only say which of the
// others are capitals.
func (a *Account) ours(id string) error {
	if !organizationID.MatchString(id) || id[:15] != a.organization[:15] || len(id) == 18 && len(a.organization) == 18 && id != a.organization {
		return fmt.Errorf("%w: the credentials are of organization %q and %s was registered", ErrOtherOrganization, integration.Line(id, 40), a.organization)
	}
	return nil
}

// limited knows the two limits that come without a header.
func limited(r *http.Response, body []byte) (time.Duration, bool) {
	text := string(body)
	switch {
	case r.StatusCode == http.StatusForbidden && strings.Contains(text, `"REQUEST_LIMIT_EXCEEDED"`):
		return time.Hour, true // a share of 24 hours, which comes back bit by bit
	case r.StatusCode == http.StatusBadRequest && strings.Contains(text, "login rate exceeded"):
		return 10 * time.Minute, true
	}
	return 0, false
}
