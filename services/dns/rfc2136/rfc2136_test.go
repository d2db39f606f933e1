package rfc2136_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"skep/networks"
	"skep/services/dns"
	"skep/services/dns/dnstest"
	"skep/services/dns/rfc2136"
)

// Each test of the suite gets a part of the zone to itself, as a cluster's
// zone that lies inside a larger one.
func TestConformance(t *testing.T) {
	for name, start := range map[string]func(testing.TB, string) *dnstest.Server{"knot": dnstest.Knot, "bind": dnstest.BIND} {
		t.Run(name, func(t *testing.T) {
			dnstest.Conform(t, func(t *testing.T) dnstest.Subject {
				server := start(t, "example.com.")
				return dnstest.Subject{
					Domain:   "home.example.com",
					Provider: open(t, server.Addr, dnstest.Key, dnstest.Secret),
					ByHand:   func(t *testing.T, r networks.Record) { server.Insert(t, r) },
					Size:     func(t *testing.T) int { return server.Size(t) },
				}
			})
		})
	}
}

func open(t *testing.T, addr, key, secret string) dns.Provider {
	t.Helper()
	p, err := rfc2136.New("home.example.com", rfc2136.Config{Server: addr, Key: key, Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWrongKey(t *testing.T) {
	server := dnstest.BIND(t, "example.com.")
	other := base64.StdEncoding.EncodeToString([]byte("another secret of the same key, wrong"))
	for name, p := range map[string]dns.Provider{
		"it does not know the key":         open(t, server.Addr, "nobody", dnstest.Secret),
		"it does not accept the signature": open(t, server.Addr, dnstest.Key, other),
	} {
		_, err := p.List(t.Context())
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %q", err, name)
		}
		if err != nil && (strings.Contains(err.Error(), dnstest.Secret) || strings.Contains(err.Error(), other)) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

func TestNotItsZone(t *testing.T) {
	server := dnstest.Knot(t, "example.net.")
	_, err := open(t, server.Addr, dnstest.Key, dnstest.Secret).List(t.Context())
	if err == nil || !strings.Contains(err.Error(), "not authoritative for home.example.com") {
		t.Errorf("got %v", err)
	}
}

func TestNeverUnsigned(t *testing.T) {
	for name, c := range map[string]rfc2136.Config{
		"no key":    {Server: "127.0.0.1:53", Secret: dnstest.Secret},
		"no secret": {Server: "127.0.0.1:53", Key: "key"},
		"MD5":       {Server: "127.0.0.1:53", Key: "key", Secret: dnstest.Secret, Algorithm: "hmac-md5.sig-alg.reg.int"},
		"no port":   {Server: "127.0.0.1", Key: "key", Secret: dnstest.Secret},
	} {
		if _, err := rfc2136.New("example.com", c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
