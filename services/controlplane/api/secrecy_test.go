package api

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"skep/services/controlplane"
)

// TestValuesStayInside plants credentials and looks for them everywhere.
func TestValuesStayInside(t *testing.T) {
	db := newStore(t)
	s := serve(t, db)
	db.Log = s.log
	admin := newToken(t, db, "root", controlplane.ScopeAdmin)
	planted := []string{"planted-token-1234567890", "planted-key-1234567890", "planted-secret-1234567890", "planted query", admin}
	var answers strings.Builder
	look := func(method, path string, body any) answer {
		t.Helper()
		a := s.call(t, method, path, admin, body)
		fmt.Fprintf(&answers, "%v %s\n", a.header, a.body)
		return a
	}
	credentials := map[string]string{"token": planted[0], "key": planted[1]}
	look("PUT", Prefix+"/integrations/github/main", map[string]any{"settings": map[string]string{"organization": "acme"}, "credentials": credentials}).into(t, 200, nil)
	// All that is wrong is said at once, at its place.
	p := look("PUT", Prefix+"/integrations/github/other", map[string]any{
		"settings":    map[string]string{"url": "ftp://x", "token": planted[0], "colour": "red"},
		"credentials": map[string]string{"token": planted[0] + " ", "organization": planted[1]},
	}).problem(t)
	var where []string
	for _, e := range p.Errors {
		where = append(where, e.Location)
	}
	slices.Sort(where)
	for _, want := range []string{"body.settings.url", "body.settings.colour", "body.settings.organization", "body.credentials.token"} {
		if p.Status != 422 || !slices.Contains(where, want) {
			t.Errorf("the problems are at %v, not at %s", where, want)
		}
	}
	if p := look("PUT", Prefix+"/integrations/github/other", map[string]any{}).problem(t); p.Status != 422 || len(p.Errors) != 2 {
		t.Errorf("without anything: %+v", p)
	}
	if p := look("PUT", Prefix+"/integrations/generic/other", map[string]any{}).problem(t); p.Status != 422 || p.Errors[0].Location != "path.provider" {
		t.Errorf("of a provider without credentials: %+v", p)
	}
	look("PUT", Prefix+"/integrations/github/ref", map[string]any{
		"settings": map[string]string{"organization": "acme"}, "credentials": map[string]string{"token": "op://vault/item/field"},
	}).into(t, 200, nil)

	for _, body := range []map[string]any{{}, {"secret": ""}, {"secret": "short"}, {"secret": "op://vault/item/field"}, {"disabled": true}} {
		if p := look("PUT", Prefix+"/sources/github/main", body).problem(t); p.Status != 422 || p.Errors[0].Location != "body.secret" {
			t.Errorf("a source with %v: %+v", body, p)
		}
	}
	look("PUT", Prefix+"/sources/github/main", map[string]any{"secret": planted[2]}).into(t, 200, nil)
	if a := look("PUT", Prefix+"/sources/github/main", map[string]any{"secret": planted[2], "integration": "none"}); a.status != 404 {
		t.Errorf("an integration that is not there: %d %s", a.status, a.body)
	}
	for _, path := range []string{
		"/integrations", "/integrations/github/main", "/sources", "/sources/github/main", "/tokens", "/audit", "/projects?x=" + url.QueryEscape(planted[3]),
		"/runs?project=" + url.QueryEscape(planted[3]), "/integrations/github/none", "/openapi.json",
	} {
		look("GET", Prefix+path, nil)
	}
	look("POST", Prefix+"/integrations/github/main/test", nil).into(t, 200, nil)
	wrong := s.request(t, "GET", Prefix+"/runs", planted[0], nil)
	wrong.Header.Set("Cookie", planted[1])
	wrong.Header.Set("User-Agent", planted[2])
	a := s.send(t, wrong)
	fmt.Fprintf(&answers, "%v %s\n", a.header, a.body)
	for _, secret := range planted {
		for _, spelling := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret)), url.QueryEscape(secret), fmt.Sprint([]byte(secret))} {
			if strings.Contains(answers.String(), spelling) {
				t.Errorf("%q is in an answer", spelling)
			}
			if strings.Contains(s.logged.String(), spelling) {
				t.Errorf("%q is in the log", spelling)
			}
		}
	}
	if text := fmt.Sprintf("%v %+v %#v", Secret{value(planted[0])}, Secret{value(planted[0])}, Secret{value(planted[0])}); strings.Contains(text, "planted") {
		t.Errorf("a secret prints as %s", text)
	}
}
