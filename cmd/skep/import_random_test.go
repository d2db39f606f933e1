package main

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
)

// TestImportOfRandomLabels puts together what people combine: logins, allow
// lists, path tables, rewrites and labels that no key says, on hosts of one
// service and on hosts that two share.
func TestImportOfRandomLabels(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			dir := t.TempDir()
			edge, apps := filepath.Join(dir, "edge", "compose.yaml"), filepath.Join(dir, "apps", "compose.yaml")
			write(t, edge, []byte(randomEdge))
			w := &labeler{Rand: rand.New(rand.NewPCG(seed, 0))}
			write(t, apps, []byte(w.compose(14)))
			t.Cleanup(func() {
				if t.Failed() {
					t.Log(w.String())
				}
			})
			sameMeaning(t, filepath.Join(dir, "project"), []string{edge, apps})
		})
	}
}

const randomEdge = `services:
  caddy:
    image: lucaslorentz/caddy-docker-proxy:2.9
    networks: [proxy]
    environment: {CADDY_INGRESS_NETWORKS: proxy}
    deploy:
      labels:
        caddy_1: (login)
        caddy_1.forward_auth: "{args[0]} http://authentik_server:9000"
        caddy_1.forward_auth.uri: /outpost.goauthentik.io/auth/caddy
        caddy_1.forward_auth.copy_headers: X-Authentik-Username
        caddy_2: (always)
        caddy_2.forward_auth: http://authentik_server:9000
        caddy_2.forward_auth.uri: /outpost.goauthentik.io/auth/caddy
        caddy_2.forward_auth.copy_headers: X-Authentik-Username
        caddy_3: (security)
        caddy_3.header: X-Security {args[0]}
networks:
  proxy: {external: true}
`

// labeler writes labels at random.
type labeler struct {
	*rand.Rand
	strings.Builder
	matchers int
}

func (w *labeler) one(of ...string) string { return of[w.IntN(len(of))] }

func (w *labeler) chance(percent int) bool { return w.IntN(100) < percent }

func (w *labeler) set(key, value string) {
	fmt.Fprintf(w, "        %s: '%s'\n", key, value)
}

func (w *labeler) compose(services int) string {
	w.WriteString("services:\n")
	for i := range services {
		fmt.Fprintf(w, "  s%d:\n    image: example/s:1.%d\n    networks: [proxy]\n    deploy:\n      labels:\n", i, i)
		host := fmt.Sprintf("h%d.example.com", i)
		if i%4 == 3 { // the service before has the rest of the host
			host = fmt.Sprintf("h%d.example.com", i-1)
		}
		w.site("caddy", host, i)
		if w.chance(15) {
			w.site("caddy_1", "b"+host, i)
		}
	}
	w.WriteString("networks:\n  proxy: {external: true}\n")
	return w.String()
}

func (w *labeler) site(p, host string, i int) {
	shared := i%4 > 1 && p == "caddy"
	if shared {
		w.set(p, host)
	} else {
		w.set(p, w.one(host, host, host, "http://"+host, host+":8443", host+" www."+host))
	}
	w.everywhere(p)
	if w.chance(25) && !shared {
		w.set(p+".tls", "internal")
	}
	proxy := w.one("{{upstreams 80}}", "{{upstreams http 80}}", "http://{{upstreams 80}}", fmt.Sprintf("s%d:80", i))
	kind := w.IntN(5)
	if second := shared && i%4 == 3; second {
		kind = 3 // one service alone has the rest of a host
	}
	switch kind {
	case 0, 1:
		w.set(p+".reverse_proxy", proxy)
		w.proxy(p + ".reverse_proxy")
	case 2:
		w.set(p+".reverse_proxy_0", w.path(i)+" "+proxy)
		w.set(p+".reverse_proxy_1", "{{upstreams 81}}")
	default:
		for n := range 1 + w.IntN(2) {
			h := fmt.Sprintf("%s.%s_%d", p, w.one("handle", "handle", "handle_path", "route"), n)
			w.set(h, w.path(i+n))
			w.everywhere(h)
			w.set(h+".reverse_proxy", fmt.Sprintf("{{upstreams 90%d}}", n))
			w.proxy(h + ".reverse_proxy")
		}
		if w.chance(70) && (!shared || i%4 == 2) {
			h := p + ".handle_9"
			w.everywhere(h)
			w.set(h+".reverse_proxy", proxy)
		}
	}
}

func (w *labeler) path(i int) string {
	return fmt.Sprintf("%s%d%s", w.one("/api", "/v"), i, w.one("/*", "/*", "*"))
}

// matcher is a name that no other block has: services share hosts.
func (w *labeler) matcher() string {
	w.matchers++
	return fmt.Sprintf("@m%d", w.matchers)
}

// everywhere writes what may stand in a site and in a handle.
func (w *labeler) everywhere(p string) {
	switch w.IntN(8) {
	case 0:
		w.set(p+".import", "login *")
	case 1:
		w.set(p+".import", "always")
	case 2:
		w.set(p+".import", "always /api/*") // which it ignores
	case 3:
		m := w.matcher()
		w.set(p+"."+m+".not", "path /api/* /ping")
		w.set(p+".import", "login "+m)
	case 4:
		m := w.matcher()
		w.set(p+"."+m, "path /inner/*")
		w.set(p+".forward_auth", m+" authentik_server:9000")
		w.set(p+".forward_auth.uri", "/outpost.goauthentik.io/auth/caddy")
		w.set(p+".forward_auth.copy_headers", "X-Authentik-Username")
	}
	if w.chance(15) {
		m := w.matcher()
		w.set(p+"."+m+".not", w.one("client_ip", "remote_ip")+" 10.0.0.0/8 192.168.0.0/16")
		switch how := w.one("error", "respond", "abort"); how {
		case "abort":
			w.set(p+".abort", m)
		default:
			w.set(p+"."+how, m+" 403")
		}
	}
	for _, raw := range []struct{ key, value string }{
		{".header", "X-Site one"},
		{".import_7", "security deny"},
		{".redir", "/old/* /new 302"},
		{".handle_5", "/robots.txt"},
		{".uri", "strip_prefix /v1"},
		{".request_body.max_size", "10MB"},
		{".request_header", "X-Asked yes"},
	} {
		if w.chance(8) {
			w.set(p+raw.key, raw.value)
			if raw.key == ".handle_5" {
				w.set(p+".handle_5.respond", `"User-agent: *" 200`)
			}
		}
	}
}

func (w *labeler) proxy(p string) {
	for _, raw := range []struct{ key, value string }{
		{".header_up", "X-Real-IP {client_ip}"}, {".header_up_1", "-X-Gone"}, {".header_down", "-X-Powered-By"},
		{".flush_interval", "-1"}, {".header_down_1", `X-Down "a b"`},
	} {
		if w.chance(15) {
			w.set(p+raw.key, raw.value)
		}
	}
}
