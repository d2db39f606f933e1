package secretsync

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/moby/moby/api/types/swarm"

	"skep/generator/stack"
	"skep/secrets"
)

func reference(t *testing.T, s string) secrets.Reference {
	t.Helper()
	r, err := secrets.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What a sync made is enough to know what it locked; what is newer in the lock
// stays.
func TestRecall(t *testing.T) {
	db, api, old := reference(t, "op://v/db/password"), reference(t, "op://v/api/token"), reference(t, "op://v/old/f")
	for _, mode := range []Mode{Versioned, Driver} {
		w := newWorld(mode)
		w.sync(t)
		w.edit("op://v/db/password", "new", "db", 12)
		w.use("two_app", "two_url_v3") // so that the earlier one stays
		want := maps.Clone(w.sync(t).Lock)
		live, err := w.engine.Secrets(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wanted, err := w.project.Secrets(nil)
		if err != nil {
			t.Fatal(err)
		}
		refs := References(wanted)
		got, missing := Recall(nil, refs, live, "test")
		if !maps.Equal(got, want) || len(missing) > 0 || got[db].Version != "12" {
			t.Errorf("%s: %v, missing %v; want %v", mode, got, missing, want)
		}
		mine := secrets.Lock{db: {Version: "3"}, old: {Version: "1"}, api: {ID: "api", Version: "100"}}
		got, _ = Recall(mine, refs, live, "test")
		expect(t, "with a lock", fmt.Sprint(got), fmt.Sprint(secrets.Lock{db: want[db], old: {Version: "1"}, api: {ID: "api", Version: "100"}}))
		if len(mine) != 3 || mine[db].Version != "3" {
			t.Error("the lock that was given is changed")
		}
	}
}

// An item that was made anew begins at version 1, and counts all the same.
func TestRecallAnItemMadeAnew(t *testing.T) {
	ref := reference(t, "op://v/db/password")
	made := func(day int, id, version string) swarm.Secret {
		s := swarm.Secret{Spec: swarm.SecretSpec{Annotations: swarm.Annotations{Labels: map[string]string{
			secrets.LabelReference: ref.String(), secrets.LabelItem: id, secrets.LabelVersion: version, secrets.LabelCluster: "test",
		}}}}
		s.CreatedAt = time.Date(2026, 11, day, 0, 0, 0, 0, time.UTC)
		return s
	}
	for name, c := range map[string]struct {
		lock secrets.Item
		live []swarm.Secret
		want secrets.Item
	}{
		"no lock":                     {secrets.Item{}, []swarm.Secret{made(1, "old", "5"), made(2, "new", "1")}, secrets.Item{ID: "new", Version: "1"}},
		"whatever the order":          {secrets.Item{}, []swarm.Secret{made(3, "new", "2"), made(2, "new", "1"), made(1, "old", "5")}, secrets.Item{ID: "new", Version: "2"}},
		"a lock of the old one":       {secrets.Item{ID: "old", Version: "5"}, []swarm.Secret{made(2, "new", "1")}, secrets.Item{ID: "new", Version: "1"}},
		"a lock of the new one":       {secrets.Item{ID: "new", Version: "3"}, []swarm.Secret{made(1, "old", "5"), made(2, "new", "1")}, secrets.Item{ID: "new", Version: "3"}},
		"a lock that knows no item":   {secrets.Item{Version: "5"}, []swarm.Secret{made(2, "new", "1")}, secrets.Item{Version: "5"}},
		"the item of a version alone": {secrets.Item{Version: "5"}, []swarm.Secret{made(2, "new", "5")}, secrets.Item{ID: "new", Version: "5"}},
		"a version for another stack": {secrets.Item{}, []swarm.Secret{made(1, "a", "5"), made(2, "a", "4")}, secrets.Item{ID: "a", Version: "5"}},
	} {
		lock := secrets.Lock{}
		if c.lock != (secrets.Item{}) {
			lock[ref] = c.lock
		}
		if got, _ := Recall(lock, []secrets.Reference{ref}, c.live, "test"); got[ref] != c.want {
			t.Errorf("%s: got %v, want %v", name, got[ref], c.want)
		}
	}
}

// Secrets of others say nothing, nor do labels that somebody wrote by hand.
func TestRecallMisses(t *testing.T) {
	ref := reference(t, "op://v/db/password")
	of := func(change func(map[string]string)) []swarm.Secret {
		labels := map[string]string{secrets.LabelReference: ref.String(), secrets.LabelVersion: "3", secrets.LabelCluster: "test"}
		change(labels)
		return []swarm.Secret{{Spec: swarm.SecretSpec{Annotations: swarm.Annotations{Name: "a", Labels: labels}}}}
	}
	for name, live := range map[string][]swarm.Secret{
		"another cluster": of(func(l map[string]string) { l[secrets.LabelCluster] = "other" }),
		"a preview":       of(func(l map[string]string) { l[stack.LabelPreview] = "pr-1" }),
		"no version":      of(func(l map[string]string) { delete(l, secrets.LabelVersion) }),
		"not a number":    of(func(l map[string]string) { l[secrets.LabelVersion] = "3 # x" }),
		"no reference":    of(func(l map[string]string) { l[secrets.LabelReference] = "db" }),
		"too many":        of(func(l map[string]string) { l[secrets.LabelReference] = "op://v/a/b\n" + ref.String() }),
		"nothing":         nil,
	} {
		t.Run(name, func(t *testing.T) {
			lock, missing := Recall(nil, []secrets.Reference{ref}, live, "test")
			if len(lock) != 0 || len(missing) != 1 || missing[0] != ref {
				t.Errorf("%v, missing %v", lock, missing)
			}
			if _, err := secrets.ParseLock(lock.Marshal()); err != nil {
				t.Error(err)
			}
		})
	}
}
