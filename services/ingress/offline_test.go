package ingress

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lucaslorentz/caddy-docker-proxy/v2/caddyfile"

	"skep/generator/stack"
	"skep/services/ingress/label"
)

func TestRefusals(t *testing.T) {
	good := set("a/good", `
		caddy: good.example.com
		caddy.import: sso *
		caddy.reverse_proxy: {{upstreams 80}}
	`)
	tests := []struct {
		name   string
		labels string // of bad/one, beside a good service and the snippets
		label  string
		err    string
	}{
		{"unknown directive", "caddy.bogus: 1", "caddy.bogus", "unrecognized directive: bogus"},
		{"unknown subdirective", "caddy.reverse_proxy.bogus: 1", "caddy.reverse_proxy.bogus", "unrecognized subdirective bogus"},
		{"bad template", "caddy.handle.respond: {{upstream 80}}", "caddy.handle.respond", `function "upstream" not defined`},
		{"empty key", "caddy.: 1", "caddy.", "empty part"},
		{"unknown snippet", "caddy.import: ss0 *", "caddy.import", "File to import not found: ss0"},
		{"snippet that gets one word too few", "caddy.import_1: \"sso\"", "caddy.import_1", "{args[0]}"},
		{"unknown named matcher", "caddy.respond: @nobody 403", "caddy.respond", "unrecognized matcher name: @nobody"},
		{"unknown matcher", "caddy.@a.pathh: /x\ncaddy.respond: @a 403", "caddy.@a.pathh", "pathh"},
		{"bad network", "caddy.@denied.not: client_ip 10.0.0.0/99\ncaddy.respond: @denied 403", "caddy.@denied.not", "10.0.0.0/99"},
		{"bad pattern", "caddy.@a.path_regexp: ^/(\ncaddy.respond: @a 403", "caddy.@a.path_regexp", "missing closing )"},
		{"bad size", "caddy.request_body.max_size: much", "caddy.request_body.max_size", "parsing max_size"},
		{"bad duration", "caddy.reverse_proxy.health_uri: /x\ncaddy.reverse_proxy.health_interval: often", "caddy.reverse_proxy.health_interval", "often"},
		{"rate limit without a window", "caddy.rate_limit.zone: z\ncaddy.rate_limit.zone.events: 1", "caddy.rate_limit.zone", "both a window and maximum events"},
		{"token that cannot be one", "caddy.tls.dns: cloudflare hunter2", "caddy.tls.dns", "API token '***' appears invalid"},
		{"unknown DNS provider", "caddy.tls.dns: cloudfare {env.TOKEN}", "caddy.tls.dns", "cloudfare"},
		{"certificate without a key", "caddy.tls: /run/secrets/c", "caddy.tls", "single argument must"},
		{"two errors", "caddy.bogus: 1\ncaddy.import: nope", "caddy.import", "nope"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			bad := set("bad/one", "caddy: bad.example.com\n"+test.labels)
			got := Offline{}.Refusals(t.Context(), []stack.LabelSet{good, bad, ssoSnippet})
			if len(got) != 1 {
				t.Fatalf("got %v, want one refusal", got)
			}
			if got[0].Service != bad.Service || got[0].Label != test.label || !strings.Contains(got[0].Err.Error(), test.err) {
				t.Errorf("got %v %q %q\nwant %v %q with %q", got[0].Service, got[0].Label, got[0].Err, bad.Service, test.label, test.err)
			}
			if strings.Contains(got[0].Err.Error(), "Caddyfile:") {
				t.Errorf("the error speaks of a file nobody sees: %q", got[0].Err)
			}
		})
	}
}

// accepted are label sets that depend on what the ingress's machine has.
var accepted = map[string]string{
	"certificate files":        "caddy.tls: /run/secrets/c /run/secrets/k",
	"token in the environment": "caddy.tls.dns: cloudflare {env.TOKEN}",
	"token in a file":          "caddy.tls.dns: cloudflare {file./run/secrets/token}",
	"own authority":            "caddy.tls: internal",
	"log file":                 "caddy.log.output: file /var/log/bad/x.log",
	"client certificates": `
		caddy.tls: internal
		caddy.tls.client_auth.mode: require_and_verify
		caddy.tls.client_auth.trust_pool: file /run/secrets/ca`,
	"upstream's authority": `
		caddy.reverse_proxy: {{upstreams https 443}}
		caddy.reverse_proxy.transport: http
		caddy.reverse_proxy.transport.tls_trust_pool: file /run/secrets/ca
		caddy.reverse_proxy.transport.tls_client_auth: /run/secrets/c /run/secrets/k`,
	"health check": `
		caddy.reverse_proxy: {{upstreams 80}}
		caddy.reverse_proxy.health_uri: /healthz`,
	"sign-in without a snippet": `
		caddy.forward_auth: * http://authentik-server:9000
		caddy.forward_auth.uri: /outpost.goauthentik.io/auth/caddy
		caddy.reverse_proxy: {{upstreams 80}}`,
	"the service's name": "caddy.respond: {{.Spec.Name}} 200",
	"own tracing and authority": `
		caddy.tracing.span: x
		caddy.acme_server:`,
}

