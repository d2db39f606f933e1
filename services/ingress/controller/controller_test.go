package controller

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

func TestLabelsAreServed(t *testing.T) {
	h := newHarness(t)
	h.put("a_web", "a", nil, "caddy: http://a.example.com\ncaddy.reverse_proxy: {{upstreams PORT}}")
	h.start()
	h.want("a.example.com", "/x", 200, "127.0.0.1:"+h.backend+" GET /x")

	t.Run("a change is swapped in, Caddy loads nothing", func(t *testing.T) {
		h.updated()
		before := caddy.ActiveContext().Context
		h.put("a_web", "a", nil, "caddy: http://a.example.com\ncaddy.handle: /only/*\ncaddy.handle.reverse_proxy: {{upstreams PORT}}\ncaddy.respond: other 201")
		h.want("a.example.com", "/x", 201, "")
		h.now("a.example.com", "/only/x", 200, "GET /only/x")
		if caddy.ActiveContext().Context != before {
			t.Error("Caddy loaded a configuration")
		}
	})
	t.Run("a new site, and one that goes", func(t *testing.T) {
		h.put("b_web", "b", nil, site("b.example.com", "b"))
		h.want("b.example.com", "/", 200, "b")
		h.engine.Remove("b_web")
		h.want("b.example.com", "/", 404, "nothing at this address")
	})
	t.Run("an unknown host", func(t *testing.T) {
		h.now("unknown.example.com", "/", 404, "nothing at this address")
	})
	t.Run("a task moves without an event", func(t *testing.T) {
		h.put("m_web", "m", nil, "caddy: http://m.example.com\ncaddy.reverse_proxy: {{upstreams PORT}}")
		h.want("m.example.com", "/", 200, "127.0.0.1:")
		h.engine.MoveTasks("m_web", "127.0.0.7")
		h.want("m.example.com", "/", 200, "127.0.0.7:")
	})
	t.Run("no task", func(t *testing.T) {
		h.engine.MoveTasks("m_web")
		h.want("m.example.com", "/", 503, "Back in a moment.")
		_, _, header, err := h.get("m.example.com", "/")
		if err != nil || header.Get("Retry-After") != "30" {
			t.Errorf("got Retry-After %q, error %v", header.Get("Retry-After"), err)
		}
	})
	t.Run("no task, with error routes of its own", func(t *testing.T) {
		h.engine.Put(noTasks(h.service("e_web", "e", nil, "caddy: http://e.example.com\ncaddy.handle_errors: 503\ncaddy.handle_errors.respond: mine 418\ncaddy.reverse_proxy: {{upstreams PORT}}")))
		h.want("e.example.com", "/", 418, "mine")
	})
	t.Run("containers and configs", func(t *testing.T) {
		h.engine.PutContainer("box", map[string]string{"caddy": "http://box.example.com", "caddy.reverse_proxy": "{{upstreams " + h.backend + "}}"}, "127.0.0.3")
		h.want("box.example.com", "/", 200, "127.0.0.3:")
		h.engine.PutConfig("base", map[string]string{"caddy": ""}, "http://config.example.com {\n\trespond config\n}\n")
		h.want("config.example.com", "/", 200, "config")
	})
}

