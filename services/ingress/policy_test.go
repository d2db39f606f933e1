package ingress

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"skep/generator/bundle"
	"skep/generator/stack"
	"skep/services/ingress/label"
)

// TestRefusalsByPolicy has labels that Caddy accepts and the ingress does not,
// beside another stack's site and an ingress with a snippet and an option.
func TestRefusalsByPolicy(t *testing.T) {
	t.Setenv("SKEP_TEST_SECRET", "`") // nobody may read it here
	const site = "caddy: mine.example.com\n"
	for name, c := range map[string]struct {
		labels string // of zoo/web
		want   string // its refusals as "label reason", without a policy entry
		open   string // entries under which nothing is refused
	}{
		"files":                      {site + "caddy.root: * /srv\ncaddy.file_server:", "caddy.root /srv is a file", "file:/srv handler:file_server"},
		"environment":                {site + "caddy.respond: {env.SKEP_TEST_SECRET}", "caddy.respond {env.SKEP_TEST_SECRET} reads", "env:SKEP_TEST_SECRET"},
		"environment, in a template": {site + "caddy.respond: {{env `SKEP_TEST_SECRET`}}", "caddy.respond env:SKEP_TEST_SECRET", "env:SKEP_TEST_SECRET"},
		"another port":               {"caddy: http://mine.example.com:9000\ncaddy.respond: hi", "caddy the ingress has not declared to listen on :9000", "listen:9000"},
		"the ingress itself":         {site + "caddy.reverse_proxy: localhost:2019", "caddy.reverse_proxy the upstream localhost:2019 is the ingress itself", "upstream:localhost:2019"},
		"global options":             {"caddy.grace_period: 5s", "caddy.grace_period only a service with the label", "everything"},
		"another stack's host":       {"caddy: theirs.example.com\ncaddy.header: A 1", `caddy theirs.example.com belongs to stack "other", unless`, "everything"},
		"another stack's snippet":    {site + "caddy.import: theirs", `caddy.import there is no snippet "theirs" that is shared`, "import:theirs"},
		"a loop":                     {site + "caddy.respond: {{range until 3}}x{{end}}", "caddy.respond function:range", "function:range"},
		"the ingress's own":          {site + "caddy.import: version\ncaddy.reverse_proxy: {{upstreams 80}}", "", ""},
		"what Caddy refuses too":     {site + "caddy.bogus: {env.SKEP_TEST_SECRET}", "caddy.bogus unrecognized directive", "-"},
	} {
		t.Run(name, func(t *testing.T) {
			check := func(open string) []string {
				p, err := label.ParsePolicy("trust:infra " + strings.Trim(open, "-"))
				if err != nil {
					t.Fatal(err)
				}
				var out []string
				for _, r := range (Offline{Policy: &p}).Refusals(t.Context(), []stack.LabelSet{
					set("infra/caddy", "skep.ingress.trusted: true\ncaddy_0.grace_period: 10s\ncaddy_1: (version)\ncaddy_1.header: X-Version 1\ncaddy_2: infra.example.com\ncaddy_2.import: version"),
					set("other/web", "caddy_0: theirs.example.com\ncaddy_0.import: theirs\ncaddy_1: (theirs)\ncaddy_1.header: B 1"),
					set("zoo/web", c.labels),
				}) {
					out = append(out, fmt.Sprintf("%s %s %v", r.Service, r.Label, r.Err))
				}
				return out
			}
			got := check("")
			want := 1
			if c.want == "" {
				want = 0
			}
			if len(got) != want || want == 1 && !strings.HasPrefix(got[0], "zoo/web "+c.want) {
				t.Errorf("got %q, want zoo/web %s", got, c.want)
			}
			if got := check(c.open); c.open != "-" && len(got) > 0 {
				t.Errorf("%s does not open it: %q", c.open, got)
			}
		})
	}
}

// What a policy opens for one of two sites that look alike it may refuse the
// other.
func TestPolicyOnAlikeSites(t *testing.T) {
	p, err := label.ParsePolicy("file:/srv/one_web file:/srv/one.example.org")
	if err != nil {
		t.Fatal(err)
	}
	var sets []stack.LabelSet
	for _, name := range []string{"one", "two"} {
		sets = append(sets,
			set(name+"/web", fmt.Sprintf("caddy: %[1]s.example.com\ncaddy.root: * /srv/%[1]s_web\ncaddy.reverse_proxy: {{upstreams 80}}", name)),
			set(name+"/api", fmt.Sprintf("caddy: %[1]s.example.org\ncaddy.root: * /srv/%[1]s.example.org\ncaddy.reverse_proxy: {{upstreams 80}}", name)))
	}
	var got []string
	for _, r := range (Offline{Policy: &p}).Refusals(t.Context(), sets) {
		got = append(got, r.Service.String()+" "+r.Label)
	}
	if want := []string{"two/api caddy.root", "two/web caddy.root"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPolicyOfTheBundle(t *testing.T) {
	const app = `
  web: {image: "x:1", x-ingress: {host: web, port: 80, zone: admin, paths: ["/a/*"], rate: 2/1h, stream: true, body: 1KB, auth: {bypass: ["/api/*"]}}}
  raw: {image: "x:1", deploy: {labels: {caddy: raw.lan.example.com, caddy.respond: "{env.HOME}"}}}
`
	b := compiled(t, app)
	check := func() []string {
		var out []string
		for _, r := range For(b).Refusals(t.Context(), b.LabelSets()) {
			out = append(out, fmt.Sprintf("%s %s %v", r.Service, r.Label, r.Err))
		}
		return out
	}
	if got := check(); len(got) != 1 || !strings.HasPrefix(got[0], "app/raw caddy.respond {env.HOME} reads") {
		t.Errorf("got %q", got)
	}
	at := slices.IndexFunc(b.Stacks, func(s *bundle.Stack) bool { return s.Name == "ingress" })
	content := b.Stacks[at].Compose()
	b.Stacks[at].Compose = func() bundle.Compose { return content }
	environment := content["services"].(map[string]any)["caddy"].(map[string]any)["environment"].(map[string]any)
	for policy, want := range map[string]string{
		"trust:ingress env:HOME": "", "everything": "",
		"nonsense": `ingress/caddy  SKEP_INGRESS_POLICY: policy entry "nonsense"`,
	} {
		environment[policyVariable] = policy
		if got := strings.Join(check(), "\n"); want == "" && got != "" || !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %q, want %q", policy, got, want)
		}
	}
	environment[policyVariable], environment[policyPathVariable] = "trust:ingress", "/policy"
	if got := check(); len(got) > 0 {
		t.Errorf("a policy that only the ingress can read: got %q", got)
	}
}
