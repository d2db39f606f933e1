package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"skep/services/controlplane"
	"skep/services/controlplane/webhook"
)

// call is an operation as the OpenAPI document has it.
type documented struct {
	method, path, id string
	scope            controlplane.Scope
	body             bool
}

// operations are all of the document, with parameters filled in.
func operations(t *testing.T) []documented {
	t.Helper()
	raw, err := Document()
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Paths map[string]map[string]struct {
			ID       string                `json:"operationId"`
			Security []map[string][]string `json:"security"`
			Body     json.RawMessage       `json:"requestBody"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	var all []documented
	for path, methods := range d.Paths {
		for method, o := range methods {
			if len(o.Security) != 1 || len(o.Security[0][scheme]) != 1 {
				t.Fatalf("%s %s has the security %v", method, path, o.Security)
			}
			scope, err := controlplane.ParseScope(o.Security[0][scheme][0])
			if err != nil {
				t.Fatalf("%s %s: %v", method, path, err)
			}
			path := strings.NewReplacer("{provider}", "github", "{name}", "x", "{id}", "1", "{artefact}", "x").Replace(path)
			if strings.Contains(path, "{") {
				t.Fatalf("%s has a parameter that is not known here", path)
			}
			path = strings.Replace(path, "/runs/1", "/runs/00000000-0000-7000-8000-000000000000", 1)
			all = append(all, documented{strings.ToUpper(method), path, o.ID, scope, len(o.Body) > 0})
		}
	}
	if len(all) < 35 {
		t.Fatalf("%d operations are documented", len(all))
	}
	slices.SortFunc(all, func(a, b documented) int { return strings.Compare(a.id, b.id) })
	return all
}

// TestEveryOperationWantsItsScope walks the document: no route is forgotten.
func TestEveryOperationWantsItsScope(t *testing.T) {
	f := newFakeStore()
	s := serve(t, f)
	wrong := map[controlplane.Scope]string{}
	for _, scope := range controlplane.Scopes {
		for _, other := range []controlplane.Scope{controlplane.ScopeTasks, controlplane.ScopeDeploy} {
			if other != scope {
				wrong[scope] = f.token("not-"+controlplane.Name(scope), other)
			}
		}
	}
	none := f.token("no-scope")
	mutating := 0
	for _, o := range operations(t) {
		a := s.call(t, o.method, o.path, "", nil)
		if a.status != 401 || a.header.Get("WWW-Authenticate") != `Bearer realm="skep"` {
			t.Errorf("%s without a token: %d %v", o.id, a.status, a.header)
		}
		a.problem(t)
		for _, header := range []string{"Basic c2tlcDpwbGFudGVk", "Bearer", "bearer ", "planted-token-of-no-scope"} {
			r := s.request(t, o.method, o.path, "", nil)
			r.Header.Set("Authorization", header)
			if a := s.send(t, r); a.status != 401 {
				t.Errorf("%s with %q: %d", o.id, header, a.status)
			}
		}
		shown := wrong[o.scope]
		if o.scope == controlplane.ScopeRead {
			shown = none // all others may read
		}
		before := len(f.audited())
		a = s.call(t, o.method, o.path, shown, nil)
		if p := a.problem(t); a.status != 403 || !strings.Contains(p.Detail, string(o.scope)) || !strings.Contains(a.header.Get("WWW-Authenticate"), fmt.Sprintf("scope=%q", o.scope)) {
			t.Errorf("%s with another scope: %d %s %v", o.id, a.status, a.body, a.header)
		}
		rows := f.audited()[before:]
		if o.method == "GET" {
			if len(rows) != 0 {
				t.Errorf("%s left %+v", o.id, rows)
			}
			if o.scope != controlplane.ScopeRead && o.scope != controlplane.ScopeAdmin {
				t.Errorf("%s only reads, and wants %s", o.id, o.scope)
			}
			continue
		}
		mutating++
		if o.scope == controlplane.ScopeRead {
			t.Errorf("%s changes something, and all may", o.id)
		}
		if len(rows) != 1 || rows[0].Outcome != "denied" || rows[0].Action != o.id || !strings.HasPrefix(rows[0].Actor, "token/not-") || rows[0].Request != a.header.Get("X-Request-Id") {
			t.Errorf("%s left %+v", o.id, rows)
		}
	}
	if mutating < 15 {
		t.Errorf("%d operations change something: the walk misses some", mutating)
	}
}

// TestWhoIsLetIn: what is not documented, and what goes without a token.
func TestWhoIsLetIn(t *testing.T) {
	f := newFakeStore()
	s := serve(t, f)
	admin := f.token("root", controlplane.ScopeAdmin)
	for _, path := range []string{"/healthz", "/readyz", Prefix + "/openapi.json"} {
		a := s.call(t, "GET", path, "", nil)
		if a.status != 200 || a.header.Get("Content-Type") != "application/json" || a.header.Get("X-Content-Type-Options") != "nosniff" ||
			!strings.Contains(a.header.Get("Content-Security-Policy"), "default-src 'none'") || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", path, a.status, a.header)
		}
	}
	if a := s.call(t, "POST", webhook.Path+"github/main", "", "{}"); a.status != http.StatusTeapot || a.header.Get("X-Request-Id") == "" {
		t.Errorf("a webhook: %d %v", a.status, a.header)
	}
	for _, path := range []string{
		"/", "/docs", "/api", Prefix, Prefix + "/", Prefix + "/docs", Prefix + "/openapi", Prefix + "/openapi.yaml", Prefix + "/schemas/Run.json", "/schemas/Run.json",
		"//healthz", "/./healthz", "/x/../healthz", Prefix + "//version", Prefix + "/version/", Prefix + "/../v1/version", Prefix + "/projects/../version",
		Prefix + "/projects//x", Prefix + "/%2e%2e/v1/version", "/%61pi/v1/version/x", "/metrics", "/debug/pprof/", Prefix + "/webhooks", "/api/v1/webhooks/../version",
	} {
		a := s.call(t, "GET", path, admin, nil)
		if path == "/api/v1/webhooks/../version" {
			if a.status != http.StatusTeapot { // its handler takes no such path
				t.Errorf("%s: %d", path, a.status)
			}
			continue
		}
		if a.status != 404 || a.header.Get("Location") != "" {
			t.Errorf("%s: %d %s %v", path, a.status, a.body, a.header)
		}
		a.problem(t)
	}
	a := s.call(t, "PATCH", Prefix+"/projects/x", admin, nil)
	if a.problem(t); a.status != 405 || a.header.Get("Allow") != "DELETE, GET, HEAD, PUT" {
		t.Errorf("PATCH: %d %v", a.status, a.header)
	}
	for _, method := range []string{"TRACE", "OPTIONS", "get", "X"} {
		if a := s.call(t, method, Prefix+"/version", admin, nil); a.status != 405 {
			t.Errorf("%s: %d", method, a.status)
		}
	}
	if a := s.call(t, "HEAD", Prefix+"/version", admin, nil); a.status != 200 || a.body != "" {
		t.Errorf("HEAD: %d %q", a.status, a.body)
	}
	// Nothing in a request makes another method of it.
	for _, name := range []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"} {
		r := s.request(t, "GET", Prefix+"/version", admin, nil)
		r.Header.Set(name, "DELETE")
		if a := s.send(t, r); a.status != 200 {
			t.Errorf("%s: %d", name, a.status)
		}
	}
	// The request's id is the server's.
	r := s.request(t, "GET", Prefix+"/version", admin, nil)
	r.Header.Set("X-Request-Id", "mine")
	if a := s.send(t, r); len(a.header.Values("X-Request-Id")) != 1 || a.header.Get("X-Request-Id") == "mine" || strings.Contains(s.logged.String(), `"mine"`) {
		t.Errorf("the request's id is %v", a.header.Values("X-Request-Id"))
	}
	if got := s.call(t, "GET", Prefix+"/version?verbose=1", admin, nil); got.status != 422 {
		t.Errorf("a parameter that is not known: %d", got.status)
	}
	r = s.request(t, "GET", Prefix+"/version", admin, nil)
	r.Header.Add("Authorization", "Bearer other")
	if a := s.send(t, r); a.status != 400 {
		t.Errorf("two tokens: %d", a.status)
	}
}

func TestGuessesAreSlowedDown(t *testing.T) {
	f := newFakeStore()
	now := time.Unix(1000, 0)
	s := serve(t, f, func(o *Options) {
		o.Now = func() time.Time { return now }
		o.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	token := f.token("root", controlplane.ScopeAdmin)
	from := func(shown, forwarded string) answer {
		r := s.request(t, "GET", Prefix+"/version", shown, nil)
		r.Header.Set("X-Forwarded-For", forwarded)
		return s.send(t, r)
	}
	for range guesses {
		if a := from("wrong", "203.0.113.9, 198.51.100.7"); a.status != 401 || !strings.Contains(a.header.Get("WWW-Authenticate"), "invalid_token") {
			t.Fatalf("a guess: %d %v", a.status, a.header)
		}
	}
	asked := f.asked
	// The first address is the caller's own word and no way out.
	a := from(token, "192.0.2.1, 198.51.100.7")
	if a.problem(t); a.status != 429 || a.header.Get("Retry-After") == "" || f.asked != asked {
		t.Errorf("after %d guesses: %d, the store was asked %d times more", guesses, a.status, f.asked-asked)
	}
	if a := from(token, "198.51.100.8"); a.status != 200 {
		t.Errorf("somebody else: %d", a.status)
	}
	now = now.Add(recovery)
	if a := from(token, "198.51.100.7"); a.status != 200 {
		t.Errorf("later: %d", a.status)
	}
	// Who has a network of IPv6 is one caller.
	for i := range guesses {
		from("wrong", fmt.Sprintf("2001:db8::%x", i))
	}
	if a := from(token, "2001:db8::ffff"); a.status != 429 {
		t.Errorf("another address of the network: %d", a.status)
	}
	// Missing tokens are no guesses.
	for range 2 * guesses {
		from("", "198.51.100.9")
	}
	if a := from(token, "198.51.100.9"); a.status != 200 {
		t.Errorf("after calls without a token: %d", a.status)
	}
	for i := range 3 * maxAddresses {
		s.fails.fail(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if n, l := len(s.fails.entries), s.fails.order.Len(); n != maxAddresses || l != maxAddresses {
		t.Errorf("the limiter keeps %d and %d addresses", n, l)
	}
}

// TestForwardedForIsNotTrusted without a proxy that was named.
func TestForwardedForIsNotTrusted(t *testing.T) {
	a := &API{}
	r := &http.Request{RemoteAddr: "203.0.113.1:1234", Header: http.Header{"X-Forwarded-For": {"192.0.2.1"}}}
	if got := a.remote(r); got != netip.MustParseAddr("203.0.113.1") {
		t.Errorf("the caller is %s", got)
	}
}
