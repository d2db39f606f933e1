package ingress

import (
	"strings"
	"testing"

	"skep/generator/stack"
)

// ssoSnippet is what the ingress's own service says.
var ssoSnippet = set("infra/caddy", `
	caddy_0.auto_https: off
	caddy_0.servers.trusted_proxies: static 127.0.0.0/8
	caddy_0.servers.client_ip_headers: X-Forwarded-For
	caddy_1: (sso)
	caddy_1.forward_auth: {args[0]} http://authentik-server:9000
	caddy_1.forward_auth.uri: /outpost.goauthentik.io/auth/caddy
	caddy_1.forward_auth.copy_headers: X-Authentik-Username
	caddy_2: (security)
	caddy_2.header.X-Content-Type-Options: nosniff
	caddy_2.header.Strict-Transport-Security: "max-age=31536000; includeSubDomains"
	caddy_2.header.-Server:
`)

func TestPathTableOfTwoServices(t *testing.T) {
	r := run(t, ssoSnippet, set("supabase/auth", `
		caddy: http://api.example.com
		caddy.import: security
		caddy.handle_0: /auth/v1/*
		caddy.handle_0.uri: strip_prefix /auth/v1
		caddy.handle_0.reverse_proxy: {{upstreams 9999}}
	`), set("supabase/rest", `
		caddy: http://api.example.com
		caddy.import: security
		caddy.handle_0: /rest/v1/*
		caddy.handle_0.import: sso *
		caddy.handle_0.reverse_proxy: {{upstreams 3000}}
		caddy.handle_1: /rest/v1/open/*
		caddy.handle_1.reverse_proxy: {{upstreams 3001}}
	`), set("supabase/studio", `
		caddy: http://api.example.com
		caddy.import: security
		caddy.handle.reverse_proxy: {{upstreams 80}}
	`))

	auth := r.do("GET", "http://api.example.com/auth/v1/token")
	r.want(auth, 200, "supabase_auth:9999 GET /token")
	r.wantHeader(auth, "X-Content-Type-Options", "nosniff")
	r.wantHeader(auth, "Strict-Transport-Security", "max-age=31536000; includeSubDomains")
	r.wantHeader(auth, "Server", "")
	r.want(r.do("GET", "http://api.example.com/rest/v1/t"), 401, "")
	r.want(r.do("GET", "http://api.example.com/rest/v1/t", "Cookie: a=b"), 200, "supabase_rest:3000 GET /rest/v1/t")
	r.want(r.do("GET", "http://api.example.com/rest/v1/open/t"), 200, "supabase_rest:3001")
	r.want(r.do("GET", "http://api.example.com/"), 200, "supabase_studio:80")
}

func TestForwardAuthWithNamedMatcher(t *testing.T) {
	r := run(t, ssoSnippet, set("media/sonarr", `
		caddy: http://sonarr.example.com
		caddy.@sso.not: path /api/* /ping
		caddy.import: sso @sso
		caddy.reverse_proxy: {{upstreams 8989}}
	`))
	r.want(r.do("GET", "http://sonarr.example.com/"), 401, "")
	r.want(r.do("GET", "http://sonarr.example.com/api/v3"), 200, "media_sonarr:8989 GET /api/v3")
	in := r.do("GET", "http://sonarr.example.com/", "Cookie: a=b", "X-Authentik-Username: drone")
	r.want(in, 200, "media_sonarr:8989")
	r.wantHeader(in, "Got-X-Authentik-Username", "bee")
}