func TestAcceptedOffline(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_DATA_HOME", filepath.Join(home, "data"))
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, "config"))
	global := set("infra/global", `
		caddy_0.email: bee@example.com
		caddy_0.admin: off
		caddy_0.acme_dns: cloudflare {env.TOKEN}
		caddy_0.storage: file_system /data
		caddy_0.log.output: file /var/log/caddy.log
		caddy_0.log.format: json
		caddy_0.metrics:
		caddy_0.order: rate_limit before basic_auth
		caddy_0.servers.trusted_proxies: skep_service cloudflared_cloudflared 10.0.0.0/8
	`)
	var all []stack.LabelSet
	for name, labels := range accepted {
		one := set("a/one", "caddy: "+strings.NewReplacer(" ", "-", "'", "").Replace(name)+".example.com\n"+labels)
		all = append(all, one)
		for _, sets := range [][]stack.LabelSet{{one}, {one, global}} {
			if got := (Offline{}).Refusals(t.Context(), sets); len(got) > 0 {
				t.Errorf("%s: %v", name, got)
			}
		}
	}
	for i := range all {
		all[i].Service.Service = stack.ServiceName(fmt.Sprintf("s%d", i))
	}
	if got := (Offline{}).Refusals(t.Context(), append(all, global)); len(got) > 0 {
		t.Errorf("all: %v", got)
	}
	if left, err := os.ReadDir(home); err != nil || len(left) > 0 {
		t.Errorf("the home directory holds %v (%v), want nothing", left, err)
	}
}

func TestRefusalsOfOneSite(t *testing.T) {
	one := set("a/one", `
		caddy: x.example.com
		caddy.@own.path: /a/*
		caddy.reverse_proxy: @own {{upstreams 80}}
	`)
	// It uses a matcher of the other service: fine together.
	two := set("a/two", `
		caddy: x.example.com
		caddy.header: @own X-A 1
	`)
	bad := set("a/bad", `
		caddy: x.example.com
		caddy.bogus: 1
	`)
	elsewhere := set("b/bad", `
		caddy: y.example.com
		caddy.bogus: 1
	`)
	got := Offline{}.Refusals(t.Context(), []stack.LabelSet{two, bad, elsewhere, one})
	if len(got) != 2 || got[0].Service != bad.Service || got[1].Service != elsewhere.Service {
		t.Errorf("got %v, want the two bad ones", got)
	}
}

func TestRefusalsOfTwoThatClaimOneHost(t *testing.T) {
	one := set("a/one", "caddy: x.example.com, z.example.com\ncaddy.respond: 1")
	two := set("a/two", "caddy: x.example.com\ncaddy.respond: 2")
	three := set("a/three", "caddy: y.example.com\ncaddy.respond: 2")
	got := Offline{}.Refusals(t.Context(), []stack.LabelSet{one, two, three})
	if len(got) != 2 || got[0].Service != one.Service || got[1].Service != two.Service || !strings.Contains(got[0].Err.Error(), "ambiguous site definition") {
		t.Errorf("got %v, want both claimants", got)
	}
}

func TestRefusalsOfSitesThatClash(t *testing.T) {
	sets := sites(2 * portion)
	sets = append(sets, set("a/plain", "caddy: http://a.example.com:8443\ncaddy.respond: 1"), set("z/tls", "caddy: https://z.example.com:8443\ncaddy.respond: 1"))
	got := Offline{}.Refusals(t.Context(), sets)
	if len(got) != 1 || got[0].Service.Stack != "z" {
		t.Errorf("got %v, want the second on the port", got)
	}
}

func TestRefusalsOfAlikeSites(t *testing.T) {
	sets := sites(3)
	for _, name := range []string{"c", "d", "e"} {
		sets = append(sets, set(name+"/bad", "caddy: "+name+".example.org\ncaddy.reverse_proxy: {{upstreams 80}}\ncaddy.bogus: 1"))
	}
	// A port that no upstream can have makes a site a kind of its own.
	sets = append(sets, set("p/bad", "caddy: p.example.org\ncaddy.reverse_proxy: {{upstreams 99999}}"))
	var got []string
	for _, r := range (Offline{}).Refusals(t.Context(), sets) {
		got = append(got, string(r.Service.Stack)+" "+r.Label)
	}
	if want := "c caddy.bogus, d caddy.bogus, e caddy.bogus, p caddy.reverse_proxy"; strings.Join(got, ", ") != want {
		t.Errorf("got %s\nwant %s", strings.Join(got, ", "), want)
	}
}

func TestRefusalsStopWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	got := Offline{}.Refusals(ctx, sites(1))
	if len(got) != 1 || !errors.Is(got[0].Err, context.Canceled) {
		t.Errorf("got %v, want the context's error", got)
	}
}

func TestRefusalsOfTrustedProxies(t *testing.T) {
	for words, want := range map[string]string{
		"skep_service cloudflared_cloudflared": "", "skep_service a b 10.0.0.0/8 2001:db8::/32": "",
		"skep_service": "wrong argument count", "skep_service 10.0.0.0/8": "wrong argument count", "skep_service a 10.0.0.0/99": "10.0.0.0/99",
	} {
		got := Offline{}.Refusals(t.Context(), []stack.LabelSet{set("infra/caddy", "caddy.servers.trusted_proxies: "+words), set("a/one", "caddy: a.example.com\ncaddy.respond: 1")})
		if len(got) > 0 != (want != "") || want != "" && !strings.Contains(got[0].Err.Error(), want) {
			t.Errorf("%s: got %v, want %q", words, got, want)
		}
	}
}

func TestRefusalsOfTheSharedSet(t *testing.T) {
	bad := set("infra/caddy", `
		caddy_0.emial: a@example.com
		caddy_1: (sso)
		caddy_1.header.X-A: 1
	`)
	good := set("a/good", "caddy: good.example.com\ncaddy.import: sso")
	got := Offline{}.Refusals(t.Context(), []stack.LabelSet{good, bad})
	if len(got) != 1 || got[0].Service != bad.Service || got[0].Label != "caddy_0.emial" {
		t.Errorf("got %v, want the label caddy_0.emial", got)
	}
}

// The ingress parses its own file once more and writes it again: what is
// checked here must not change on the way.
func TestCaddyfileSurvivesItsOwnReader(t *testing.T) {
	sets := []stack.LabelSet{ssoSnippet}
	for name, labels := range accepted {
		s := set("a/x"+fmt.Sprint(len(sets)), "caddy: "+strings.NewReplacer(" ", "-", "'", "").Replace(name)+".example.com\ncaddy.import: sso *\n"+labels)
		sets = append(sets, s)
	}
	text, _ := Caddyfile(sets)
	again, logs := caddyfile.Process(text)
	if string(again) != string(text) || len(logs) > 0 {
		t.Errorf("got\n%s\n%s\nwant\n%s", again, logs, text)
	}
	for range 10 {
		if same, _ := Caddyfile(sets); string(same) != string(text) {
			t.Fatal("the same labels give different files")
		}
	}
}

func BenchmarkRefusals1000Sites(b *testing.B) {
	sets := sites(1000)
	for b.Loop() {
		if got := (Offline{}).Refusals(b.Context(), sets); len(got) > 0 {
			b.Fatal(got)
		}
	}
}

func BenchmarkRefusals1000SitesByPolicy(b *testing.B) {
	sets := sites(1000)
	for i := range sets {
		sets[i].Labels["skep.ingress.trusted"] = "true" // the ingress's own alone is believed
	}
	p, err := label.ParsePolicy("trust:" + string(ssoSnippet.Service.Stack))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if got := (Offline{Policy: &p}).Refusals(b.Context(), sets); len(got) > 0 {
			b.Fatal(got)
		}
	}
}

func BenchmarkRefusals1000SitesOneBad(b *testing.B) {
	sets := append(sites(1000), set("bad/one", "caddy: bad.example.com\ncaddy.bogus: 1"))
	for b.Loop() {
		if got := (Offline{}).Refusals(b.Context(), sets); len(got) != 1 {
			b.Fatal(got)
		}
	}
}

func sites(n int) []stack.LabelSet {
	sets := []stack.LabelSet{ssoSnippet}
	for i := range n {
		sets = append(sets, set(fmt.Sprintf("s%d/web", i), fmt.Sprintf(`
			caddy: site%d.example.com
			caddy.import_0: security
			caddy.import_1: sso *
			caddy.tls: internal
			caddy.reverse_proxy: {{upstreams 80}}
			caddy.reverse_proxy.health_uri: /healthz
		`, i)))
	}
	return sets
}
