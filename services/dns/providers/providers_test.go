package providers

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"skep/networks"
)

const secret = "c2VjcmV0LW9mLW5vYm9keQ=="

func settings(env map[string]string) Settings {
	return FromEnv(func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	})
}

func TestOpen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		provider string
		env      map[string]string
		missing  string // a setting
		says     string
	}{
		"cloudflare":          {"cloudflare", map[string]string{"CLOUDFLARE_API_TOKEN": secret}, "", ""},
		"cloudflare, a file":  {"cloudflare", map[string]string{"CLOUDFLARE_API_TOKEN_FILE": file}, "", ""},
		"cloudflare, nothing": {"cloudflare", nil, "CLOUDFLARE_API_TOKEN", ""},
		"cloudflare, both":    {"cloudflare", map[string]string{"CLOUDFLARE_API_TOKEN": secret, "CLOUDFLARE_API_TOKEN_FILE": file}, "", "both"},
		"cloudflare, no file": {"cloudflare", map[string]string{"CLOUDFLARE_API_TOKEN_FILE": "/nowhere"}, "", "CLOUDFLARE_API_TOKEN_FILE: open"},
		"unifi":               {"unifi", map[string]string{"UNIFI_URL": "https://10.0.0.1", "UNIFI_API_KEY": secret}, "", ""},
		"unifi, no key":       {"unifi", map[string]string{"UNIFI_URL": "https://10.0.0.1"}, "UNIFI_API_KEY", ""},
		"unifi, no URL":       {"unifi", map[string]string{"UNIFI_API_KEY": secret}, "UNIFI_URL", ""},
		"unifi, a bad CA":     {"unifi", map[string]string{"UNIFI_URL": "https://10.0.0.1", "UNIFI_API_KEY": secret, "UNIFI_CA_FILE": file}, "", "no certificate"},
		"rfc2136":             {"rfc2136", map[string]string{"RFC2136_SERVER": "10.0.0.1:53", "RFC2136_TSIG_NAME": "k", "RFC2136_TSIG_SECRET": secret}, "", ""},
		"rfc2136, no key":     {"rfc2136", map[string]string{"RFC2136_SERVER": "10.0.0.1:53", "RFC2136_TSIG_SECRET": secret}, "RFC2136_TSIG_NAME", ""},
		"rfc2136, bad secret": {"rfc2136", map[string]string{"RFC2136_SERVER": "10.0.0.1:53", "RFC2136_TSIG_NAME": "k", "RFC2136_TSIG_SECRET": "not base64!"}, "", "base64"},
		"another":             {"route53", nil, "", "unknown provider"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Open(networks.Zone{Name: "z", Domain: "example.com", Provider: test.provider}, settings(test.env))
			var missing *Missing
			switch {
			case test.missing == "" && test.says == "":
				if err != nil || p == nil {
					t.Errorf("got %v", err)
				}
			case test.missing != "" && (!errors.As(err, &missing) || missing.Name != test.missing):
				t.Errorf("got %v, want %s missing", err, test.missing)
			case err == nil || !strings.Contains(err.Error(), test.says):
				t.Errorf("got %v, want %q", err, test.says)
			case strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "not base64"):
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
	for _, provider := range []string{"skep", "none", ""} {
		if _, err := Open(networks.Zone{Provider: provider}, settings(nil)); !errors.Is(err, ErrNoProvider) {
			t.Errorf("provider %q: %v", provider, err)
		}
	}
}
