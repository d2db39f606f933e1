package webhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"skep/secrets"
	"skep/services/controlplane"
)

// What a request proves itself with.
const (
	headerGitHub    = "X-Hub-Signature-256"
	headerGitLab    = "X-Gitlab-Token"
	headerBasic     = "Authorization"
	headerID        = "Webhook-Id" // Standard Webhooks, from here
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"
)

const (
	standardPrefix = "whsec_"
	// Window is how far the clocks of sender and receiver may be apart.
	Window = 5 * time.Minute
	// maxSignatures covers a rotation; each costs a comparison.
	maxSignatures = 8

	minSecret = 16
	maxSecret = 1024
)

// CheckSecret says whether deliveries of a provider can be verified by a
// secret: without one no delivery is taken, so no source is made. The error is
// controlplane.ErrInvalid and does not repeat the secret.
func CheckSecret(p controlplane.Provider, secret secrets.Value) error {
	b, err := secret.Bytes()
	if err != nil {
		return err
	}
	_, err = newVerifier(p, b)
	return err
}

// verifier holds a request against one secret, of which it keeps a copy.
// Nothing but headers and the raw body counts.
type verifier func(h http.Header, body []byte, now time.Time) bool

func newVerifier(p controlplane.Provider, secret []byte) (verifier, error) {
	switch {
	case len(secret) == 0:
		return nil, fmt.Errorf("%w: there is no secret", controlplane.ErrInvalid)
	case len(secret) < minSecret || len(secret) > maxSecret:
		return nil, fmt.Errorf("%w: a secret has %d to %d bytes, this one %d", controlplane.ErrInvalid, minSecret, maxSecret, len(secret))
	}
	// A line end that was copied along, and what a header would lose.
	if !printable(string(secret)) || strings.TrimSpace(string(secret)) != string(secret) {
		return nil, fmt.Errorf("%w: the secret is not printable ASCII, or has a space at an end", controlplane.ErrInvalid)
	}
	switch p {
	case controlplane.GitHub:
		return gitHub(secret), nil
	case controlplane.AzureDevOps:
		return basic(secret), nil
	case controlplane.GitLab:
		// A GitLab that knows signing tokens signs with them, and the secret token
		// counts no more. https://docs.gitlab.com/user/project/integrations/webhooks/
		if strings.HasPrefix(string(secret), standardPrefix) {
			return standard(secret)
		}
		return token(secret), nil
	case controlplane.Salesforce, controlplane.Generic:
		return standard(secret)
	}
	return nil, fmt.Errorf("%w: provider %q sends none", controlplane.ErrInvalid, p)
}

// gitHub is HMAC-SHA256 over the body. X-Hub-Signature, which is SHA-1, counts
// for nothing. The text is compared, so that it has one spelling.
func gitHub(secret []byte) verifier {
	key := bytes.Clone(secret)
	return func(h http.Header, body []byte, _ time.Time) bool {
		mac := hmac.New(sha256.New, key)
		mac.Write(body)
		want := "sha256=" + hex.EncodeToString(mac.Sum(nil))
		return same(h.Get(headerGitHub), want)
	}
}

// basic is a password, whatever the user's name. It signs no body: TLS alone
// protects that.
func basic(secret []byte) verifier {
	want := string(secret)
	return func(h http.Header, _ []byte, _ time.Time) bool {
		_, password, ok := (&http.Request{Header: h}).BasicAuth()
		return same(password, want) && ok
	}
}

func token(secret []byte) verifier {
	want := string(secret)
	return func(h http.Header, _ []byte, _ time.Time) bool { return same(h.Get(headerGitLab), want) }
}

// standard is what https://www.standardwebhooks.com says of symmetric keys.
func standard(secret []byte) (verifier, error) {
	encoded, ok := strings.CutPrefix(string(secret), standardPrefix)
	if !ok {
		return nil, fmt.Errorf("%w: the secret must start with %s", controlplane.ErrInvalid, standardPrefix)
	}
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(key) < 24 || len(key) > 64 {
		return nil, fmt.Errorf("%w: behind %s the secret must be the base64 of 24 to 64 bytes", controlplane.ErrInvalid, standardPrefix)
	}
	return func(h http.Header, body []byte, now time.Time) bool {
		id, timestamp := h.Get(headerID), h.Get(headerTimestamp)
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + timestamp + "."))
		mac.Write(body)
		want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
		found := false
		for i, got := range strings.Split(h.Get(headerSignature), " ") {
			if i == maxSignatures {
				break
			}
			found = same(got, want) || found
		}
		// A full stop in the id would let the parts of what is signed trade places.
		return found && id != "" && !strings.Contains(id, ".") && timely(timestamp, now)
	}, nil
}

func timely(timestamp string, now time.Time) bool {
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || strconv.FormatInt(seconds, 10) != timestamp {
		return false
	}
	apart := now.Sub(time.Unix(seconds, 0))
	return -Window <= apart && apart <= Window
}

// same takes the same time for all strings of a length, and hides the length of
// what is wanted.
func same(got, want string) bool {
	g, w := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(g[:], w[:]) == 1
}
