package frame

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"skep/services/ingress/label"
)

// stranger adapts one site of a service that is not trusted, beside an ingress
// that shares snippets. FILES is a folder with files for Caddy's import.
func stranger(t *testing.T, policy, labels string) (*Part, *label.Refusal) {
	t.Helper()
	files := t.TempDir()
	for name, text := range map[string]string{"a.one": "header A 1\n", "b.two": "header B 2\n"} {
		if err := os.WriteFile(filepath.Join(files, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := label.ParsePolicy(strings.ReplaceAll(policy, "FILES", files))
	if err != nil {
		t.Fatal(err)
	}
	read := func(lines string) map[string]string {
		out := map[string]string{}
		for line := range strings.Lines(strings.ReplaceAll(lines, "FILES", files)) {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				out[key] = strings.TrimSpace(value)
			}
		}
		return out
	}
	sources := []label.Source{
		{ID: "1", Kind: label.KindService, Name: "ingress", Stack: "ingress", Trusted: true, Labels: read(`
			caddy_0: (page)
			caddy_0.root: * /srv/page
			caddy_0.file_server:
			caddy_1: (echo)
			caddy_1.respond: {args[0]}
			caddy_2: (wildcard)
			caddy_2.tls.dns: cloudflare {env.TOKEN}
			caddy_3: (files)
			caddy_3.import_0: FILES/*.one
			caddy_3.import_1: {args[0]}
			caddy_4: (php)
			caddy_4.php_fastcgi: 192.0.2.1:9000
			caddy_5: (version)
			caddy_5.header: X-Version {env.TOKEN}
		`)},
		{ID: "2", Kind: label.KindService, Name: "app", Stack: "app", Labels: read(labels)},
	}
	var rendered []*label.Rendered
	for i := range sources {
		rendered = append(rendered, label.Render(&sources[i], p))
	}
	plan := label.Assemble(rendered, nil, p, time.Unix(0, 0), 0)
	if len(plan.Refusals) > 0 {
		return nil, &plan.Refusals[0]
	}
	return (&Adapter{Policy: p}).Part(plan.Globals, plan.Sites[0])
}

func TestPolicyOnSites(t *testing.T) {
	const site = "caddy: a.example.com\n"
	for _, c := range []struct {
		name, labels string
		rule, label  string // when nothing is open
		open         string // a policy under which it is accepted
	}{
		{"a snippet may", "caddy.import: page", "", "", ""},
		{"its importer may not do the like elsewhere", "caddy.root: * /etc\ncaddy.file_server: browse", "file", "caddy.root", "handler:file_server file:/etc"},
		{"nor a part of it", "caddy.import: page\ncaddy.file_server.root: /srv", "file", "caddy.file_server.root", "file:/srv"},
		{"root alone", "caddy.root: * /etc", "file", "caddy.root", "file:/etc"},
		{"root as a variable", "caddy.vars: root /etc", "file", "caddy.vars", "file:/etc"},
		{"root from the request", "caddy.root: * {http.request.header.X}", "file", "caddy.root", "file:{http.request.header.X}"},
		{"template of a listing", "caddy.import: page\ncaddy.file_server.browse: /etc/passwd", "file", "caddy.file_server.browse", "file:/etc/passwd"},
		{"a snippet's module of another name", "caddy.import: php", "", "", ""},
		{"a snippet's credential", "caddy.import: wildcard", "", "", ""},
		{"a snippet's credential in the same place", "caddy.import: page\ncaddy.handle.import: echo a\ncaddy.tls.dns: cloudflare {env.TOKEN}", "env", "caddy.tls.dns", "credential:TOKEN"},
		{"a snippet's credential where it is seen", "caddy.import: wildcard\ncaddy.respond: {env.TOKEN}", "env", "caddy.respond", "env:TOKEN"},
		{"a part of a credential's name", "caddy.import: wildcard\ncaddy.respond: {env.TOK}", "env", "caddy.respond", "env:TOK"},
		{"what a snippet shows of the machine", "caddy.import: version", "env", "", "env:TOKEN"},
		{"named route", "caddy.invoke: r\ncaddy_1: &(r)\ncaddy_1.respond: {env.TOKEN}", "env", "", "env:TOKEN"},
		{"forward auth", "caddy.forward_auth: auth:9000\ncaddy.forward_auth.uri: /check\ncaddy.reverse_proxy: 192.0.2.1:80", "", "", ""},
		{"a response's headers", "caddy.reverse_proxy: 192.0.2.1:80\ncaddy.reverse_proxy.@a: header X-Accel *\ncaddy.reverse_proxy.handle_response: @a\ncaddy.reverse_proxy.handle_response.respond: hi", "", "", ""},
		{"a file that a snippet's argument names", "caddy.import: files FILES/b.two", "file", "caddy.import", "file:FILES/b.two"},
		{"files that a snippet imports", "caddy.import: files FILES/a.one", "", "", ""},
		{"another root", "caddy.file_server.root: /etc", "module", "caddy.file_server.root", "handler:file_server file:/etc"},
		{"token of the provider", "caddy.tls.dns: cloudflare {env.TOKEN}", "env", "caddy.tls.dns", "credential:TOKEN"},
		{"certificate", "caddy.tls: /run/secrets/c /run/secrets/k", "file", "caddy.tls", "certificate:/run/secrets/*  certificate:/run/secrets/c certificate:/run/secrets/k"},
		{"an argument that a snippet shows", "caddy.import: echo {env.TOKEN}", "env", "caddy.import", "env:TOKEN"},
		{"log file", "caddy.log.output: file /var/log/x", "file", "caddy.log.output", "file:/var/log/x"},
		{"log of all", "caddy.log: default\ncaddy.log.output: discard", "module", "caddy.log", "handler:log"},
		{"file matcher", "caddy.@m.file: /etc/passwd\ncaddy.respond: @m yes", "module", "caddy.@m.file", "matcher:file"},
		{"computed placeholder", "caddy.@m: expression `ph(req, 'en' + 'v.HOME') != ''`\ncaddy.respond: @m yes", "module", "caddy.@m", "matcher:expression"},
		{"address from the request", "caddy.reverse_proxy: {http.request.header.X}", "upstream", "caddy.reverse_proxy", "upstream:{http.request.header.X}"},
		{"loopback", "caddy.reverse_proxy: [::ffff:127.0.0.1]:2019", "upstream", "", "upstream:[::ffff:127.0.0.1]:2019"},
		{"no host", "caddy.reverse_proxy: :2019", "upstream", "caddy.reverse_proxy", "upstream::2019"},
		{"another host", "caddy.reverse_proxy: 192.0.2.1:80", "", "", ""},
		{"bind", "caddy.bind: 192.0.2.1", "listen", "", "listen:192.0.2.1:443"},
		{"php", "caddy.php_fastcgi: 192.0.2.1:9000", "module", "", "handler:fastcgi matcher:file"},
		{"ca file", "caddy.reverse_proxy: https://192.0.2.1\ncaddy.reverse_proxy.transport: http\ncaddy.reverse_proxy.transport.tls_client_auth: /c /k", "file", "caddy.reverse_proxy.transport.tls_client_auth", "file:/c file:/k"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, refused := stranger(t, "", site+c.labels)
			switch {
			case c.rule == "" && refused != nil:
				t.Fatalf("refused: %v", refused)
			case c.rule != "" && refused == nil:
				t.Fatal("accepted")
			case c.rule != "" && (string(refused.Rule) != c.rule || c.label != "" && refused.Label != c.label):
				t.Errorf("got %s at %q: %s", refused.Rule, refused.Label, refused.Reason)
			}
			if c.rule == "" {
				return
			}
			if _, refused := stranger(t, c.open, site+c.labels); refused != nil {
				t.Errorf("%s does not open it: %v", c.open, refused)
			}
		})
	}
	if _, refused := stranger(t, "credential:TOKEN", site+"caddy.respond: {env.TOKEN}"); refused == nil {
		t.Error("a credential can be shown to visitors")
	}
	if _, refused := stranger(t, "credential:TOKEN", site+"caddy.tls.issuer: acme {\ncaddy.tls.ca: https://x.example.com/{env.TOKEN}"); refused == nil {
		t.Error("a credential can be sent away")
	}
	if _, refused := stranger(t, "certificate:/run/secrets/k", site+"caddy.respond: {file./run/secrets/k}"); refused == nil {
		t.Error("a certificate's key can be shown to visitors")
	}
}

func TestRateLimitZonesAreTheStacksOwn(t *testing.T) {
	part, refused := stranger(t, "", "caddy: a.example.com\ncaddy.rate_limit.zone: z\ncaddy.rate_limit.zone.key: {client_ip}\ncaddy.rate_limit.zone.events: 1\ncaddy.rate_limit.zone.window: 1m")
	if refused != nil {
		t.Fatal(refused)
	}
	if !strings.Contains(string(part.Routes.Primary), `"app/z"`) {
		t.Errorf("got %s", part.Routes.Primary)
	}
}

func TestBisect(t *testing.T) {
	base := []int{-1, -2}
	changes := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	tries := 0
	accepted, refused := Bisect(base, changes, func(all []int) error {
		tries++
		if slices.Contains(all, 3) || slices.Contains(all, 5) && slices.Contains(all, 8) {
			return errors.New("no")
		}
		return nil
	})
	if want := "[-1 -2 0 1 2 4 5 6 7 9]"; fmt.Sprint(accepted) != want || len(refused) != 2 || refused[3] == nil || refused[8] == nil {
		t.Errorf("accepted %v, want %s; refused %v", accepted, want, refused)
	}
	if tries > 20 {
		t.Errorf("%d tries", tries)
	}
}

// An adapter that knows a site must not take another for it whose text is the
// same.
func TestSitesOfTheSameText(t *testing.T) {
	p, err := label.ParsePolicy("import:page")
	if err != nil {
		t.Fatal(err)
	}
	adapter := Adapter{Policy: p}
	adapt := func(stack label.Stack, trusted bool) (*Part, *label.Refusal) {
		zone := map[string]string{"caddy": "a.example.com", "caddy.import": "page", "caddy.rate_limit.zone": "z"}
		for key, value := range map[string]string{"key": "{client_ip}", "events": "1", "window": "1m"} {
			zone["caddy.rate_limit.zone."+key] = value
		}
		page := label.Source{
			ID: "1", Kind: label.KindService, Name: "page", Stack: "page", Trusted: trusted,
			Labels: map[string]string{"caddy": "(page)", "caddy.root": "* /srv/page"},
		}
		app := label.Source{ID: "2", Kind: label.KindService, Name: "app", Stack: stack, Labels: zone}
		plan := label.Assemble([]*label.Rendered{label.Render(&page, p), label.Render(&app, p)}, nil, p, time.Unix(0, 0), 0)
		if len(plan.Refusals) > 0 {
			t.Fatal(plan.Refusals)
		}
		return adapter.Part(plan.Globals, plan.Sites[0])
	}
	for _, stack := range []label.Stack{"one", "two"} {
		part, refused := adapt(stack, true)
		if refused != nil {
			t.Fatal(refused)
		}
		if want := `"` + string(stack) + `/z"`; !strings.Contains(string(part.Routes.Primary), want) {
			t.Errorf("want the zone %s, got %s", want, part.Routes.Primary)
		}
	}
	if _, refused := adapt("one", false); refused == nil {
		t.Error("what a snippet said when it was trusted is still granted")
	}
}
