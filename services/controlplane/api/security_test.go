package api

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

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

func TestNotReady(t *testing.T) {
	s := serve(t, newFakeStore(), func(o *Options) {
		o.Ready = func(context.Context) error { return errors.New("planted-detail") }
	})
	a := s.call(t, "GET", "/readyz", "", nil)
	if a.problem(t); a.status != 503 || strings.Contains(a.body, "planted") || !strings.Contains(s.logged.String(), "planted-detail") {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if a := s.call(t, "GET", "/healthz", "", nil); a.status != 200 {
		t.Errorf("the process lives: %d", a.status)
	}
}

func TestPanicIs500(t *testing.T) {
	f := newFakeStore() // most of its methods are missing
	s := serve(t, f)
	token := f.token("root", controlplane.ScopeAdmin)
	a := s.call(t, "DELETE", Prefix+"/projects/x", token, nil)
	if p := a.problem(t); p.Status != 500 || !strings.Contains(s.logged.String(), strings.TrimPrefix(p.Instance, "urn:uuid:")) {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if rows := f.audited(); len(rows) != 1 || rows[0].Outcome != "failed" || rows[0].Target != "x" {
		t.Errorf("the audit log has %+v", rows)
	}
	if a := s.call(t, "GET", Prefix+"/version", token, nil); a.status != 200 {
		t.Errorf("the server is not well afterwards: %d", a.status)
	}
}

// TestBodies that are too long, in disguise, or not JSON.
func TestBodies(t *testing.T) {
	f := newFakeStore()
	s := serve(t, f)
	token := f.token("root", controlplane.ScopeAdmin)
	const secret = "planted-credential"
	for _, o := range operations(t) {
		if !o.body {
			continue
		}
		if a := s.call(t, o.method, o.path, token, `{"x":"`+strings.Repeat(secret, maxBody/len(secret)+1)+`"}`); a.status != 413 || strings.Contains(a.body, secret) {
			t.Errorf("%s: a body that is too long: %d", o.id, a.status)
		}
		r := s.request(t, o.method, o.path, token, nil)
		r.Body, r.ContentLength = io.NopCloser(io.LimitReader(endless{}, 2*maxBody)), -1
		if a := s.send(t, r); a.status != 413 {
			t.Errorf("%s: a body of unknown length: %d", o.id, a.status)
		}
		for body, want := range map[string]int{
			`{"` + secret: 400, `["` + secret + `"]`: 422, `"` + secret + `"`: 422, `{"surprise":"` + secret + `"}`: 422,
			`{"credentials":{"token":["` + secret + `"]},"secret":{"a":"` + secret + `"},"inputs":"` + secret + `","deploy":"` + secret + `","image":7}`: 422,
		} {
			a := s.call(t, o.method, o.path, token, body)
			if a.problem(t); a.status != want || strings.Contains(a.body, secret) {
				t.Errorf("%s with %s: %d %s", o.id, body, a.status, a.body)
			}
		}
		r = s.request(t, o.method, o.path, token, "a: b")
		r.Header.Set("Content-Type", "application/yaml")
		if a := s.send(t, r); a.status != 415 {
			t.Errorf("%s: YAML: %d", o.id, a.status)
		}
		r = s.request(t, o.method, o.path, token, "{}")
		r.Header.Set("Content-Encoding", "gzip")
		if a := s.send(t, r); a.status != 415 {
			t.Errorf("%s: gzip: %d", o.id, a.status)
		}
	}
	if log := s.logged.String(); strings.Contains(log, secret) || strings.Contains(log, token) {
		t.Error("a credential is in the log")
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

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

// hostile are strings that want to be something else.
var hostile = []string{
	`'; DROP TABLE skep.run; --`, `" OR 1=1 --`, `$(reboot)`, "`id`", `{{.Env}}`, `${jndi:ldap://x}`, `%s%n%d`, `../../etc/passwd`, `..%2f..%2f`, "a\x00b", "a\r\nSet-Cookie: x=1",
	"\u202e", `<script>alert(1)</script>`, `\`, `*`, `-rf`, "\xff\xfe", strings.Repeat("A", 5000), "𝕊\u0000", `null`, `[]`, "0", "-1", "9223372036854775808",
}

// TestHostileStrings go through every field: they are refused, or come back as
// they are, and break nothing.
func TestHostileStrings(t *testing.T) {
	db := newStore(t)
	s := serve(t, db)
	admin := newToken(t, db, "root", controlplane.ScopeAdmin)
	s.call(t, "PUT", Prefix+"/integrations/github/main", admin, map[string]any{
		"settings": map[string]string{"organization": "acme"}, "credentials": map[string]string{"token": "t"},
	}).into(t, 200, nil)
	s.call(t, "PUT", Prefix+"/tasks/t", admin, map[string]any{"image": "i"}).into(t, 200, nil)
	taken, refused := 0, 0
	check := func(what string, a answer) {
		t.Helper()
		switch {
		case a.status >= 500:
			t.Errorf("%s: %d %s", what, a.status, a.body)
		case a.status >= 400:
			refused++
			a.problem(t)
		default:
			taken++
		}
		if a.header.Get("Set-Cookie") != "" || a.header.Get("Location") != "" {
			t.Errorf("%s: %v", what, a.header)
		}
	}
	for _, h := range hostile {
		e := url.PathEscape(h)
		q := url.QueryEscape(h)
		for _, o := range operations(t) {
			path := o.path
			for _, part := range []string{"github", "x", "00000000-0000-7000-8000-000000000000", "1"} {
				if o.id == "event.follow" || o.id == "log.text" {
					break
				}
				if changed := strings.Replace(path, "/"+part, "/"+e, 1); changed != path {
					check(o.id+" "+changed, s.call(t, o.method, changed, admin, map[bool]any{true: "{}"}[o.body]))
				}
			}
		}
		for _, path := range []string{
			"/runs?project=", "/runs?task=", "/runs?state=", "/runs?cursor=", "/runs?limit=", "/audit?actor=", "/audit?cursor=", "/deliveries?source=", "/deliveries?state=",
			"/integrations?provider=", "/tasks?cursor=", "/schedules?cursor=", "/tokens?cursor=", "/projects?cursor=",
		} {
			check(path+q, s.call(t, "GET", Prefix+path+q, admin, nil))
		}
		for _, path := range []string{"/events?topics=", "/events?after="} {
			if h == "0" && strings.Contains(path, "after") {
				continue // the beginning: it would be followed
			}
			a := s.call(t, "GET", Prefix+path+q, admin, nil)
			if check(path+q, a); a.status != 422 {
				t.Errorf("%s%s: %d", path, q, a.status)
			}
		}
		put := func(path string, body map[string]any) {
			check("PUT "+path, s.call(t, "PUT", Prefix+path, admin, body))
		}
		put("/integrations/github/x", map[string]any{"settings": map[string]string{"organization": h, "url": h}, "credentials": map[string]string{"token": h}})
		put("/integrations/github/x", map[string]any{"settings": map[string]string{"organization": h}, "credentials": map[string]string{"token": "t", "key": h}})
		put("/integrations/github/x", map[string]any{"settings": map[string]string{h: h}, "credentials": map[string]string{h: h}})
		put("/sources/github/x", map[string]any{"secret": h + strings.Repeat("s", 20), "integration": h})
		put("/sources/github/x", map[string]any{"secret": h + strings.Repeat("s", 20)})
		project := map[string]any{"provider": "github", "integration": "main", "repository": "a/b", "cluster": "c", "deploy": "never"}
		put("/projects/x", project)
		for _, field := range []string{"provider", "integration", "repository", "branch", "folder", "cluster", "deploy"} {
			bad := map[string]any{field: h}
			for k, v := range project {
				if k != field {
					bad[k] = v
				}
			}
			put("/projects/x", bad)
		}
		project["previews"] = map[string]any{"label": h, "lifetime": h}
		put("/projects/x", project)
		put("/tasks/x", map[string]any{"image": h})
		put("/tasks/x", map[string]any{"image": "i", "command": []string{h}, "inputs": map[string]string{"A": h}})
		put("/tasks/x", map[string]any{"image": "i", "inputs": map[string]string{h: h}, "deadline": h, "priority": h})
		put("/tasks/x", map[string]any{"image": "i", "credentials": []map[string]string{{"provider": h, "name": h}}})
		for _, field := range []string{"task", "cron", "at", "zone", "overlap"} {
			body := map[string]any{"task": "t", "cron": "0 0 * * *"}
			body[field] = h
			put("/schedules/x", body)
		}
		put("/schedules/x", map[string]any{"task": "t", "cron": "TZ=" + h + " 0 0 * * *"})
		r := s.request(t, "POST", Prefix+"/tasks/t/runs", admin, map[string]any{"inputs": map[string]string{h: h}})
		check("run", s.send(t, r))
		var task Task
		if a := s.call(t, "GET", Prefix+"/tasks/x", admin, nil); a.status == 200 {
			if a.into(t, 200, &task); len(task.Inputs) == 1 && task.Inputs["A"] != "" && len(task.Command) == 1 && task.Inputs["A"] != task.Command[0] {
				t.Errorf("%q came back as %+v", h, task)
			}
		}
	}
	if taken < 100 || refused < 500 {
		t.Errorf("%d were taken and %d refused: the test shows little", taken, refused)
	}
	var runs Page[Run]
	s.call(t, "GET", Prefix+"/runs", admin, nil).into(t, 200, &runs)
}

func TestCursorsAreNotChanged(t *testing.T) {
	list := filters("runs", "a", "")
	good := cursor(list, "42")
	if n, err := (Paging{Cursor: good}).number(list); n != 42 || err != nil {
		t.Errorf("number = %d, %v", n, err)
	}
	refused := func(what, c, list string) {
		t.Helper()
		n, err := Paging{Cursor: c}.number(list)
		var status huma.StatusError
		if !errors.As(err, &status) || status.GetStatus() != 422 {
			t.Errorf("%s: %d, %v", what, n, err)
		}
	}
	raw, err := base64.RawURLEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		for bit := range 8 {
			changed := slices.Clone(raw)
			changed[i] ^= 1 << bit
			refused(fmt.Sprintf("bit %d of byte %d", bit, i), base64.RawURLEncoding.EncodeToString(changed), list)
		}
		if i > 0 { // an empty one is the beginning
			refused("shortened", base64.RawURLEncoding.EncodeToString(raw[:i]), list)
		}
	}
	refused("of another filter", good, filters("runs", "", "a"))
	refused("of another list", good, filters("deliveries", "a", ""))
	refused("in another spelling", good+"=", list)
	refused("with a line break", good[:4]+"\n"+good[4:], list)
	refused("of no number", cursor(list, "x"), list)
	refused("of a negative number", cursor(list, "-1"), list)
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

// TestSmuggling speaks HTTP by hand: what net/http lets through must be one
// request, and answered as one.
func TestSmuggling(t *testing.T) {
	f := newFakeStore()
	s := serve(t, f)
	token := f.token("root", controlplane.ScopeAdmin)
	inner := "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
	for what, request := range map[string]string{
		"two lengths":         "PUT /api/v1/projects/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\n{}",
		"length and chunks":   "PUT /api/v1/projects/x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + inner,
		"space before colon":  "GET /api/v1/version HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer " + token + "\r\n\r\n",
		"folded header":       "GET /api/v1/version HTTP/1.1\r\nHost: x\r\nX: a\r\n Authorization: Bearer " + token + "\r\n\r\n",
		"two hosts":           "GET /api/v1/version HTTP/1.1\r\nHost: x\r\nHost: y\r\nAuthorization: Bearer " + token + "\r\n\r\n",
		"bare LF in a header": "GET /api/v1/version HTTP/1.1\r\nHost: x\r\nX: a\nAuthorization: Bearer " + token + "x\r\n\r\n",
		"underscore":          "GET /api/v1/version HTTP/1.1\r\nHost: x\r\nAuthorization_: Bearer " + token + "\r\n\r\n",
		"no token":            "GET /api/v1/version HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Bearer " + token + "\r\n\r\n",
		"absolute":            "GET http://other/api/v1/version HTTP/1.1\r\nHost: x\r\n\r\n",
		"star":                "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
		"connect":             "CONNECT /api/v1/version HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		} else if res.StatusCode/100 == 2 && what != "star" {
			t.Errorf("%s: %s", what, res.Status)
		}
		conn.Close()
	}
	if rows := f.audited(); len(rows) != 0 {
		t.Errorf("something was called: %+v", rows)
	}
}

func TestLogHandlerAddsTheRequestOnce(t *testing.T) {
	var out buffer
	h := LogHandler(LogHandler(slog.NewTextHandler(&out, nil)))
	ctx := withID(t.Context(), "r1")
	slog.New(h).With("a", 1).InfoContext(ctx, "x")
	if strings.Count(out.String(), "request=r1") != 1 {
		t.Errorf("the line is %s", out.String())
	}
}
