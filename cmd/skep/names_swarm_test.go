package main

import (
	"path/filepath"
	"strings"
	"testing"

	"skep/internal/swarmtest"
	"skep/services/dns/dnstest"
)

const namesCluster = `
name: test
tiers: [application]
defaults: {update: {monitor: 1s}}
zones: {public: {domain: example.com, provider: cloudflare, target: tunnel, proxied: true}}
ingress: {network: proxy, service: ingress/caddy, default: {zone: public, auth: none}, tls: {public: {mode: internal}}}
tunnel: {id: 6ff42ae2-765d-4adf-8112-31c55c1551ef}
networks: {proxy: {}}
previews: {stacks: [app]}
`

const namesIngress = `
name: ingress
x-tier: application
services:
  caddy:
    image: whoami:0.1
    healthcheck: {test: [CMD, /whoami, -healthcheck], interval: 1s, retries: 20}
    mem_limit: 64m
    deploy: {endpoint_mode: dnsrr}
`

const namesApp = `
name: app
x-tier: application
services:
  web:
    image: whoami:0.1
    x-ingress: {host: app, port: 8080}
    healthcheck: {test: [CMD, /whoami, -healthcheck], interval: 1s, retries: 20}
    mem_limit: 64m
    deploy: {endpoint_mode: dnsrr}
`

// Records and rules of the tunnel come with the stacks that answer, stay with
// those that failed, and go with a preview.
func TestNamesOnASwarm(t *testing.T) {
	t.Parallel()
	const tunnel = "6ff42ae2-765d-4adf-8112-31c55c1551ef"
	b := bedOn(t, swarmtest.Start(t))
	if err := b.s.Import("whoami:0.1", swarmtest.Binary(t, "skep/cmd/whoami")); err != nil {
		t.Fatal(err)
	}
	cloudflare := dnstest.NewCloudflare(t, "example.com")
	cloudflare.AddTunnel("account", tunnel, "cloudflare", `{"ingress":[{"hostname":"ssh.example.com","service":"ssh://host:22"},{"service":"http_status:404"}]}`)
	away := b.env()
	there := append(b.env(), "CLOUDFLARE_API_URL="+cloudflare.URL, "CLOUDFLARE_API_TOKEN="+cloudflare.Token, "CLOUDFLARE_ACCOUNT_ID=account")
	with := func(t *testing.T, env []string, code int, args ...string) string {
		t.Helper()
		return skep(t, env, code, append([]string{"-C", b.dir}, args...)...)
	}
	// has checks the hosts of records and rules, those of the tunnel with the
	// one that a person made.
	has := func(t *testing.T, hosts ...string) {
		t.Helper()
		records := cloudflare.Comments()
		rules, _ := cloudflare.TunnelConfig("account", tunnel)
		if len(records) != len(hosts) || strings.Count(rules, `"hostname"`) != len(hosts)+1 || !strings.Contains(rules, "ssh.example.com") {
			t.Errorf("records %v, rules %s, want %v", records, rules, hosts)
		}
		for _, host := range hosts {
			if _, ok := records[host]; !ok || !strings.Contains(rules, `"`+host+`"`) {
				t.Errorf("%s is not there: records %v, rules %s", host, records, rules)
			}
		}
	}
	b.write("cluster.yaml", namesCluster)
	b.write("ingress/stack.yaml", namesIngress)
	b.write("app/stack.yaml", namesApp)

	// Nobody can be asked: the Swarm is planned all the same.
	contains(t, with(t, away, exitPending, "plan", "--detailed-exitcode"), "+ service app_web", "? dns example.com could not be read", "CLOUDFLARE_API_TOKEN is not set")
	contains(t, with(t, away, exitDone, "deploy", "ingress"), "warning: dns example.com was left alone", "Deployed 1 stack")
	has(t)

	contains(t, with(t, there, exitDone, "plan", "--markdown"), "| create | `cname app.example.com` |", "| create | `rule app.example.com` |")
	saved := filepath.Join(t.TempDir(), "plan.json")
	contains(t, with(t, there, exitDone, "plan", "-out", saved), "+ cname app.example.com -> "+tunnel, "+ rule app.example.com -> https://ingress_caddy", "Names: 2.")
	out := with(t, there, exitDone, "deploy", saved)
	if up, named := strings.Index(out, "service app_web is up"), strings.Index(out, "created cname app.example.com"); up < 0 || named < up {
		t.Errorf("the name did not wait for its service:\n%s", out)
	}
	has(t, "app.example.com")
	contains(t, with(t, there, exitDone, "plan", "--detailed-exitcode"), "No changes")
	contains(t, with(t, there, exitFailed, "deploy", saved), "stale")

	// A stack that fails keeps the names that it had, and gets no others.
	b.write("app/stack.yaml", strings.NewReplacer("host: app", "host: new", "whoami:0.1", "whoami:0.2").Replace(namesApp))
	contains(t, with(t, there, exitFailed, "deploy", "--timeout", "1m"), "is back at what it was")
	has(t, "app.example.com")
	b.write("app/stack.yaml", strings.Replace(namesApp, "host: app", "host: new", 1))
	contains(t, with(t, there, exitDone, "deploy"), "created cname new.example.com", "updated cname app.example.com to be removed")
	if records := cloudflare.Comments(); !strings.Contains(records["app.example.com"], "gone=") || records["new.example.com"] == "" {
		t.Errorf("records %v", records)
	}
	b.write("app/stack.yaml", namesApp)
	with(t, there, exitDone, "deploy")

	// A preview's names are its own.
	contains(t, with(t, there, exitDone, "preview", "up", "pr-1", "app"), "created cname pr-1-app.example.com")
	if records := cloudflare.Comments(); records["pr-1-app.example.com"] == "" {
		t.Errorf("records %v", records)
	}
	before := cloudflare.Comments()["pr-1-app.example.com"]
	contains(t, with(t, there, exitDone, "deploy"), "No changes")
	if after := cloudflare.Comments()["pr-1-app.example.com"]; after != before {
		t.Errorf("a deploy of the project marks the preview's record %q", after)
	}
	contains(t, with(t, there, exitDone, "preview", "down", "pr-1", "--yes"), "removed cname pr-1-app.example.com", "removed rule pr-1-app.example.com")
	if records := cloudflare.Comments(); records["pr-1-app.example.com"] != "" || records["app.example.com"] == "" {
		t.Errorf("records %v", records)
	}
}
