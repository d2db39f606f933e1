package frame

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"skep/services/ingress/label"
	"skep/services/ingress/route"
)

// Whatever a server answers, it says first that it leaves: a site that is kept
// whole, and the page for unknown hosts too.
func TestEveryServerSaysThatItLeaves(t *testing.T) {
	policy := label.Policy{Open: true}
	source := label.Source{ID: "1", Kind: label.KindService, Name: "web", Stack: "web", Labels: map[string]string{
		"caddy_0": "http://split.example.com", "caddy_0.respond": "split",
		"caddy_1": "http://whole.example.com:8080", "caddy_1.acme_server.ca": "own",
	}}
	plan := label.Assemble([]*label.Rendered{label.Render(&source, policy)}, nil, policy, time.Unix(0, 0), 0)
	if len(plan.Refusals) > 0 {
		t.Fatal(plan.Refusals)
	}
	adapter := Adapter{Policy: policy}
	var parts []*Part
	whole := 0
	for _, site := range plan.Sites {
		part, refusal := adapter.Part(plan.Globals, site)
		if refusal != nil {
			t.Fatal(refusal)
		}
		if part.whole {
			whole++
		}
		parts = append(parts, part)
	}
	for name, some := range map[string][]*Part{"sites": parts, "none": nil} {
		t.Run(name, func(t *testing.T) {
			f, err := Assemble(plan.Globals, some, Options{NotFound: "none"})
			if err != nil {
				t.Fatal(err)
			}
			var tree object
			if err := json.Unmarshal(f.JSON, &tree); err != nil {
				t.Fatal(err)
			}
			servers := child(tree, "apps", "http", "servers")
			if want := len(some); len(servers) < max(1, want) || whole != 1 {
				t.Fatalf("%d servers, %d sites are kept whole: this proves nothing", len(servers), whole)
			}
			for _, server := range sorted(servers) {
				first := items(child(servers, server), "routes")[0]
				want := object{"handle": []any{object{"handler": route.LeavingName}}}
				if !reflect.DeepEqual(first, want) {
					t.Errorf("server %s begins with %v", server, first)
				}
			}
		})
	}
}
