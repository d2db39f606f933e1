package deploy

import (
	"encoding/json"
	"reflect"
	"testing"

	"skep/generator/expand"
	"skep/generator/spec"
)

// TestKeptIsWhatWouldBeLoaded converts the catalogue twice: as a deploy does
// that has just compiled it, and as one does that reads a saved plan or a
// revision.
func TestKeptIsWhatWouldBeLoaded(t *testing.T) {
	cluster, problems := spec.Load(t.Context(), "../../stacks", spec.Options{})
	if problems.Failed() {
		t.Fatal(problems)
	}
	b, err := expand.Expand(cluster)
	if err != nil {
		t.Fatal(err)
	}
	b.Keep = true
	if refused := b.Validate(); len(refused) > 0 {
		t.Fatal(refused)
	}
	kept, err := NewProject(cluster, b)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(kept)
	if err != nil {
		t.Fatal(err)
	}
	var saved Project
	if err := json.Unmarshal(text, &saved); err != nil {
		t.Fatal(err)
	}
	if len(kept.Releases) == 0 || len(saved.Releases) != len(kept.Releases) {
		t.Fatalf("%d releases, saved %d", len(kept.Releases), len(saved.Releases))
	}
	for i, r := range kept.Releases {
		if r.loaded == nil || saved.Releases[i].loaded != nil {
			t.Fatalf("stack %s: kept %t, saved %t", r.Stack, r.loaded != nil, saved.Releases[i].loaded != nil)
		}
		one, err := r.desired()
		if err != nil {
			t.Fatal(err)
		}
		other, err := saved.Releases[i].desired()
		if err != nil {
			t.Fatal(err)
		}
		one.release, other.release = Release{}, Release{}
		if !reflect.DeepEqual(one, other) {
			t.Errorf("stack %s: kept\n%s\nloaded anew\n%s", r.Stack, show(t, one), show(t, other))
		}
	}
}

func show(t *testing.T, d *desired) []byte {
	t.Helper()
	text, err := json.MarshalIndent([]any{d.networks, d.external, d.configs, d.secrets, d.driven, specsOf(d)}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func specsOf(d *desired) (specs []any) {
	for _, s := range d.services {
		specs = append(specs, s.spec)
	}
	return specs
}
