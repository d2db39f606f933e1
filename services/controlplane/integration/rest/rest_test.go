package rest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"skep/services/controlplane/integration"
	"skep/services/controlplane/integration/rest"
)

// open is an API whose server answers with what it was asked.
func open(t *testing.T) (rest.API, *int) {
	t.Helper()
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.URL.Path == "/api/html" {
			fmt.Fprint(w, "<html>planted</html>")
			return
		}
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		text := r.Method + " " + r.RequestURI + " " + r.Header.Get("Content-Type") + " " + r.PostForm.Encode()
		if err := json.NewEncoder(w).Encode(text); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	o := integration.Options{Loopback: true}
	base, err := integration.ParseBase(server.URL+"/api", o)
	if err != nil {
		t.Fatal(err)
	}
	return rest.API{Base: base, HTTP: integration.NewHTTP(integration.Config{Base: base}, o)}, &asked
}

func TestCall(t *testing.T) {
	api, _ := open(t)
	var got string
	path := rest.Path("projects", "group/a b", "branches", "für#1%20?&x=y")
	if _, err := api.Call(t.Context(), http.MethodGet, path, url.Values{"q": {"a&b"}}, nil, &got); err != nil {
		t.Fatal(err)
	}
	if want := "GET /api/projects/group%2Fa%20b/branches/f%C3%BCr%231%2520%3F&x=y?q=a%26b  "; got != want {
		t.Errorf("it asked %q; want %q", got, want)
	}
	if err := api.Form(t.Context(), "token", url.Values{"a": {"b c"}}, &got); err != nil || got != "POST /api/token application/x-www-form-urlencoded a=b+c" {
		t.Errorf("it posted %q, %v", got, err)
	}
	if _, err := api.Call(t.Context(), http.MethodPut, "x", nil, 1, &got); err != nil || got != "PUT /api/x application/json " {
		t.Errorf("it put %q, %v", got, err)
	}
}

func TestPathLeadsNowhereElse(t *testing.T) {
	api, asked := open(t)
	for _, segments := range [][]string{{"a", "..", "b"}, {".", "a"}, {"a", "", "b"}, {""}, {".."}} {
		if _, err := api.Call(t.Context(), http.MethodGet, rest.Path(segments...), nil, nil, nil); err == nil {
			t.Errorf("%q is asked for", segments)
		}
	}
	if *asked != 0 {
		t.Errorf("%d requests went out", *asked)
	}
}

func TestAnswerIsNoJSON(t *testing.T) {
	api, _ := open(t)
	var n int
	for _, path := range []string{"html", "text"} {
		_, err := api.Call(t.Context(), http.MethodGet, path, url.Values{"token": {"planted"}}, nil, &n)
		if err == nil || !strings.Contains(err.Error(), "not what the API promises") || strings.Contains(err.Error(), "planted") {
			t.Errorf("%s: %v", path, err)
		}
	}
}
