package store_test

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"skep/services/controlplane"
	"skep/services/controlplane/store"
)

var deploy = []controlplane.Scope{controlplane.ScopeDeploy, controlplane.ScopeRead}

// newToken returns the text of a token.
func newToken(t *testing.T, s *store.Store, name controlplane.Name, expires time.Time) string {
	t.Helper()
	shown, token, err := s.CreateToken(t.Context(), name, deploy, expires)
	if err != nil {
		t.Fatal(err)
	}
	if token.Name != name || !slices.Equal(token.Scopes, deploy) {
		t.Errorf("CreateToken = %+v", token)
	}
	text, err := shown.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTokens(t *testing.T) {
	s, dsn := newStore(t)
	text := newToken(t, s, "ci", time.Time{})
	if !regexp.MustCompile(`^skep_[0-9A-Za-z]{49}$`).MatchString(text) {
		t.Errorf("a scanner would not know %q", text)
	}
	token, err := s.Authenticate(t.Context(), text)
	if err != nil || token.Name != "ci" || !token.May(controlplane.ScopeDeploy) || token.May(controlplane.ScopeAdmin) {
		t.Errorf("Authenticate = %+v, %v", token, err)
	}
	if used := query[*time.Time](t, dsn, "SELECT used FROM token"); used[0] == nil {
		t.Error("nothing says that the token was used")
	}

	expired := newToken(t, s, "expired", time.Now().Add(-time.Second))
	revoked := newToken(t, s, "revoked", time.Now().Add(time.Hour))
	if err := s.RevokeToken(t.Context(), "revoked"); err != nil {
		t.Fatal(err)
	}
	another, _ := newStore(t)
	for name, text := range map[string]string{
		"empty": "", "expired": expired, "revoked": revoked, "of another server": newToken(t, another, "ci", time.Time{}),
		"lower case": strings.ToLower(text), "longer": text + "0", "shorter": text[:len(text)-1], "typing error": text[:10] + "!" + text[11:],
	} {
		if _, err := s.Authenticate(t.Context(), text); !errors.Is(err, controlplane.ErrDenied) {
			t.Errorf("a token that is %s: %v", name, err)
		} else if text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("the error shows the token: %v", err)
		}
	}

	if _, _, err := s.CreateToken(t.Context(), "ci", deploy, time.Time{}); !errors.Is(err, controlplane.ErrConflict) {
		t.Errorf("a name twice: %v", err)
	}
	newToken(t, s, "revoked", time.Time{}) // its name is free again
	for name, scopes := range map[string][]controlplane.Scope{"none": nil, "unknown": {"root"}} {
		if _, _, err := s.CreateToken(t.Context(), "other", scopes, time.Time{}); !errors.Is(err, controlplane.ErrInvalid) {
			t.Errorf("scopes that are %s: %v", name, err)
		}
	}
	if err := s.RevokeToken(t.Context(), "nobody"); !errors.Is(err, controlplane.ErrNotFound) {
		t.Errorf("RevokeToken = %v", err)
	}
	page, next, err := s.ListTokens(t.Context(), store.Page{Limit: 3})
	if err != nil || len(page) != 3 || next == 0 {
		t.Fatalf("ListTokens = %d tokens, next %d, %v", len(page), next, err)
	}
	rest, next, err := s.ListTokens(t.Context(), store.Page{Before: next, Limit: 3})
	if err != nil || len(rest) != 1 || next != 0 || rest[0].Name != "ci" {
		t.Errorf("the next page is %+v, next %d, %v", rest, next, err)
	}
}

func TestAudit(t *testing.T) {
	s, _ := newStore(t)
	for _, actor := range []string{"token/ci", "user/ada@github", "token/ci"} {
		row := controlplane.Audit{Actor: actor, Action: "integration.put", Target: strings.Repeat("long", 1000), Outcome: "done", Request: "r\x001"}
		if err := s.Audit(t.Context(), row); err != nil {
			t.Fatal(err)
		}
	}
	all, next, err := s.ListAudit(t.Context(), "", store.Page{})
	if err != nil || len(all) != 3 || next != 0 || all[0].ID < all[2].ID || len(all[0].Target) != 1000 {
		t.Errorf("ListAudit = %d rows, next %d, %v", len(all), next, err)
	}
	some, next, err := s.ListAudit(t.Context(), "token/ci", store.Page{Limit: 1})
	if err != nil || len(some) != 1 || some[0].Actor != "token/ci" || next == 0 {
		t.Errorf("ListAudit of one = %+v, next %d, %v", some, next, err)
	}
	if n, err := s.PruneAudit(t.Context(), time.Now().Add(time.Hour)); n != 3 || err != nil {
		t.Errorf("PruneAudit = %d, %v", n, err)
	}
}
