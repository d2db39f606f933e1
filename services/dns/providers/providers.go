// Package providers opens a zone at its provider with settings from the
// environment.
package providers

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"skep/networks"
	"skep/services/dns"
	"skep/services/dns/cloudflare"
	"skep/services/dns/rfc2136"
	"skep/services/dns/unifi"
)

// Settings finds a setting by its name. One that is missing is empty.
type Settings func(name string) (string, error)

// FromEnv reads NAME, or the file that NAME_FILE names.
func FromEnv(lookup func(string) (string, bool)) Settings {
	return func(name string) (string, error) {
		value, inEnv := lookup(name)
		path, inFile := lookup(name + "_FILE")
		switch {
		case inEnv && inFile && value != "" && path != "":
			return "", fmt.Errorf("both %s and %s_FILE are set: one of them", name, name)
		case path == "":
			return value, nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("%s_FILE: %w", name, err)
		}
		return strings.TrimSpace(string(content)), nil
	}
}

// Names of the settings.
const (
	CloudflareToken   = "CLOUDFLARE_API_TOKEN"
	CloudflareAccount = "CLOUDFLARE_ACCOUNT_ID"
	cloudflareURL     = "CLOUDFLARE_API_URL"
	unifiURL          = "UNIFI_URL"
	unifiSite         = "UNIFI_SITE"
	unifiKey          = "UNIFI_API_KEY"
	unifiCA           = "UNIFI_CA_FILE"
	rfc2136Server     = "RFC2136_SERVER"
	rfc2136Key        = "RFC2136_TSIG_NAME"
	rfc2136Algorithm  = "RFC2136_TSIG_ALGORITHM"
	rfc2136Secret     = "RFC2136_TSIG_SECRET"
)

// Missing is a setting that is not there.
type Missing struct{ Name string }

func (m *Missing) Error() string { return m.Name + " is not set" }

// ErrNoProvider: nobody keeps the zone by changes.
var ErrNoProvider = errors.New("the zone has no provider to send records to")

// Names of the providers, as the cluster file says them.
const (
	Cloudflare = "cloudflare"
	UniFi      = "unifi"
	RFC2136    = "rfc2136"
	// Own is the server of `skep-dns serve`, which takes records from labels.
	Own  = "skep"
	None = "none"
)

// Open returns the provider of a zone; it asks nothing yet.
func Open(zone networks.Zone, get Settings) (dns.Provider, error) {
	switch zone.Provider {
	case Cloudflare:
		c, err := CloudflareClient(get)
		if err != nil {
			return nil, err
		}
		return c.Zone(zone.Domain), nil
	case UniFi:
		return openUniFi(get)
	case RFC2136:
		return openRFC2136(zone.Domain, get)
	case Own, None, "":
		return nil, ErrNoProvider
	}
	return nil, fmt.Errorf("unknown provider %q", zone.Provider)
}

// CloudflareClient opens Cloudflare's API.
func CloudflareClient(get Settings) (*cloudflare.Client, error) {
	v, err := read(get, CloudflareToken, cloudflareURL)
	if err != nil {
		return nil, err
	}
	if v[CloudflareToken] == "" {
		return nil, &Missing{CloudflareToken}
	}
	return cloudflare.NewClient(cmp.Or(v[cloudflareURL], cloudflare.API), v[CloudflareToken])
}

func openUniFi(get Settings) (dns.Provider, error) {
	v, err := read(get, unifiURL, unifiSite, unifiKey)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{unifiURL, unifiKey} {
		if v[name] == "" {
			return nil, &Missing{name}
		}
	}
	c := unifi.Config{URL: v[unifiURL], Site: v[unifiSite], Key: v[unifiKey]}
	certificates, err := get(strings.TrimSuffix(unifiCA, "_FILE"))
	if err != nil {
		return nil, err
	}
	if certificates != "" {
		c.Roots = x509.NewCertPool()
		if !c.Roots.AppendCertsFromPEM([]byte(certificates)) {
			return nil, fmt.Errorf("%s holds no certificate in PEM form", unifiCA)
		}
	}
	return unifi.New(c)
}

func openRFC2136(domain string, get Settings) (dns.Provider, error) {
	v, err := read(get, rfc2136Server, rfc2136Key, rfc2136Algorithm, rfc2136Secret)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{rfc2136Server, rfc2136Key, rfc2136Secret} {
		if v[name] == "" {
			return nil, &Missing{name}
		}
	}
	return rfc2136.New(domain, rfc2136.Config{
		Server: v[rfc2136Server], Key: v[rfc2136Key], Algorithm: v[rfc2136Algorithm], Secret: v[rfc2136Secret],
	})
}

func read(get Settings, names ...string) (map[string]string, error) {
	out := map[string]string{}
	for _, name := range names {
		value, err := get(name)
		if err != nil {
			return nil, err
		}
		out[name] = value
	}
	return out, nil
}
