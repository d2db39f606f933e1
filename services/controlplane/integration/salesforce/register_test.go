package salesforce_test

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"maps"
	"testing"

	"skep/services/controlplane/integration/salesforce/salesforcetest"
)

func TestInstanceURL(t *testing.T) {
	for _, bad := range []string{"", "http://acme.my.salesforce.com", "https://169.254.169.254", "https://user:pass@acme.my.salesforce.com", "ftp://acme", "https://"} {
		b := start(t)
		b.SetInstance(bad)
		if s, err := b.open(t).Session(t.Context()); err == nil {
			t.Errorf("a token goes to %q: %+v", bad, s)
		}
	}
}

func TestRegistration(t *testing.T) {
	for name, change := range map[string]func(*bench){
		"no environment":    func(b *bench) { delete(b.settings, "environment") },
		"odd environment":   func(b *bench) { b.settings["environment"] = "staging" },
		"no organization":   func(b *bench) { delete(b.settings, "organization_id") },
		"odd organization":  func(b *bench) { b.settings["organization_id"] = "00D1" },
		"a user's id":       func(b *bench) { b.settings["organization_id"] = "0055g00000ABCde" },
		"no client":         func(b *bench) { delete(b.settings, "client_id") },
		"no user":           func(b *bench) { delete(b.settings, "username") },
		"no way":            func(b *bench) { clear(b.values) },
		"two ways":          func(b *bench) { b.values["refresh_token"] = "5Aep861x" },
		"no key":            func(b *bench) { b.values["private_key"] = "-----BEGIN RSA PRIVATE KEY-----\nxx\n" },
		"clear http":        func(b *bench) { b.settings["login_url"] = "http://acme.my.salesforce.com" },
		"production's door": func(b *bench) { b.settings["login_url"] = "https://login.salesforce.com/" },
		"odd audience":      func(b *bench) { b.settings["audience"] = "login" },
		"app twice": func(b *bench) {
			b.values = map[string]string{"sfdx_auth_url": "force://c:s:r@h.example.com"}
		},
		"short key": func(b *bench) {
			key, err := rsa.GenerateKey(rand.Reader, 1024)
			if err != nil {
				t.Fatal(err)
			}
			b.values["private_key"] = pemOf(key)
		},
	} {
		b := start(t)
		if err := b.check(); err != nil {
			t.Fatal(err)
		}
		change(b)
		err := b.check()
		if err == nil {
			t.Errorf("%s is taken", name)
		}
		b.clean(t, fmt.Sprint(err))
	}
}

func TestAuthURLSignsIn(t *testing.T) {
	b := start(t)
	refresh := b.Grant(client, user)
	b.settings = maps.Clone(b.settings)
	delete(b.settings, "client_id")
	delete(b.settings, "username")
	b.values = map[string]string{"sfdx_auth_url": "force://" + client + ":" + secret + ":" + refresh + "@acme.my.salesforce.com"}
	if _, err := b.open(t).Test(t.Context()); err != nil {
		t.Error(err)
	}
	// The short form stands for Salesforce's own app.
	b.AddApp(salesforcetest.App{ClientID: "PlatformCLI"})
	b.values["sfdx_auth_url"] = "force://" + b.Grant("PlatformCLI", user) + "@acme.my.salesforce.com\n"
	if _, err := b.open(t).Test(t.Context()); err != nil {
		t.Error(err)
	}
	b.clean(t, "")
}
