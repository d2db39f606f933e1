package frame

import (
	"regexp"
	"testing"
	"time"

	"skep/services/ingress/label"
)

var caddyLabel = regexp.MustCompile(`^caddy(_\d+)?(\.|$)`)

// FuzzLabels adds a stranger with any labels to a site: nothing may panic, the
// site must stay what it was, and the stranger's must be a site of its own.
func FuzzLabels(f *testing.F) {
	for _, seed := range [][3]string{
		{"caddy", "caddy.respond", "hi"},
		{"caddy", "caddy.respond", "}"},
		{"caddy", "caddy.", "x"},
		{"caddy", "caddy.header", "`a\n}\nvictim.example.com {\nrespond stolen\n}\n`"},
		{"caddy", "caddy.respond", "\"a`\nimport /etc/passwd\n`b\""},
		{"caddy", "caddy.handle.respond", "{ {$HOME} {env.HOME} {file./etc/passwd}"},
		{"caddy", "caddy.reverse_proxy", "unix//var/run/docker.sock"},
		{"caddy_1", "caddy_1.@m.expression", "`ph(req, 'env.HOME') == ''`"},
		{"caddy", "caddy.tls", "/etc/shadow /etc/shadow"},
		{"caddy", "caddy.respond", "{{range 100000000000}}{{end}}"},
		{"caddy", "caddy.respond", "<<X\nvictim.example.com {\n}\nX"},
	} {
		f.Add(seed[0], seed[1], seed[2], "stranger.example.com")
		f.Add(seed[0], seed[1], seed[2], "stranger.example.com {\n}\nvictim.example.com")
	}
	victim := label.Source{
		ID: "service:v", Kind: label.KindService, Name: "v", Stack: "victim", Created: time.Unix(1, 0),
		Labels: map[string]string{"caddy": "http://victim.example.com", "caddy.respond": "victim"},
	}
	f.Fuzz(func(t *testing.T, root, key, value, address string) {
		if !caddyLabel.MatchString(root) || !caddyLabel.MatchString(key) {
			return // the reader leaves such labels out
		}
		stranger := label.Source{
			ID: "service:s", Kind: label.KindService, Name: "s", Stack: "stranger", Created: time.Unix(2, 0),
			Labels: map[string]string{root: address, key: value},
		}
		alone, _ := partsOf(t, victim)
		both, refused := partsOf(t, victim, stranger)
		if len(both) == 0 || string(both[0].Routes.Primary) != string(alone[0].Routes.Primary) || both[0].Outline != alone[0].Outline {
			t.Fatalf("the victim's site changed; refused: %v", refused)
		}
		if len(both) > 3 { // caddy and caddy_1 are two sites
			t.Fatalf("%d sites", len(both))
		}
	})
}

// partsOf adapts services; the victim's site comes first.
func partsOf(t *testing.T, sources ...label.Source) ([]*Part, []label.Refusal) {
	t.Helper()
	var rendered []*label.Rendered
	for i := range sources {
		rendered = append(rendered, label.Render(&sources[i], label.Policy{}))
	}
	plan := label.Assemble(rendered, nil, label.Policy{}, time.Unix(10, 0), time.Minute)
	adapter := Adapter{}
	var parts []*Part
	refused := plan.Refusals
	for _, site := range plan.Sites {
		part, refusal := adapter.Part(plan.Globals, site)
		if refusal != nil {
			refused = append(refused, *refusal)
			continue
		}
		for _, b := range part.blocks {
			for _, k := range b.Keys {
				if site.Stack == "stranger" && k.Text == "http://victim.example.com" {
					t.Fatalf("a site of the stranger answers for the victim")
				}
			}
		}
		if site.Stack == "victim" {
			parts = append([]*Part{part}, parts...)
		} else {
			parts = append(parts, part)
		}
	}
	if _, err := Assemble(plan.Globals, parts, Options{}); err != nil {
		t.Logf("together: %v", err) // the controller's bisection finds it
	}
	return parts, refused
}
