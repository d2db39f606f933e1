package salesforce_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"skep/services/controlplane"
	"skep/services/controlplane/integration/salesforce"
	"skep/services/controlplane/integration/salesforce/salesforcetest"
)

// TestDenied has each reason with its remedy, and no secret in what is said.
func TestDenied(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*bench)
		code   string
		remedy string
	}{
		"not approved": {func(b *bench) {
			b.AddApp(salesforcetest.App{ClientID: client, Key: &keys()[0].PublicKey})
		}, "invalid_grant", "pre-authorize"},
		"other key":      {func(b *bench) { b.values["private_key"] = pemOf(keys()[1]) }, "invalid_grant", "not that of the connected app's certificate"},
		"other audience": {func(b *bench) { b.settings["audience"] = "https://login.salesforce.com" }, "invalid_grant", "check environment"},
		"clock behind": {func(b *bench) {
			now := b.clock.Now
			b.options.Now = func() time.Time { return now().Add(-time.Hour) }
		}, "invalid_grant", "set the clock"},
		"clock ahead": {func(b *bench) {
			now := b.clock.Now
			b.options.Now = func() time.Time { return now().Add(time.Hour) }
		}, "invalid_grant", ""},
		"inactive":       {func(b *bench) { b.SetUser(user, false) }, "inactive_user", "activate them"},
		"no such app":    {func(b *bench) { b.settings["client_id"] = "3MVG9other" }, "invalid_client_id", "no connected app"},
		"revoked":        {func(b *bench) { b.refresh().RevokeAll() }, "invalid_grant", "authorize again"},
		"wrong secret":   {func(b *bench) { b.refresh().values["client_secret"] = "PLANTEDotherconsumersecret" }, "invalid_client", "copy it again"},
		"missing secret": {func(b *bench) { delete(b.refresh().values, "client_secret") }, "invalid_client", "copy it again"},
		"unknown reason": {func(b *bench) { b.RefuseTokens(400, `{"error":"odd","error_description":"new in Winter"}`) }, "odd", "Salesforce's list"},
	} {
		b := start(t)
		test.change(b)
		_, err := b.open(t).Session(t.Context())
		var refused *salesforce.Error
		if !errors.Is(err, controlplane.ErrDenied) || !errors.As(err, &refused) || refused.Code != test.code || !strings.Contains(err.Error(), test.remedy) {
			t.Errorf("%s: %v", name, err)
		}
		b.clean(t, fmt.Sprintf("%v %+v %#v", err, err, err))
	}
}

// clean fails if a text, or the log, holds a credential.
func (b *bench) clean(t *testing.T, text string) {
	t.Helper()
	for name, value := range b.values {
		for _, secret := range append(strings.Split(value, "\n"), value) {
			if len(secret) > 5 && strings.Contains(text+b.log.String(), secret) {
				t.Errorf("%s shows: %s%s", name, text, b.log)
				return
			}
		}
	}
	for _, sign := range []string{"eyJ", orgID[:15] + "!"} { // an assertion, an access token
		if strings.Contains(text+b.log.String(), sign) {
			t.Errorf("%q shows: %s%s", sign, text, b.log)
		}
	}
}

// TestEcho has a server that repeats what it was sent.
func TestEcho(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 429, 500, 503} {
		for name, b := range map[string]*bench{"JWT bearer": start(t), "refresh token": start(t).refresh()} {
			b.EchoTokens(status)
			_, err := b.open(t).Session(t.Context())
			if err == nil {
				t.Fatalf("%s: %d lets us in", name, status)
			}
			b.clean(t, fmt.Sprintf("%v %+v %#v", err, err, err))
			if !strings.Contains(err.Error(), "redacted") {
				t.Errorf("%s, %d: nothing was repeated: %v", name, status, err)
			}
		}
	}
}

func TestNoSecretShows(t *testing.T) {
	for _, b := range []*bench{start(t), start(t).refresh()} {
		account := b.open(t)
		session, err := account.Session(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := account.Test(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.clean(t, fmt.Sprintf("%v %+v %#v %s", session, session, session, session))
		if !strings.Contains(b.log.String(), "/services/oauth2/token") {
			t.Error("nothing was logged")
		}
	}
}

func TestTrouble(t *testing.T) {
	b := start(t)
	account := b.open(t)
	var later *controlplane.RetryError
	b.Outage(1000)
	if _, err := account.Session(t.Context()); !errors.As(err, &later) || errors.Is(err, controlplane.ErrDenied) {
		t.Errorf("an outage: %v", err)
	}
	b.Outage(0)
	b.RefuseTokens(400, `{"error":"unknown_error","error_description":"retry your request"}`)
	if _, err := account.Session(t.Context()); !errors.As(err, &later) || errors.Is(err, controlplane.ErrDenied) {
		t.Errorf("an accident: %v", err)
	}
	b.RefuseTokens(400, `{"error":"invalid_grant","error_description":"login rate exceeded"}`)
	if _, err := account.Session(t.Context()); !errors.As(err, &later) || later.After != 10*time.Minute {
		t.Errorf("too many logins: %v", err)
	}
	b.clock.Advance(11 * time.Minute)
	for _, odd := range []string{`"access_token":"","token_type":"Bearer"`, `"access_token":"00Dx!y","token_type":"mac"`} {
		b.RefuseTokens(200, fmt.Sprintf(`{%s,"instance_url":%q,"id":"%s/id/%s/005"}`, odd, b.URL, b.URL, orgID))
		if s, err := account.Session(t.Context()); err == nil {
			t.Errorf("%s is handed out as %+v", odd, s)
		}
	}
	b.RefuseTokens(0, "")
	b.LimitRequests(time.Hour)
	if _, err := account.Validate(t.Context()); !errors.As(err, &later) || later.After != time.Hour {
		t.Errorf("the day's requests used up: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.open(t).Session(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled sign-in: %v", err)
	}
}
