package label

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// source is a service of a stack, created so many hours after the epoch.
func source(name string, stack Stack, hours int, lines string) Source {
	labels := map[string]string{}
	for line := range strings.Lines(lines) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			labels[key] = strings.TrimSpace(value)
		}
	}
	return Source{
		ID: SourceID("service:" + name), Kind: KindService, Name: name, Stack: stack, Labels: labels,
		Created: epoch.Add(time.Duration(hours) * time.Hour), Targets: []string{"10.0.0.1"},
	}
}

func trusted(s Source) Source {
	s.Trusted = true
	return s
}

func assemble(t testing.TB, policy string, claims []Claim, now time.Time, sources ...Source) *Plan {
	t.Helper()
	p, err := ParsePolicy(policy)
	if err != nil {
		t.Fatal(err)
	}
	var rendered []*Rendered
	for i := range sources {
		rendered = append(rendered, Render(&sources[i], p))
	}
	return Assemble(rendered, claims, p, now, 10*time.Minute)
}

// refusals are "service label rule".
func refusals(p *Plan) []string {
	var out []string
	for _, r := range p.Refusals {
		out = append(out, fmt.Sprintf("%s %s %s", r.Source, r.Label, r.Rule))
	}
	slices.Sort(out)
	return out
}

func ids(p *Plan) []SiteID {
	var out []SiteID
	for _, s := range p.Sites {
		out = append(out, s.ID)
	}
	return out
}

