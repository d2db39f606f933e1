package salesforcetest

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// maxAssertion is how far ahead an assertion may expire.
const maxAssertion = 3 * time.Minute

// oauthError is the answer of RFC 6749, 5.2, in Salesforce's words.
type oauthError struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if err := r.ParseForm(); err != nil {
		answer(w, http.StatusBadRequest, oauthError{"invalid_request", "malformed form"})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status != 0 {
		body := s.refusal
		if s.echo {
			text, _ := json.Marshal(oauthError{"invalid_grant", r.PostForm.Get("assertion") + " " + r.PostForm.Get("client_secret") + " " + r.PostForm.Get("refresh_token")}) // strings always go
			body = string(text)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(s.status)
		_, _ = io.WriteString(w, body) // the client is gone
		return
	}
	var g grant
	var next string
	var refused *oauthError
	switch r.PostForm.Get("grant_type") {
	case "urn:ietf:params:oauth:grant-type:jwt-bearer":
		g, refused = s.assert(r.PostForm.Get("assertion"))
	case "refresh_token":
		g, next, refused = s.exchange(r)
	default:
		refused = &oauthError{"unsupported_grant_type", "grant type not supported"}
	}
	if refused == nil && !s.users[g.user] {
		refused = &oauthError{"inactive_user", "user is inactive"}
	}
	if refused != nil {
		answer(w, http.StatusBadRequest, refused)
		return
	}
	access := s.Org.ID[:15] + "!AQ" + text(94)
	s.sessions[access] = session{user: g.user, expires: s.now().Add(lifetime)}
	s.tokens++
	out := map[string]string{
		"access_token": access, "instance_url": s.instance, "id": s.URL + "/id/" + s.Org.ID + "/005000000000001AAA",
		"token_type": "Bearer", "scope": "api id refresh_token",
	}
	if r.PostForm.Get("grant_type") == "refresh_token" {
		out["issued_at"] = strconv.FormatInt(s.now().UnixMilli(), 10)
		out["signature"] = text(32)
	}
	if next != "" {
		out["refresh_token"] = next
	}
	answer(w, http.StatusOK, out)
}

// claims are an assertion's. The audience is one string, as documented.
type claims struct {
	Issuer   string           `json:"iss"`
	Subject  string           `json:"sub"`
	Audience string           `json:"aud"`
	Expires  *jwt.NumericDate `json:"exp"`
}

func (c claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.Expires, nil }
func (claims) GetIssuedAt() (*jwt.NumericDate, error)         { return nil, nil }
func (claims) GetNotBefore() (*jwt.NumericDate, error)        { return nil, nil }
func (c claims) GetIssuer() (string, error)                   { return c.Issuer, nil }
func (c claims) GetSubject() (string, error)                  { return c.Subject, nil }
func (c claims) GetAudience() (jwt.ClaimStrings, error)       { return jwt.ClaimStrings{c.Audience}, nil }

// assert checks an assertion by the public key of the app that it names (RFC
// 7523, 3).
func (s *Server) assert(assertion string) (grant, *oauthError) {
	var c claims
	unknown := false
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithExpirationRequired(), jwt.WithTimeFunc(s.now))
	_, err := parser.ParseWithClaims(assertion, &c, func(*jwt.Token) (any, error) {
		app, ok := s.apps[c.Issuer]
		unknown = !ok
		if !ok || app.Key == nil {
			return nil, jwt.ErrTokenUnverifiable
		}
		return app.Key, nil
	})
	switch {
	case unknown:
		return grant{}, &oauthError{"invalid_client_id", "client identifier invalid"}
	case errors.Is(err, jwt.ErrTokenExpired):
		return grant{}, &oauthError{"invalid_grant", "expired authorization code"}
	case err != nil || c.Expires.Sub(s.now()) > maxAssertion:
		return grant{}, &oauthError{"invalid_grant", "invalid assertion"}
	case c.Audience != s.Audience() && c.Audience != s.URL:
		return grant{}, &oauthError{"invalid_grant", "audience is invalid"}
	case !slices.Contains(s.apps[c.Issuer].Approved, c.Subject):
		return grant{}, &oauthError{"invalid_grant", "user hasn't approved this consumer"}
	}
	return grant{c.Issuer, c.Subject}, nil
}

// exchange takes a refresh token (RFC 6749, 6), and hands out the next one
// where the app rotates them.
func (s *Server) exchange(r *http.Request) (g grant, next string, refused *oauthError) {
	app, ok := s.apps[r.PostForm.Get("client_id")]
	if !ok {
		return g, "", &oauthError{"invalid_client_id", "client identifier invalid"}
	}
	if subtle.ConstantTimeCompare([]byte(app.Secret), []byte(r.PostForm.Get("client_secret"))) != 1 {
		return g, "", &oauthError{"invalid_client", "invalid client credentials"}
	}
	token := r.PostForm.Get("refresh_token")
	if g, ok = s.refresh[token]; !ok || g.client != app.ClientID {
		return g, "", &oauthError{"invalid_grant", "expired access/refresh token"}
	}
	if app.Rotate {
		delete(s.refresh, token)
		next = s.grant(g)
	}
	return g, next, nil
}