// TestOneBadService gives a service labels that are bad in one way each. Before,
// it had good ones: those serve on, and others' changes come through.
func TestOneBadService(t *testing.T) {
	for name, bad := range map[string]struct {
		labels      string
		rule, label string
	}{
		"unknown directive":   {"caddy: http://bad.example.com\ncaddy.nonsense: 1", "adapt", "caddy.nonsense"},
		"bad template":        {"caddy: http://bad.example.com\ncaddy.respond: {{nonsense}}", "template", "caddy.respond"},
		"empty key":           {"caddy: http://bad.example.com\ncaddy.: x", "syntax", "caddy."},
		"brace":               {"caddy: http://bad.example.com\ncaddy.respond: }", "adapt", "caddy.respond"},
		"second site inside":  {"caddy: http://bad.example.com\ncaddy.respond: \"`a`\"\ncaddy.header: A }\ncaddy.header.x: {", "adapt", "caddy.header"},
		"missing file":        {"caddy: https://bad.example.com:8443\ncaddy.tls: /certs/missing.pem /certs/missing.key\ncaddy.respond: no", "provision", ""},
		"unknown provider":    {"caddy: https://bad.example.com:8443\ncaddy.tls.dns: nonsense x", "adapt", "caddy.tls.dns"},
		"bad matcher":         {"caddy: http://bad.example.com\ncaddy.@m.path_regexp: [\ncaddy.respond: @m hi", "provision", ""},
		"global options":      {"caddy.admin: :2019", "global", "caddy.admin"},
		"environment":         {"caddy: http://bad.example.com\ncaddy.respond: {env.HOME}", "env", "caddy.respond"},
		"environment, parsed": {"caddy: http://bad.example.com\ncaddy.respond: {$HOME}", "env", "caddy.respond"},
		"environment, sprig":  {"caddy: http://bad.example.com\ncaddy.respond: {{env `HOME`}}", "env", "caddy.respond"},
		"file":                {"caddy: http://bad.example.com\ncaddy.respond: {file./etc/passwd}", "file", "caddy.respond"},
		"file import":         {"caddy: http://bad.example.com\ncaddy.import: /etc/passwd", "snippet", "caddy.import"},
		"computed import":     {"caddy_0: (a)\ncaddy_0.handle.imp{args[0]}: /etc/passwd\ncaddy_1: http://bad.example.com\ncaddy_1.import: a ort", "snippet", "caddy_0.handle.imp{args[0]}"},
		"port":                {"caddy: http://bad.example.com:9999\ncaddy.respond: hi", "listen", "caddy"},
		"files":               {"caddy: http://bad.example.com\ncaddy.root: * /etc\ncaddy.file_server:", "file", "caddy.root"},
		"the ingress itself":  {"caddy: http://bad.example.com\ncaddy.reverse_proxy: localhost:2019", "upstream", "caddy.reverse_proxy"},
		"socket":              {"caddy: http://bad.example.com\ncaddy.reverse_proxy: unix//var/run/docker.sock", "upstream", "caddy.reverse_proxy"},
		"another's host":      {"caddy: http://good.example.com\ncaddy.respond: stolen", "claim", "caddy"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.settings.Policy += " file:/certs/* listen:8443"
			h.put("good_web", "good", nil, site("good.example.com", "one"))
			h.put("bad_web", "bad", nil, site("bad.example.com", "was good"))
			h.start()
			h.want("good.example.com", "/", 200, "one")
			h.want("bad.example.com", "/", 200, "was good")

			h.put("bad_web", "bad", nil, bad.labels)
			h.refused("bad_web", bad.rule, bad.label)
			h.now("bad.example.com", "/", 200, "was good")
			h.put("good_web", "good", nil, site("good.example.com", "two"))
			h.want("good.example.com", "/", 200, "two")
			h.put("new_web", "new", nil, site("new.example.com", "new"))
			h.want("new.example.com", "/", 200, "new")
			h.now("bad.example.com", "/", 200, "was good")

			h.put("bad_web", "bad", nil, site("bad.example.com", "good again"))
			h.want("bad.example.com", "/", 200, "good again")
			h.eventually(func() error { // the site is served before the status says so
				if s := h.statusOf(); s.Updated.IsZero() || len(s.Refused) != 0 {
					return fmt.Errorf("still refused: %v", s.Refused)
				}
				return nil
			})
		})
		t.Run(name+", from the start", func(t *testing.T) {
			h := newHarness(t)
			h.settings.Policy += " file:/certs/* listen:8443"
			h.put("good_web", "good", nil, site("good.example.com", "one"))
			h.put("zz_bad", "bad", nil, bad.labels)
			h.start()
			h.want("good.example.com", "/", 200, "one")
			h.refused("zz_bad", bad.rule, bad.label)
		})
	}
}

func TestHijack(t *testing.T) {
	h := newHarness(t)
	h.put("victim_web", "victim", nil, site("v.example.com", "victim"))
	h.start()
	h.want("v.example.com", "/", 200, "victim")
	// The name of the service sorts before, and so would the labels.
	h.put("a_thief", "thief", nil, "caddy: http://v.example.com\ncaddy.respond: \"thief\"\ncaddy.header: X-Thief 1")
	h.refused("a_thief", "claim", "caddy")
	for range 20 {
		h.now("v.example.com", "/", 200, "victim")
	}
	h.engine.Remove("victim_web")
	h.want("v.example.com", "/", 404, "") // it waits out the grace period
	h.put("victim_web", "victim", nil, site("v.example.com", "back"))
	h.want("v.example.com", "/", 200, "back")
}