func equal[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestClaims(t *testing.T) {
	const web = "caddy: a.example.com\ncaddy.respond: hi"
	old, young := source("z_web", "old", 1, web), source("a_web", "young", 2, web)

	first := assemble(t, "", nil, epoch, young, old)
	equal(t, "the older service wins", refusals(first), []string{"a_web caddy claim"})

	second := source("b_web", "older", 0, web)
	kept := assemble(t, "", first.Claims, epoch, young, old, second)
	equal(t, "a claim outlives an older service", refusals(kept), []string{"a_web caddy claim", "b_web caddy claim"})

	gone := assemble(t, "", first.Claims, epoch.Add(time.Minute), young)
	equal(t, "a stack that left keeps its host for a while", refusals(gone), []string{"a_web caddy claim"})
	later := assemble(t, "", gone.Claims, epoch.Add(5*time.Minute), young)
	equal(t, "and for all of the while", refusals(later), []string{"a_web caddy claim"})
	free := assemble(t, "", later.Claims, epoch.Add(12*time.Minute), young)
	equal(t, "not longer", refusals(free), nil)
	back := assemble(t, "", later.Claims, epoch.Add(12*time.Minute), old, young)
	equal(t, "a stack that comes back has it", refusals(back), []string{"a_web caddy claim"})

	same := assemble(t, "", nil, epoch, source("x_a", "x", 1, web), source("x_b", "x", 2, "caddy: a.example.com\ncaddy.header: A 1"))
	equal(t, "services of one stack share", refusals(same), nil)
	if text := same.Sites[0].Text; !strings.Contains(text, "respond hi") || !strings.Contains(text, "header A 1") {
		t.Errorf("the blocks do not merge:\n%s", text)
	}
	ports := assemble(t, "", nil, epoch, old, source("p_web", "p", 3, "caddy: https://A.example.com:8443\ncaddy.respond: hi"))
	equal(t, "a host is a host on every port", refusals(ports), []string{"p_web caddy claim"})
	overlap := assemble(t, "", nil, epoch, old, source("z_more", "old", 3, "caddy: a.example.com b.example.com\ncaddy.respond: hi"))
	equal(t, "blocks that overlap", refusals(overlap), []string{"z_more caddy conflict"})
}

func TestSharing(t *testing.T) {
	ingress := trusted(source("ingress", "ingress", 0, "caddy_0.email: a@example.com\ncaddy_1: (sec)\ncaddy_1.header: A 1\ncaddy_2: (outer)\ncaddy_2.import: sec"))
	own := source("a_web", "a", 1, "caddy_0: (mine)\ncaddy_0.header: B 1\ncaddy_1: a.example.com\ncaddy_1.import: mine\ncaddy_1.import_1: outer")
	p := assemble(t, "", nil, epoch, ingress, own)
	equal(t, "what is shared and what is one's own", refusals(p), nil)
	site := p.Sites[0]
	if i, o := strings.Index(site.Prelude, "(sec)"), strings.Index(site.Prelude, "(outer)"); i < 0 || o < i {
		t.Errorf("a snippet comes before who imports it:\n%s", site.Prelude)
	}
	if strings.Contains(site.Granted, "(mine)") || !strings.Contains(site.Granted, "(sec)") {
		t.Errorf("granted:\n%s", site.Granted)
	}
	if !strings.Contains(p.Globals, "email a@example.com") {
		t.Errorf("global options: %q", p.Globals)
	}
	other := source("b_web", "b", 1, "caddy: b.example.com\ncaddy.import: mine")
	equal(t, "another stack's snippet", refusals(assemble(t, "", nil, epoch, ingress, own, other)), []string{"b_web caddy.import snippet"})
	equal(t, "opened by name", refusals(assemble(t, "import:mine", nil, epoch, ingress, own, other)), nil)
	fake := source("c_web", "c", 1, "caddy_0: (sec)\ncaddy_0.header: X 1\ncaddy_1.email: evil@example.com")
	equal(t, "the ingress's own names and options", refusals(assemble(t, "", nil, epoch, fake, ingress, own)),
		[]string{"c_web caddy_0 conflict", "c_web caddy_1.email global"})
}

func TestOneBadBlockOfAService(t *testing.T) {
	p := assemble(t, "", nil, epoch, source("a", "a", 0, "caddy_0: a.example.com\ncaddy_0.respond: {{nope}}\ncaddy_1: b.example.com\ncaddy_1.respond: b"))
	equal(t, "refusals", refusals(p), []string{"a caddy_0.respond template"})
	equal(t, "sites", ids(p), []SiteID{"b.example.com"})
}

func TestTemplatesOfStrangers(t *testing.T) {
	t.Setenv("SKEP_TEST_SECRET", "hidden")
	for text, rule := range map[string]string{
		"{{upstreams http 80}}":                         "",
		"{{ list 1 2 | join `-` }}":                     "",
		"{{env `SKEP_TEST_SECRET`}}":                    "env",
		"{{expandenv `$SKEP_TEST_SECRET`}}":             "env",
		"{{getHostByName `localhost`}}":                 "template",
		"{{genPrivateKey `rsa`}}":                       "template",
		"{{repeat 1000000000 `x`}}":                     "template",
		"{{until 1000000000}}":                          "template",
		"{{range until 10}}x{{end}}":                    "template",
		"{{range 1000000000000}}{{end}}":                "template",
		"{{define `a`}}{{template `a`}}{{end}}":         "template",
		"{{printf `%1000000d` 1}}":                      "template",
		"{{printf `%*d` 1000000 1}}":                    "template",
		"{{$a := repeat 8000 `x`}}{{print $a $a}}":      "template",
		"{{replace `x` (repeat 8000 `y`) `xxxxxxxxx`}}": "template",
	} {
		p := assemble(t, "", nil, epoch, source("a", "a", 0, "caddy: a.example.com\ncaddy.respond: "+text))
		var want []string
		if rule != "" {
			want = []string{"a caddy.respond " + rule}
		}
		equal(t, text, refusals(p), want)
	}
	open := assemble(t, "env:SKEP_TEST_SECRET", nil, epoch, source("a", "a", 0, "caddy: a.example.com\ncaddy.respond: {{env `SKEP_TEST_SECRET`}}"))
	if len(open.Sites) != 1 || !strings.Contains(open.Sites[0].Text, "hidden") {
		t.Errorf("a variable that is opened by name is not read: %v", open.Refusals)
	}
}

func TestPolicy(t *testing.T) {
	p, err := ParsePolicy("env:TOKEN file:/srv/*  # a comment\nlisten:8443")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind Permission
		name string
		want bool
	}{
		{Env, "TOKEN", true}, {Env, "TOKEN2", false}, {Listen, "8443", true}, {Listen, "84", false},
		{File, "/srv/a/b", true}, {File, "/srv", false}, {File, "/srv/../etc/passwd", false}, {Credential, "TOKEN", false},
	} {
		if got := p.Allows(c.kind, c.name); got != c.want {
			t.Errorf("%s:%s: got %v", c.kind, c.name, got)
		}
	}
	for _, bad := range []string{"env", "env:", "nonsense:x", "all"} {
		if _, err := ParsePolicy(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