func TestAllowList(t *testing.T) {
	const allowed, denied = "X-Forwarded-For: 10.1.2.3", "X-Forwarded-For: 198.51.100.7"

	t.Run("before a site's reverse_proxy", func(t *testing.T) {
		r := run(t, ssoSnippet, set("a/one", `
			caddy: http://x.example.com
			caddy.@denied.not: client_ip 10.0.0.0/8 192.168.0.0/16
			caddy.respond: @denied 403
			caddy.reverse_proxy: {{upstreams 80}}
		`))
		r.want(r.do("GET", "http://x.example.com/", allowed), 200, "a_one:80")
		r.want(r.do("GET", "http://x.example.com/", denied), 403, "")
	})
	t.Run("a site's respond comes after its handles", func(t *testing.T) {
		r := run(t, ssoSnippet, set("a/one", `
			caddy: http://x.example.com
			caddy.@denied.not: client_ip 10.0.0.0/8
			caddy.respond: @denied 403
			caddy.handle_0: /a/*
			caddy.handle_0.reverse_proxy: {{upstreams 80}}
		`))
		r.want(r.do("GET", "http://x.example.com/a/", denied), 200, "a_one:80") // not what one hopes for
		r.want(r.do("GET", "http://x.example.com/b", denied), 403, "")
	})
	t.Run("inside a handle, with the site's matcher", func(t *testing.T) {
		r := run(t, ssoSnippet, set("a/one", `
			caddy: http://x.example.com
			caddy.@denied.not: client_ip 10.0.0.0/8
			caddy.handle_0: /a/*
			caddy.handle_0.respond: @denied 403
			caddy.handle_0.reverse_proxy: {{upstreams 80}}
		`))
		r.want(r.do("GET", "http://x.example.com/a/", denied), 403, "")
		r.want(r.do("GET", "http://x.example.com/a/", allowed), 200, "a_one:80")
	})
	t.Run("as the first of the handles", func(t *testing.T) {
		r := run(t, ssoSnippet, set("a/one", `
			caddy: http://x.example.com
			caddy.@denied.not: client_ip 10.0.0.0/8
			caddy.0_handle: @denied
			caddy.0_handle.respond: 403
			caddy.handle_1: /a/*
			caddy.handle_1.reverse_proxy: {{upstreams 80}}
			caddy.handle_2.reverse_proxy: {{upstreams 81}}
		`), set("a/two", `
			caddy: http://x.example.com
			caddy.handle_1: /a/much/longer/*
			caddy.handle_1.reverse_proxy: {{upstreams 80}}
		`))
		r.want(r.do("GET", "http://x.example.com/a/much/longer/", denied), 403, "")
		r.want(r.do("GET", "http://x.example.com/a/", denied), 403, "")
		r.want(r.do("GET", "http://x.example.com/", denied), 403, "")
		r.want(r.do("GET", "http://x.example.com/a/much/longer/", allowed), 200, "a_two:80")
		r.want(r.do("GET", "http://x.example.com/", allowed), 200, "a_one:81")
	})
}

func TestRateLimit(t *testing.T) {
	// The module registers its own place in the order of directives: no
	// "order" option.
	r := run(t, ssoSnippet, set("a/one", `
		caddy: http://x.example.com
		caddy.handle_0: /a/*
		caddy.handle_0.rate_limit.zone: a_one
		caddy.handle_0.rate_limit.zone.key: {client_ip}
		caddy.handle_0.rate_limit.zone.window: 1h
		caddy.handle_0.rate_limit.zone.events: 2
		caddy.handle_0.reverse_proxy: {{upstreams 80}}
	`), set("a/two", `
		caddy: http://y.example.com
		caddy.rate_limit.zone: a_two
		caddy.rate_limit.zone.key: {client_ip}
		caddy.rate_limit.zone.window: 1h
		caddy.rate_limit.zone.events: 1
		caddy.reverse_proxy: {{upstreams 80}}
	`))
	for _, status := range []int{200, 200, 429} {
		r.want(r.do("GET", "http://x.example.com/a/"), status, "")
	}
	for _, status := range []int{200, 429} {
		r.want(r.do("GET", "http://y.example.com/"), status, "")
	}
	r.want(r.do("GET", "http://y.example.com/", "X-Forwarded-For: 198.51.100.7"), 200, "")
}

func TestErrorPage(t *testing.T) {
	r := run(t, ssoSnippet, set("a/down", `
		caddy: http://x.example.com
		caddy.handle_errors: 502 503 504
		caddy.handle_errors.header_0: Retry-After 30
		caddy.handle_errors.header_1: Content-Type "text/html; charset=utf-8"
		caddy.handle_errors.respond: "<!doctype html><title lang=\"en\">Back soon</title><style>p { color: red }</style><p>{err.status_code}</p>" 503
		caddy.reverse_proxy: {{upstreams 80}}
	`))
	got := r.do("GET", "http://x.example.com/")
	r.want(got, 503, `<!doctype html><title lang="en">Back soon</title><style>p { color: red }</style><p>502</p>`)
	r.wantHeader(got, "Retry-After", "30")
	r.wantHeader(got, "Content-Type", "text/html; charset=utf-8")
}

func TestMaintenance(t *testing.T) {
	r := run(t, ssoSnippet, set("a/one", `
		caddy: http://x.example.com
		caddy.0_handle.header: Retry-After 600
		caddy.0_handle.respond: "<p>Back soon</p>" 503
		caddy.handle_1: /a/*
		caddy.handle_1.reverse_proxy: {{upstreams 80}}
	`), set("a/two", `
		caddy: http://y.example.com
		caddy.@maintained.not: client_ip 10.0.0.0/8
		caddy.0_handle: @maintained
		caddy.0_handle.error: 503
		caddy.handle_errors.header: Retry-After 600
		caddy.handle_errors.respond: "<p>Back soon</p>" 503
		caddy.handle_1.reverse_proxy: {{upstreams 80}}
	`))
	// A handle without a matcher comes after those with one, whatever its prefix.
	r.want(r.do("GET", "http://x.example.com/a/"), 200, "a_one:80")
	got := r.do("GET", "http://x.example.com/")
	r.want(got, 503, "Back soon")
	r.wantHeader(got, "Retry-After", "600")
	r.want(r.do("GET", "http://y.example.com/"), 503, "Back soon")
	r.want(r.do("GET", "http://y.example.com/", "X-Forwarded-For: 10.0.0.1"), 200, "a_two:80")
}

