package ingress

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"skep/generator/bundle"
	"skep/generator/expand"
	"skep/generator/spec"
)

// generated is the label sets of a project with this application beside an
// ingress, as the generator writes them.
func generated(t *testing.T, app string) *running {
	t.Helper()
	// Caddy would speak TLS on any port but its HTTP port, which the test moves.
	plain := set("test/plain", "caddy_0.auto_https: off")
	return run(t, append(compiled(t, app).LabelSets(), plain)...)
}

func compiled(t *testing.T, app string) *bundle.Bundle {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"cluster.yaml": `
name: test
zones:
  lan: {domain: lan.example.com}
  admin: {domain: admin.example.com, allow: [10.0.0.0/8]}
ingress:
  trusted_proxies: [127.0.0.0/8]
  tls: {lan: {mode: off}, admin: {mode: off}}
  default: {zone: lan, auth: sso}
sso: {upstream: "http://authentik-server:9000"}
`,
		"ingress/stack.yaml": "services:\n  caddy: {image: \"skep-ingress:1\"}\n",
		"app/stack.yaml":     "name: app\nservices:\n" + app,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cluster, problems := spec.Load(t.Context(), dir, spec.Options{})
	if cluster == nil || problems.Failed() {
		t.Fatal(problems)
	}
	b, err := expand.Expand(cluster)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	member   = "Cookie: session=1"
	inside   = "X-Forwarded-For: 10.1.2.3"
	outside  = "X-Forwarded-For: 198.51.100.7"
	forged   = "X-Authentik-Username: queen"
	received = "Got-X-Authentik-Username"
)

func TestGeneratedLogin(t *testing.T) {
	r := generated(t, `
  web: {image: "x:1", x-ingress: {host: web, port: 80, auth: {bypass: ["/api/*", /ping]}}}
  all: {image: "x:1", x-ingress: {host: all, port: 80}}
  own: {image: "x:1", x-ingress: {host: own, port: 80, auth: {sso: false, reason: has its own}}}
`)
	r.want(r.do("GET", "http://all.lan.example.com/"), 401, "")
	r.want(r.do("GET", "http://web.lan.example.com/apix"), 401, "")
	r.want(r.do("GET", "http://own.lan.example.com/"), 200, "app_own:80 GET /")
	in := r.do("GET", "http://web.lan.example.com/x", member, forged)
	r.want(in, 200, "app_web:80 GET /x")
	r.wantHeader(in, received, "bee")
	open := r.do("GET", "http://web.lan.example.com/api/v3", forged)
	r.want(open, 200, "app_web:80 GET /api/v3")
	r.wantHeader(open, received, "")
	for _, host := range []string{"web", "all"} {
		callback := r.do("GET", "http://"+host+".lan.example.com/outpost.goauthentik.io/callback", forged)
		r.want(callback, 401, "authentik-server:9000 GET /outpost.goauthentik.io/callback")
		r.wantHeader(callback, received, "")
	}
}

func TestGeneratedPathTable(t *testing.T) {
	r := generated(t, `
  gateway: {image: "x:1", x-ingress: {host: app, port: 8000, paths: ["/auth/v1/*"], strip: /auth/v1, auth: {sso: false, reason: issues tokens}}}
  server:  {image: "x:1", x-ingress: {host: app, port: 8080, paths: ["/api/*", "/*"], auth: {bypass: [/api/health]}, body: 1KB}}
`)
	r.want(r.do("GET", "http://app.lan.example.com/auth/v1/token"), 200, "app_gateway:8000 GET /token")
	r.want(r.do("GET", "http://app.lan.example.com/api/x"), 401, "")
	r.want(r.do("GET", "http://app.lan.example.com/"), 401, "")
	r.want(r.do("GET", "http://app.lan.example.com/api/x", member), 200, "app_server:8080 GET /api/x")
	r.want(r.do("GET", "http://app.lan.example.com/", member), 200, "app_server:8080 GET /")
	health := r.do("GET", "http://app.lan.example.com/api/health", forged)
	r.want(health, 200, "app_server:8080 GET /api/health")
	r.wantHeader(health, received, "")
	r.want(r.do("GET", "http://app.lan.example.com/outpost.goauthentik.io/start"), 401, "authentik-server:9000 GET /outpost")
	r.want(r.send("POST", "http://app.lan.example.com/api/x", strings.NewReader(strings.Repeat("x", 2000)), member), 413, "")
}

