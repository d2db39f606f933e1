package webhook

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"skep/secrets"
	"skep/services/controlplane"
)

// The examples that GitHub and the Standard Webhooks publish.
func TestPublishedVectors(t *testing.T) {
	v, err := newVerifier(controlplane.GitHub, []byte("It's a Secret to Everybody"))
	if err != nil {
		t.Fatal(err)
	}
	if !v(headers(headerGitHub, "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"), []byte("Hello, World!"), time.Now()) {
		t.Error("GitHub's example is not verified")
	}
	v, err = newVerifier(controlplane.Generic, []byte(standardSecret))
	if err != nil {
		t.Fatal(err)
	}
	h := headers("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp", "1614265330",
		"webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
	if !v(h, []byte(`{"test": 2432232314}`), time.Unix(1614265330, 0)) {
		t.Error("the Standard Webhooks' example is not verified")
	}
}

func TestCheckSecret(t *testing.T) {
	key := func(n int) string { return "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, n)) }
	for _, c := range []struct {
		provider controlplane.Provider
		secret   string
		fit      bool
	}{
		{controlplane.GitHub, "", false},
		{controlplane.GitHub, "short", false},
		{controlplane.GitHub, plainSecret, true},
		{controlplane.GitHub, plainSecret + "\n", false},
		{controlplane.GitHub, plainSecret + " ", false},
		{controlplane.GitHub, plainSecret + "é", false},
		{controlplane.GitHub, strings.Repeat("x", 1025), false},
		{controlplane.AzureDevOps, plainSecret, true},
		{controlplane.GitLab, plainSecret, true},
		{controlplane.GitLab, standardSecret, true},
		{controlplane.GitLab, "whsec_" + plainSecret, false},
		{controlplane.Generic, plainSecret, false},
		{controlplane.Generic, standardSecret, true},
		{controlplane.Salesforce, key(24), true},
		{controlplane.Salesforce, key(64), true},
		{controlplane.Salesforce, key(23), false},
		{controlplane.Salesforce, key(65), false},
		{controlplane.Salesforce, strings.TrimRight(key(25), "="), false},
		{"gitea", plainSecret, false},
	} {
		err := CheckSecret(c.provider, secrets.NewValue([]byte(c.secret)))
		if (err == nil) != c.fit || err != nil && !errors.Is(err, controlplane.ErrInvalid) {
			t.Errorf("%s %q: %v", c.provider, c.secret, err)
		}
		if err != nil && len(c.secret) > 6 && strings.Contains(err.Error(), c.secret[6:]) {
			t.Errorf("the error repeats the secret: %v", err)
		}
	}
	if err := CheckSecret(controlplane.GitHub, secrets.Value{}); !errors.Is(err, controlplane.ErrInvalid) {
		t.Errorf("no value at all: %v", err)
	}
}

func TestStandardWebhooks(t *testing.T) {
	now := time.Unix(1700000000, 0)
	v, err := newVerifier(controlplane.Generic, []byte(standardSecret))
	if err != nil {
		t.Fatal(err)
	}
	const body = `{"type":"x"}`
	at := func(d time.Duration) string { return fmt.Sprint(now.Add(d).Unix()) }
	for name, c := range map[string]struct {
		id, timestamp, signature string
		verified                 bool
	}{
		"now":                            {"a", at(0), sign("a", at(0), body), true},
		"five minutes ago":               {"a", at(-Window), sign("a", at(-Window), body), true},
		"five minutes ahead":             {"a", at(Window), sign("a", at(Window), body), true},
		"too old":                        {"a", at(-Window - time.Second), sign("a", at(-Window-time.Second), body), false},
		"too far ahead":                  {"a", at(Window + time.Second), sign("a", at(Window+time.Second), body), false},
		"the second of two keys":         {"a", at(0), "v1,AAAA " + sign("a", at(0), body), true},
		"beside an asymmetric signature": {"a", at(0), "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg== " + sign("a", at(0), body), true},
		"the ninth":                      {"a", at(0), strings.Repeat("v1,AAAA ", 8) + sign("a", at(0), body), false},
		"another version":                {"a", at(0), "v2" + sign("a", at(0), body)[2:], false},
		"no version":                     {"a", at(0), sign("a", at(0), body)[3:], false},
		"no id":                          {"", at(0), sign("", at(0), body), false},
		"no timestamp":                   {"a", "", sign("a", "", body), false},
		"no signature":                   {"a", at(0), "", false},
		"a timestamp in milliseconds":    {"a", at(0) + "000", sign("a", at(0)+"000", body), false},
		"a timestamp with a sign":        {"a", "+" + at(0), sign("a", "+"+at(0), body), false},
		"a timestamp with zeros":         {"a", "0" + at(0), sign("a", "0"+at(0), body), false},
		"a full stop in the id":          {"a.b", at(0), sign("a.b", at(0), body), false},
		"another id":                     {"b", at(0), sign("a", at(0), body), false},
		"another time":                   {"a", at(time.Second), sign("a", at(0), body), false},
	} {
		h := headers("webhook-id", c.id, "webhook-timestamp", c.timestamp, "webhook-signature", c.signature)
		if got := v(h, []byte(body), now); got != c.verified {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestBasic(t *testing.T) {
	v, err := newVerifier(controlplane.AzureDevOps, []byte(plainSecret))
	if err != nil {
		t.Fatal(err)
	}
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for value, verified := range map[string]bool{
		"Basic " + encode("anybody:"+plainSecret):    true,
		"basic " + encode(":"+plainSecret):           true,
		"Basic " + encode(plainSecret):               false,
		"Basic " + encode(plainSecret+":"):           false,
		"Basic " + encode("u:"+plainSecret+"x"):      false,
		"Basic " + encode("u:x"+plainSecret):         false,
		"Basic " + encode("u:"):                      false,
		"Bearer " + encode("u:"+plainSecret):         false,
		"Basic " + encode("u:"+plainSecret) + "====": false,
		"": false,
	} {
		if got := v(headers("Authorization", value), nil, time.Time{}); got != verified {
			t.Errorf("%q: %v", value, got)
		}
	}
}

// What is said of a source that does not exist is found out by the same work.
func TestStrangersAreVerifiedToo(t *testing.T) {
	for _, p := range controlplane.Providers {
		if stranger(p)(headers(), nil, time.Now()) {
			t.Errorf("%s: a stranger's delivery is verified", p)
		}
	}
	body := make([]byte, 4<<20)
	known, err := newVerifier(controlplane.GitHub, []byte(plainSecret))
	if err != nil {
		t.Fatal(err)
	}
	// Allocations stand for work: times differ from run to run.
	work := func(v verifier) float64 {
		return testing.AllocsPerRun(5, func() { v(headers(headerGitHub, "sha256=00"), body, time.Time{}) })
	}
	if a, b := work(known), work(stranger(controlplane.GitHub)); a != b {
		t.Errorf("a known source costs %v allocations, a stranger %v", a, b)
	}
}

// A byte that was changed, anywhere, never verifies.
func FuzzVerify(f *testing.F) {
	now := time.Unix(1700000000, 0)
	messages := good(now)
	kinds := slices.Sorted(maps.Keys(messages))
	for i := range kinds {
		f.Add(i, uint(0), byte(1), true)
		f.Add(i, uint(3), byte(0x20), false)
		f.Add(i, uint(60), byte(0x80), false)
	}
	f.Fuzz(func(t *testing.T, kind int, at uint, flip byte, inBody bool) {
		if kind < 0 || flip == 0 {
			return
		}
		name := kinds[kind%len(kinds)]
		m := messages[name]
		body := []byte(m.body)
		h := m.header.Clone()
		signed := m.header.Get(headerBasic) == "" && m.header.Get(headerGitLab) == ""
		switch {
		case inBody && signed:
			body[at%uint(len(body))] ^= flip
		case inBody:
			return // passwords sign nothing
		default:
			var proofs []string
			for _, n := range []string{headerGitHub, headerGitLab, headerBasic, headerID, headerTimestamp, headerSignature} {
				if h.Get(n) != "" {
					proofs = append(proofs, n)
				}
			}
			n := proofs[at%uint(len(proofs))]
			value := []byte(h.Get(n))
			i := (at / 8) % uint(len(value))
			if n == headerBasic && sameUser(value, i, flip) {
				return
			}
			value[i] ^= flip
			h[http.CanonicalHeaderKey(n)] = []string{string(value)}
		}
		secret := plainSecret
		if strings.Contains(m.path, "generic") || strings.Contains(m.path, "salesforce") || strings.Contains(m.path, "signed") {
			secret = standardSecret
		}
		provider := controlplane.Provider(strings.Split(strings.TrimPrefix(m.path, Path), "/")[0])
		v, err := newVerifier(provider, []byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		if !v(m.header, []byte(m.body), now) {
			t.Fatalf("%s: the untouched message is not verified", name)
		}
		if v(h, body, now) {
			t.Errorf("%s: verified after byte %d was changed by %#x: %v %q", name, at, flip, h, body)
		}
	})
}

// sameUser says that the change is in the scheme's letters or the user's name,
// which are nobody's secret.
func sameUser(value []byte, i uint, flip byte) bool {
	changed := append([]byte{}, value...)
	changed[i] ^= flip
	_, before, _ := (&http.Request{Header: http.Header{headerBasic: {string(value)}}}).BasicAuth()
	_, after, ok := (&http.Request{Header: http.Header{headerBasic: {string(changed)}}}).BasicAuth()
	return ok && before == after
}