func TestRequestBodyAndRewriting(t *testing.T) {
	r := run(t, ssoSnippet, set("a/one", `
		caddy: http://x.example.com
		caddy.request_body.max_size: 10B
		caddy.reverse_proxy: {{upstreams 80}}
		caddy.reverse_proxy.flush_interval: -1
		caddy.reverse_proxy.header_up_0: X-Real-IP {client_ip}
		caddy.reverse_proxy.header_up_1: -X-Secret
		caddy.reverse_proxy.header_down_0: -X-Powered-By
		caddy.reverse_proxy.header_down_1: Location ^http://inside/(.*)$ https://$1/
		caddy.header.X-Frame-Options: DENY
	`))
	r.want(r.send("POST", "http://x.example.com/", strings.NewReader("ten bytes.")), 200, "POST")
	r.want(r.send("POST", "http://x.example.com/", strings.NewReader("eleven bytes")), 413, "")
	got := r.do("GET", "http://x.example.com/", "X-Secret: s", "X-Forwarded-For: 10.0.0.9")
	r.wantHeader(got, "Got-X-Real-Ip", "10.0.0.9")
	r.wantHeader(got, "Got-X-Secret", "")
	r.wantHeader(got, "X-Powered-By", "")
	r.wantHeader(got, "Location", "https://x.example.com/")
	r.wantHeader(got, "X-Frame-Options", "DENY")
}

func TestHealthChecks(t *testing.T) {
	r := run(t, ssoSnippet, set("a/one", `
		caddy: http://x.example.com
		caddy.reverse_proxy: {{upstreams 80}}
		caddy.reverse_proxy.health_uri: /healthz
		caddy.reverse_proxy.health_interval: 10s
		caddy.reverse_proxy.health_timeout: 1m
		caddy.reverse_proxy.health_status: 2xx
		caddy.reverse_proxy.fail_duration: 10s
		caddy.reverse_proxy.lb_try_duration: 5s
	`))
	r.want(r.do("GET", "http://x.example.com/"), 200, "a_one:80")
}

func TestOtherPortWithInternalCertificate(t *testing.T) {
	r := run(t, set("infra/caddy", `
		caddy_0.auto_https: disable_redirects
		caddy_0.skip_install_trust:
	`), set("a/one", `
		caddy: x.example.com:8443
		caddy.tls: internal
		caddy.reverse_proxy: {{upstreams 80}}
	`))
	r.awaitCertificate("x.example.com")
	r.want(r.do("GET", "https://x.example.com:8443/"), 200, "a_one:80")
}

func TestSameHostTwice(t *testing.T) {
	t.Run("upstreams of one path join", func(t *testing.T) {
		r := run(t, ssoSnippet, set("a/one", `
			caddy: http://x.example.com
			caddy.handle: /a/*
			caddy.handle.reverse_proxy: {{upstreams 80}}
			caddy.handle.reverse_proxy.lb_policy: round_robin
		`), set("b/two", `
			caddy: http://x.example.com
			caddy.handle: /a/*
			caddy.handle.reverse_proxy: {{upstreams 80}}
		`))
		seen := map[string]bool{}
		for range 4 {
			seen[strings.Fields(r.do("GET", "http://x.example.com/a/").text)[0]] = true
		}
		if len(seen) != 2 {
			t.Errorf("got answers of %v, want both", seen)
		}
	})
	t.Run("the same labels at site level merge", func(t *testing.T) {
		const site = `
			caddy: http://x.example.com
			caddy.import: security
			caddy.handle_errors: 502
			caddy.handle_errors.respond: sorry 503
		`
		sets := []string{site + `
			caddy.handle_0: /a/*
			caddy.handle_0.reverse_proxy: {{upstreams 80}}
		`, site + `
			caddy.handle_0: /b/*
			caddy.handle_0.reverse_proxy: {{upstreams 80}}
		`}
		text, _ := Caddyfile([]stack.LabelSet{ssoSnippet, set("a/one", sets[0]), set("b/down", sets[1])})
		for _, once := range []string{"import security", "handle_errors", "sorry"} {
			if n := strings.Count(string(text), once); n != 1 {
				t.Errorf("%q is there %d times, want once:\n%s", once, n, text)
			}
		}
		r := run(t, ssoSnippet, set("a/one", sets[0]), set("b/down", sets[1]))
		r.want(r.do("GET", "http://x.example.com/a/"), 200, "a_one:80")
		r.want(r.do("GET", "http://x.example.com/b/"), 503, "sorry")
	})
}
