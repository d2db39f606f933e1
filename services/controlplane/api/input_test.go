package api

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"skep/services/controlplane"
)

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

func TestDurationText(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s": 0, "30s": 30 * time.Second, "10m": 10 * time.Minute, "10m1s": 601 * time.Second, "1h": time.Hour, "20h": 20 * time.Hour,
		"1h10m": 70 * time.Minute, "1h0m5s": time.Hour + 5*time.Second, "1.5s": 1500 * time.Millisecond,
	} {
		text, err := Duration(d).MarshalText()
		var back Duration
		if err := errors.Join(err, back.UnmarshalText(text)); err != nil || string(text) != want || back != Duration(d) {
			t.Errorf("%v is written %q, and read %v, %v", d, text, back, err)
		}
	}
}