func TestGeneratedPathsOfAHostWithoutRoot(t *testing.T) {
	r := generated(t, `
  badge: {image: "x:1", x-ingress: {host: badge, port: 80, paths: ["/api/badge/*"], auth: none}}
`)
	r.want(r.do("GET", "http://badge.lan.example.com/api/badge/1"), 200, "app_badge:80 GET /api/badge/1")
	r.want(r.do("GET", "http://badge.lan.example.com/"), 404, "")
}

// TestGeneratedAllowList also proves that who is not let in is told so before
// a login is asked for, with handles on the site and without.
func TestGeneratedAllowList(t *testing.T) {
	r := generated(t, `
  plain: {image: "x:1", x-ingress: {host: plain, zone: admin, port: 80}}
  table: {image: "x:1", x-ingress: {host: table, zone: admin, port: 80, paths: ["/a/*", "/*"]}}
  mixed:
    image: "x:1"
    x-ingress:
      - {host: mixed, port: 80, paths: ["/in/*"], allow: [10.0.0.0/8], auth: {sso: false, reason: by address}}
      - {host: mixed, port: 81, auth: {sso: false, reason: public}}
`)
	for _, url := range []string{"http://plain.admin.example.com/", "http://table.admin.example.com/a/b", "http://table.admin.example.com/"} {
		r.want(r.do("GET", url, outside), 403, "")
		r.want(r.do("GET", url, outside, member), 403, "")
		r.want(r.do("GET", url, inside), 401, "")
		r.want(r.do("GET", url, inside, member), 200, "app_")
	}
	r.want(r.do("GET", "http://mixed.lan.example.com/in/x", outside), 403, "")
	r.want(r.do("GET", "http://mixed.lan.example.com/in/x", inside), 200, "app_mixed:80")
	r.want(r.do("GET", "http://mixed.lan.example.com/x", outside), 200, "app_mixed:81")
}

func TestGeneratedMaintenanceAndHeaders(t *testing.T) {
	r := generated(t, `
  down: {image: "x:1", x-ingress: {host: down, port: 80, auth: none, maintenance: {retry_after: 90s, message: 'Back "soon" {{ }} $1'}}}
  bare: {image: "x:1", x-ingress: {host: bare, port: 80, auth: none, headers: {security: false, request: {X-Zone: a b, -X-Drop: ""}, response: {-X-Powered-By: "", X-Out: 'q"uote'}}, caddy: {"header.X-Raw": "1"}}}
  safe: {image: "x:1", x-ingress: {host: safe, port: 80, auth: none, rate: 2/1h, stream: true}}
`)
	page := r.do("GET", "http://down.lan.example.com/x")
	r.want(page, 503, `Back "soon" {{ }} $1`)
	r.wantHeader(page, "Retry-After", "90")
	r.wantHeader(page, "Content-Type", "text/html; charset=utf-8")
	bare := r.do("GET", "http://bare.lan.example.com/", "X-Drop: 1")
	r.want(bare, 200, "app_bare:80")
	r.wantHeader(bare, "Got-X-Zone", "a b")
	r.wantHeader(bare, "Got-X-Drop", "")
	r.wantHeader(bare, "X-Powered-By", "")
	r.wantHeader(bare, "X-Out", `q"uote`)
	r.wantHeader(bare, "X-Raw", "1")
	r.wantHeader(bare, "X-Content-Type-Options", "")
	safe := r.do("GET", "http://safe.lan.example.com/")
	r.wantHeader(safe, "X-Content-Type-Options", "nosniff")
	r.wantHeader(safe, "Server", "")
	r.do("GET", "http://safe.lan.example.com/")
	r.want(r.do("GET", "http://safe.lan.example.com/"), 429, "")
}
