package secretsync

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/swarm"

	"skep/generator/stack"
	"skep/secrets"
)

func TestNameIsTaken(t *testing.T) {
	w := newWorld(Versioned)
	w.secrets["x"] = swarm.Secret{ID: "x", Spec: swarm.SecretSpec{Annotations: swarm.Annotations{Name: "one_db_v3"}}}
	other := map[string]string{secrets.LabelReference: "op://v/api/token", secrets.LabelCluster: "other"}
	w.secrets["y"] = swarm.Secret{ID: "y", Spec: swarm.SecretSpec{Annotations: swarm.Annotations{Name: "elsewhere_api_v1", Labels: other}}}
	done := w.sync(t)
	expect(t, "taken", says(done), "failed one_db_v3, create two_api_v1, create two_url_v3")
	if !strings.Contains(done.Actions[0].Why, "was not made by skep") {
		t.Errorf("why %q", done.Actions[0].Why)
	}
	if _, ok := w.values()["elsewhere_api_v1"]; !ok {
		t.Error("another cluster's secret was pruned")
	}
}

// An item that is deleted and made anew starts over with version 1.
func TestItemReplacedAtTheSameVersion(t *testing.T) {
	w := newWorld(Versioned)
	w.sync(t)
	w.ids["db"], w.shelf.fields["op://v/db/password"] = "second-", "new"
	w.use("two_app", "two_url_v3")
	done := w.sync(t)
	expect(t, "replaced", says(done), "replace one_db_v3, keep two_api_v1, failed two_url_v3")
	if !strings.Contains(done.Actions[2].Why, "the item was replaced by another one, and the secret is in use") {
		t.Errorf("why %q", done.Actions[2].Why)
	}
	if got := w.values(); got["one_db_v3"] != "new" || got["two_url_v3"] != "db:pa55" {
		t.Errorf("values are %v", got)
	}
}

// Two secrets of one text are each other's siblings, not versions.
func TestSameTextTwice(t *testing.T) {
	w := newWorld(Versioned)
	w.templates = map[string]string{"two/url": "db:{{ op://v/db/password }}", "two/url2": "db:{{ op://v/db/password }}"}
	w.sync(t)
	w.use("two_app", "two_url2_v3", "two_url_v3")
	w.edit("op://v/db/password", "new", "db", 4)
	done := w.sync(t)
	expect(t, "rotation", says(done), "used two_url2_v3, create two_url2_v4, used two_url_v3, create two_url_v4")
	for _, a := range done.Of(Create) {
		expect(t, a.Name+" comes after", a.Replaces, strings.Replace(a.Name, "_v4", "_v3", 1))
	}
	outdated := func() []stack.Name {
		wanted, err := w.project.Secrets(w.lock)
		if err != nil {
			t.Fatal(err)
		}
		live, err := w.live(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return Outdated(wanted, live, w.Options)
	}
	if got := outdated(); !slices.Equal(got, []stack.Name{"two"}) {
		t.Errorf("before the deploy %q are outdated", got)
	}
	w.use("two_app", "two_url2_v4", "two_url_v4")
	if got := outdated(); len(got) != 0 {
		t.Errorf("after it %q are outdated", got)
	}
}

func BenchmarkCompare(b *testing.B) {
	for _, n := range []int{500, 5000} {
		b.Run(fmt.Sprintf("secrets=%d", n), func(b *testing.B) {
			w := newWorld(Versioned)
			w.templates = map[string]string{}
			for i := range n {
				ref := fmt.Sprintf("op://v/item-%d/f", i)
				w.templates[fmt.Sprintf("stack-%d/item-%d", i%50, i)] = ref
				w.shelf.fields[ref] = "value"
			}
			wanted, err := w.project.Secrets(nil)
			if err != nil {
				b.Fatal(err)
			}
			answers := w.shelf.answer(References(wanted), false)
			lock := Relock(nil, answers)
			if wanted, err = w.project.Secrets(lock); err != nil {
				b.Fatal(err)
			}
			plan := Compare(wanted, lock, answers, Live{}, w.Options)
			w.Syncer.create(b.Context(), plan.Actions)
			live, err := w.live(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if Compare(wanted, lock, answers, live, w.Options).Changes() {
					b.Fatal("an unchanged Swarm has changes")
				}
			}
		})
	}
}
