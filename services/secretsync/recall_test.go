package secretsync

import (
	"fmt"
	"maps"
	"testing"

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
		if !maps.Equal(got, want) || len(missing) > 0 || got[db] != "12" {
			t.Errorf("%s: %v, missing %v; want %v", mode, got, missing, want)
		}
		mine := secrets.Lock{db: "3", old: "1", api: "100"}
		got, _ = Recall(mine, refs, live, "test")
		expect(t, "with a lock", fmt.Sprint(got), fmt.Sprint(secrets.Lock{db: "12", old: "1", api: "100"}))
		if len(mine) != 3 || mine[db] != "3" {
			t.Error("the lock that was given is changed")
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