func TestDockerIsLost(t *testing.T) {
	h := newHarness(t)
	h.put("a_web", "a", nil, site("a.example.com", "one"))
	h.start()
	h.want("a.example.com", "/", 200, "one")

	h.engine.Stop()
	h.eventually(func() error {
		if s := h.statusOf(); s.Updated.IsZero() || s.Docker == "connected" {
			return fmt.Errorf("Docker is connected")
		}
		return nil
	})
	h.now("a.example.com", "/", 200, "one")
	h.put("a_web", "a", nil, site("a.example.com", "two"))
	if err := h.engine.Start(); err != nil {
		t.Fatal(err)
	}
	h.want("a.example.com", "/", 200, "two")

	t.Run("and the ingress restarts without it", func(t *testing.T) {
		h.stop()
		h.engine.Stop()
		h.put("a_web", "a", nil, site("a.example.com", "three"))
		h.start()
		h.want("a.example.com", "/", 200, "two")
		h.want("unknown.example.com", "/", 404, "")
		if err := h.engine.Start(); err != nil {
			t.Fatal(err)
		}
		h.want("a.example.com", "/", 200, "three")
	})
	t.Run("and a bad label is there when the ingress restarts", func(t *testing.T) {
		h.stop()
		h.put("a_web", "a", nil, "caddy: http://a.example.com\ncaddy.nonsense: 1")
		h.start()
		h.refused("a_web", "adapt", "caddy.nonsense")
		h.now("a.example.com", "/", 200, "three")
	})
}

func TestSharedHost(t *testing.T) {
	h := newHarness(t)
	h.put("a_web", "a", nil, "caddy: http://a.example.com\ncaddy.handle: /web/*\ncaddy.handle.respond: web")
	h.put("a_api", "a", nil, "caddy: http://a.example.com\ncaddy.handle: /api/*\ncaddy.handle.nonsense: api")
	h.start()
	h.want("a.example.com", "/web/", 200, "web")
	h.refused("a_api", "adapt", "caddy.handle.nonsense")
	h.put("a_api", "a", nil, "caddy: http://a.example.com\ncaddy.handle: /api/*\ncaddy.handle.respond: api")
	h.want("a.example.com", "/api/", 200, "api")
	h.now("a.example.com", "/web/", 200, "web")
	h.put("a_web", "a", nil, "caddy: http://a.example.com\ncaddy.handle: /web/*\ncaddy.handle.nonsense: web")
	h.refused("a_web", "adapt", "caddy.handle.nonsense")
	h.now("a.example.com", "/web/", 200, "web")
	h.now("a.example.com", "/api/", 200, "api")
}

func TestBadOptionsOfTheIngress(t *testing.T) {
	for name, labels := range map[string]string{
		"unknown option":  "\ncaddy_0.nonsense: 1",
		"refused option":  "\ncaddy_0.servers.trusted_proxies: static nonsense",
		"broken snippet":  "\ncaddy_1: (s)\ncaddy_1.nonsense: 1",
		"refused snippet": "\ncaddy_1: (s)\ncaddy_1.@m.path_regexp: [\ncaddy_1.respond: @m x",
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			trusted := map[string]string{"skep.ingress.trusted": "true"}
			own := fmt.Sprintf("caddy_0.http_port: %s\ncaddy_0.auto_https: off", h.http[strings.LastIndex(h.http, ":")+1:])
			h.put("ingress_caddy", "ingress", trusted, own+"\ncaddy_1: (s)\ncaddy_1.header: A 1")
			h.put("a_web", "a", nil, site("a.example.com", "one")+"\ncaddy.import: s")
			h.start()
			h.want("a.example.com", "/", 200, "one")
			if !strings.Contains(labels, "caddy_1") {
				labels += "\ncaddy_1: (s)\ncaddy_1.header: A 1"
			}
			h.put("ingress_caddy", "ingress", trusted, own+labels)
			h.eventually(func() error {
				for _, r := range h.statusOf().Refused {
					if r.Source == "ingress_caddy" && r.Kept {
						return nil
					}
				}
				return fmt.Errorf("the ingress's labels are not refused")
			})
			h.now("a.example.com", "/", 200, "one")
			h.put("a_web", "a", nil, site("a.example.com", "two")+"\ncaddy.import: s")
			h.want("a.example.com", "/", 200, "two")
		})
	}
}

// TestPortInUse has a site that only fails when Caddy starts: nothing that
// provisions it first can tell.
func TestPortInUse(t *testing.T) {
	h := newHarness(t)
	taken, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	h.settings.Policy += " listen:" + port
	h.put("good_web", "good", nil, site("good.example.com", "one"))
	h.put("bad_web", "bad", nil, site("bad.example.com", "was good"))
	h.start()
	h.want("bad.example.com", "/", 200, "was good")
	h.put("bad_web", "bad", nil, site("bad.example.com:"+port, "no"))
	h.refused("bad_web", "provision", "")
	h.now("good.example.com", "/", 200, "one")
	h.now("bad.example.com", "/", 200, "was good")
	h.put("good_web", "good", nil, site("good.example.com", "two"))
	h.want("good.example.com", "/", 200, "two")
}
