package salesforce_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/integration"
	"skep/services/controlplane/integration/forgetest"
	"skep/services/controlplane/integration/salesforce"
	"skep/services/controlplane/integration/salesforce/salesforcetest"
)

const (
	orgID   = "00D5g00000ABCdeEAH"
	otherID = "00D5g00000ZZZzzEAH"
	client  = "3MVG9planted.consumer_key"
	secret  = "F00DPLANTEDconsumersecret0123456789"
	user    = "skep@acme.example.com"
)

var keys = sync.OnceValue(func() [2]*rsa.PrivateKey {
	var pair [2]*rsa.PrivateKey
	for i := range pair {
		var err error
		if pair[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			panic(err)
		}
	}
	return pair
})

func pemOf(key *rsa.PrivateKey) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
}

// bench is a server and what a client over it needs.
type bench struct {
	*salesforcetest.Server
	clock    *forgetest.Clock
	log      *bytes.Buffer
	options  integration.Options
	settings integration.Settings
	values   map[string]string
}

// start has a sandbox, and credentials for the JWT bearer flow.
func start(t *testing.T) *bench {
	t.Helper()
	clock, log := forgetest.NewClock(), &bytes.Buffer{}
	server, err := salesforcetest.Start(salesforcetest.Org{ID: orgID, Name: "Acme", Sandbox: true, Edition: "Enterprise Edition"}, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	server.SetUser(user, true)
	server.AddApp(salesforcetest.App{ClientID: client, Secret: secret, Key: &keys()[0].PublicKey, Approved: []string{user}})
	logger := slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return &bench{
		Server: server, clock: clock, log: log, options: integration.Options{Log: logger, Loopback: true, Now: clock.Now, Wait: clock.Wait},
		settings: integration.Settings{"environment": "sandbox", "organization_id": orgID[:15], "login_url": server.URL, "client_id": client, "username": user},
		values:   map[string]string{"private_key": pemOf(keys()[0])},
	}
}

// refresh goes over to the refresh token flow.
func (b *bench) refresh() *bench {
	delete(b.settings, "username")
	b.values = map[string]string{"client_secret": secret, "refresh_token": b.Grant(client, user)}
	return b
}

func (b *bench) check() error {
	values := integration.Values{}
	for name, v := range b.values {
		values[name] = secrets.NewValue([]byte(v))
	}
	return integration.NewRegistry(b.options, salesforce.Driver()).Check(controlplane.Salesforce, b.settings, values)
}

func (b *bench) open(t *testing.T) *salesforce.Account {
	t.Helper()
	if err := b.check(); err != nil {
		t.Fatal(err)
	}
	account, err := integration.NewRegistry(b.options, salesforce.Driver()).Open(controlplane.Salesforce, b.settings, func(_ context.Context, use func(integration.Values) error) error {
		values := integration.Values{}
		for name, v := range b.values {
			value := secrets.NewValue([]byte(v))
			defer value.Wipe()
			values[name] = value
		}
		return use(values)
	})
	if err != nil {
		t.Fatal(err)
	}
	return account.(*salesforce.Account)
}

func reveal(t *testing.T, s salesforce.Session) string {
	t.Helper()
	b, err := s.AccessToken.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSession(t *testing.T) {
	for name, b := range map[string]*bench{"JWT bearer": start(t), "refresh token": start(t).refresh()} {
		account := b.open(t)
		first, err := account.Session(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if first.InstanceURL != b.URL || !first.Expires.Equal(b.clock.Now().Add(15*time.Minute)) || !strings.HasPrefix(reveal(t, first), orgID[:15]+"!") {
			t.Errorf("%s: the session is %+v", name, first)
		}
		want := reveal(t, first)
		first.AccessToken.Wipe() // the holder's own
		b.clock.Advance(4 * time.Minute)
		if second, err := account.Session(t.Context()); err != nil || reveal(t, second) != want {
			t.Errorf("%s: with eleven minutes left it is %v, another one", name, err)
		}
		b.clock.Advance(2 * time.Minute)
		third, err := account.Session(t.Context())
		if err != nil || reveal(t, third) == want || third.Expires.Sub(b.clock.Now()) < 10*time.Minute {
			t.Errorf("%s: with nine minutes left it is %+v, %v, the same one", name, third, err)
		}
		if b.Tokens() != 2 {
			t.Errorf("%s: %d tokens were asked for", name, b.Tokens())
		}
	}
}

func TestOneSignInForAll(t *testing.T) {
	b := start(t)
	account := b.open(t)
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			if _, err := account.Session(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if b.Tokens() != 1 {
		t.Errorf("20 tasks signed in %d times", b.Tokens())
	}
}

func TestValidate(t *testing.T) {
	for _, length := range []int{15, 18} {
		b := start(t)
		b.settings["organization_id"] = orgID[:length]
		got, err := b.open(t).Validate(t.Context())
		want := salesforce.Organization{ID: orgID, Name: "Acme", Edition: "Enterprise Edition", Environment: salesforce.Sandbox, User: user, InstanceURL: b.URL}
		if err != nil || got != want {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
		if who, err := b.open(t).Test(t.Context()); err != nil || who != user+" at Acme (Enterprise Edition, sandbox, "+orgID+")" {
			t.Errorf("Test says %q, %v", who, err)
		}
	}
}

func TestOtherOrganization(t *testing.T) {
	b := start(t)
	b.settings["organization_id"] = otherID
	account := b.open(t)
	if s, err := account.Session(t.Context()); !errors.Is(err, salesforce.ErrOtherOrganization) || s.AccessToken.Len() != 0 {
		t.Errorf("a session of another organization: %+v, %v", s, err)
	}
	// A sandbox that was registered as production, and signs in at My Domain.
	b = start(t)
	b.settings["environment"], b.settings["audience"] = "production", b.URL
	if got, err := b.open(t).Validate(t.Context()); !errors.Is(err, salesforce.ErrOtherOrganization) || !strings.Contains(err.Error(), "is sandbox and was registered as production") {
		t.Errorf("a sandbox as production: %+v, %v", got, err)
	}
	// What userinfo and the query say counts as well.
	for what, change := range map[string]func(*salesforcetest.Server){"userinfo": (*salesforcetest.Server).LieInUserinfo, "query": (*salesforcetest.Server).LieInQuery} {
		b = start(t)
		change(b.Server)
		if got, err := b.open(t).Validate(t.Context()); !errors.Is(err, salesforce.ErrOtherOrganization) {
			t.Errorf("%s of another organization: %+v, %v", what, got, err)
		}
	}
}

func TestRotation(t *testing.T) {
	b := start(t).refresh()
	b.AddApp(salesforcetest.App{ClientID: client, Secret: secret, Rotate: true})
	account := b.open(t)
	if _, err := account.Session(t.Context()); err == nil || !strings.Contains(err.Error(), "turn rotation off") {
		t.Errorf("rotation with nowhere to keep: %v", err)
	}
	b.refresh()
	account = b.open(t)
	kept := 0
	keep := func(_ context.Context, field string, next secrets.Value) error {
		content, err := next.Bytes()
		b.values[field] = string(content)
		kept++
		return err
	}
	account.Keep = keep
	use := func() {
		t.Helper()
		for range 3 {
			if _, err := account.Session(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.clock.Advance(time.Hour)
		}
		b.clean(t, "")
	}
	use()
	delete(b.settings, "client_id")
	b.values = map[string]string{"sfdx_auth_url": "force://" + client + ":" + secret + ":" + b.Grant(client, user) + "@acme.my.salesforce.com"}
	account = b.open(t)
	account.Keep = keep
	use()
	if kept != 6 || !strings.HasSuffix(b.values["sfdx_auth_url"], "@acme.my.salesforce.com") || len(b.values) != 1 {
		t.Errorf("%d refresh tokens were kept, and the credentials are %v", kept, slices.Collect(maps.Keys(b.values)))
	}
	account.Keep = func(context.Context, string, secrets.Value) error { return errors.New("disk full") }
	if s, err := account.Session(t.Context()); err == nil {
		t.Errorf("a session whose next refresh token is lost: %+v", s)
	}
}
