package tunnel

import (
	"fmt"
	"strings"
	"testing"
)

const origin = "https://ingress_caddy"

func rule(host, service string) Rule { return Rule{"hostname": host, "service": service} }

func TestCompare(t *testing.T) {
	end := Rule{"service": NotFound}
	app := Rule{"hostname": "app.example.com", "service": origin, "originRequest": map[string]any{"originServerName": "app.example.com"}}
	for name, test := range map[string]struct {
		want         []Rule
		live         []Rule
		plan, result string
	}{
		"empty tunnel":  {[]Rule{app}, nil, "create app.example.com", "app.example.com, "},
		"the same":      {[]Rule{app}, []Rule{app, end}, "", "app.example.com, "},
		"no request":    {[]Rule{rule("a.example.com", origin)}, []Rule{{"hostname": "a.example.com", "service": origin, "originRequest": map[string]any{}}, end}, "", "a.example.com, "},
		"changed":       {[]Rule{app}, []Rule{rule("app.example.com", origin), end}, "update app.example.com", "app.example.com, "},
		"gone":          {nil, []Rule{app, end}, "remove app.example.com", ""},
		"plain origin":  {nil, []Rule{rule("a.example.com", "http://ingress_caddy"), end}, "remove a.example.com", ""},
		"by hand stays": {[]Rule{app}, []Rule{rule("ssh.example.com", "ssh://host:22"), end}, "create app.example.com", "app.example.com, ssh.example.com, "},
		"by hand, ours": {[]Rule{app}, []Rule{rule("app.example.com", "http://other"), end}, "refused app.example.com", "app.example.com, "},
		"with a path":   {[]Rule{app}, []Rule{{"hostname": "app.example.com", "path": "/x", "service": origin}, end}, "create app.example.com", "app.example.com, app.example.com, "},
		"wildcard last": {[]Rule{rule("*.example.com", origin), app}, []Rule{rule("x.example.com", "http://x"), end}, "create *.example.com, create app.example.com", "app.example.com, x.example.com, *.example.com, "},
		"catch-all":     {nil, []Rule{{"service": "http://elsewhere"}}, "update ", ""},
		"no catch-all":  {nil, []Rule{rule("x.example.com", "http://x")}, "", "x.example.com, "},
	} {
		t.Run(name, func(t *testing.T) {
			p := Compare(Config{Rules: test.want}, test.live, origin, 1)
			var plan []string
			for _, c := range p.Changes {
				plan = append(plan, fmt.Sprintf("%s %s", c.Action, c.Hostname))
			}
			for _, c := range p.Conflicts {
				plan = append(plan, "refused "+c.Hostname)
			}
			if got := strings.Join(plan, ", "); got != test.plan {
				t.Errorf("plan %q, want %q", got, test.plan)
			}
			result := ""
			for _, r := range p.Rules[:len(p.Rules)-1] {
				result += r.Hostname() + ", "
			}
			last := p.Rules[len(p.Rules)-1]
			if result != test.result || !last.catchAll() || last.Service() != NotFound {
				t.Errorf("rules %q, want %q; last %v", result, test.result, last)
			}
			if again := Compare(Config{Rules: test.want}, p.Rules, origin, 1); again.Pending() {
				t.Errorf("after it: %v", again.Changes)
			}
		})
	}
}

// The bundle's file has the same rules (generator/expand/testdata/tls.txtar).
func TestNewRule(t *testing.T) {
	for _, test := range []struct {
		route Route
		want  string
	}{
		{Route{Host: "a.example.com"}, `{"hostname":"a.example.com","request":{"originServerName":"a.example.com"},"service":"https://ingress_caddy"}`},
		{Route{Host: "a.example.com", SelfSigned: true}, `{"hostname":"a.example.com","request":{"noTLSVerify":true,"originServerName":"a.example.com"},"service":"https://ingress_caddy"}`},
		{Route{Host: "*.example.com", SelfSigned: true}, `{"hostname":"*.example.com","request":{"matchSNItoHost":true,"noTLSVerify":true},"service":"https://ingress_caddy"}`},
		{Route{Host: "a.example.com", Plain: true}, `{"hostname":"a.example.com","request":null,"service":"http://ingress_caddy"}`},
	} {
		if got := canonical(NewRule(test.route, origin)); got != test.want {
			t.Errorf("%v: got %s, want %s", test.route, got, test.want)
		}
	}
}

func TestShare(t *testing.T) {
	live := []Rule{}
	for i := range 10 {
		live = append(live, rule(fmt.Sprintf("h%d.example.com", i), origin))
	}
	live = append(live, Rule{"service": NotFound})
	if p := Compare(Config{Rules: live[:7]}, live, origin, 0.3); p.Held {
		t.Error("3 of 10 are held")
	}
	if p := Compare(Config{Rules: live[:6]}, live, origin, 0.3); !p.Held {
		t.Error("4 of 10 are not held")
	}
}

func TestParse(t *testing.T) {
	c, err := Parse([]byte("tunnel: id\ningress:\n- hostname: a.example.com\n  service: https://x\n  originRequest: {originServerName: a.example.com}\n- service: http_status:404\n"))
	if err != nil || c.Tunnel != "id" || len(c.Rules) != 1 || c.Rules[0].Hostname() != "a.example.com" {
		t.Errorf("%v %v", c, err)
	}
	for _, text := range []string{"", "ingress: []", "ingress: [{hostname: a, service: b}]", "ingress: [{path: /x, service: b}]", ":"} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}
