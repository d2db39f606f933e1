package secretsync

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"skep/generator/stack"
	"skep/secrets"
)

func TestSyncAndRotate(t *testing.T) {
	w := newWorld(Versioned)
	expect(t, "first", says(w.sync(t)), "create one_db_v3, create two_api_v1, create two_url_v3")
	if got := w.values(); got["one_db_v3"] != "pa55" || got["two_url_v3"] != "db:pa55" || got["two_api_v1"] != "t0ken" {
		t.Errorf("values are %v", got)
	}
	live, _ := w.engine.Secrets(t.Context())
	for _, s := range live {
		if l := s.Spec.Labels; s.Spec.Name == "one_db_v3" && (l[secrets.LabelReference] != "op://v/db/password" || l[secrets.LabelItem] != "db" || l[secrets.LabelVersion] != "3" || l[secrets.LabelStack] != "one") {
			t.Errorf("labels are %v", l)
		}
		for k, v := range s.Spec.Labels {
			if strings.Contains(v, "pa55") || strings.Contains(v, "t0ken") {
				t.Errorf("label %s holds a value", k)
			}
		}
	}

	// Again: nothing, and no value is read.
	reads, saved := w.reads, w.saved
	done := w.sync(t)
	expect(t, "again", says(done), "keep one_db_v3, keep two_api_v1, keep two_url_v3")
	if done.Changes() || w.reads != reads || w.saved != saved {
		t.Errorf("an unchanged sync changes: %t, reads %d, saves %d", done.Changes(), w.reads-reads, w.saved-saved)
	}

	// Rotation: the old version stays while it, or a rollback, is used.
	w.use("one_app", "one_db_v3")
	w.use("two_app", "two_api_v1", "two_url_v3")
	w.edit("op://v/db/password", "new", "db", 4)
	done = w.sync(t)
	expect(t, "rotation", says(done), "used one_db_v3, create one_db_v4, keep two_api_v1, used two_url_v3, create two_url_v4")
	if a := done.Of(Create)[0]; a.Replaces != "one_db_v3" || a.Why != "the item changed" {
		t.Errorf("the rotation is %+v", a)
	}
	wanted, _ := w.project.Secrets(w.lock)
	live2, err := w.live(t.Context())
	if got := Outdated(wanted, live2, w.Options); err != nil || !slices.Equal(got, []stack.Name{"one", "two"}) {
		t.Errorf("outdated: %v, %v", got, err)
	}
	w.use("one_app", "one_db_v4")
	w.use("two_app", "two_api_v1", "two_url_v4")
	expect(t, "deployed", says(w.sync(t)), "used one_db_v3, keep one_db_v4, keep two_api_v1, used two_url_v3, keep two_url_v4")
	w.use("one_app", "one_db_v4") // deployed again: v3 is no target of Swarm's rollback any more
	w.history = map[string][]string{"one_db_v3": {"one, revision 1"}}
	done = w.sync(t)
	expect(t, "a revision", says(done), "used one_db_v3, keep one_db_v4, keep two_api_v1, used two_url_v3, keep two_url_v4")
	if got := done.Of(Used)[0].Users; !slices.Equal(got, []string{"one, revision 1"}) {
		t.Errorf("used by %q", got)
	}
	w.history = nil
	expect(t, "later", says(w.sync(t)), "prune one_db_v3, keep one_db_v4, keep two_api_v1, used two_url_v3, keep two_url_v4")
	if _, ok := w.values()["one_db_v3"]; ok {
		t.Error("one_db_v3 is still there")
	}
}

func TestSourceDownStopsNothing(t *testing.T) {
	w := newWorld(Versioned)
	w.sync(t)
	lock := maps.Clone(w.lock)
	w.down = fmt.Errorf("%w: gone", secrets.ErrUnavailable)
	done := w.sync(t)
	expect(t, "down", says(done), "keep one_db_v3, keep two_api_v1, keep two_url_v3")
	if !strings.Contains(done.Actions[0].Why, "source unavailable: gone") || !maps.Equal(lock, w.lock) {
		t.Errorf("why %q, lock %v", done.Actions[0].Why, w.lock)
	}
	w.templates["one/new"] = "op://v/api/token"
	w.templates["one/other"] = "op://v/none/such"
	expect(t, "down, and more is wanted", says(w.sync(t)), "keep one_db_v3, failed one_new_v1, failed one_other, keep two_api_v1, keep two_url_v3")
}

func TestOneFailureKeepsTheOthers(t *testing.T) {
	w := newWorld(Versioned)
	w.templates["one/missing"] = "op://v/db/pasword"
	w.shelf.fields["op://v/empty/f"] = ""
	w.templates["one/empty"] = "op://v/empty/f"
	w.shelf.fields["op://v/big/f"] = strings.Repeat("x", maxSecret)
	w.templates["one/big"] = "op://v/big/f"
	w.templates["one/otp"] = "op://v/db/one-time password?attribute=otp"
	w.shelf.fields["op://v/db/one-time password?attribute=otp"] = "123456"
	done := w.sync(t)
	expect(t, "some fail", says(done), "failed one_big_v1, create one_db_v3, failed one_empty_v1, failed one_missing, failed one_otp_v3, create two_api_v1, create two_url_v3")
	for i, want := range map[int]string{0: "takes less than 512000", 2: "takes no empty secret", 3: `there is no field "pasword"`, 4: "one-time password"} {
		if !strings.Contains(done.Actions[i].Why, want) {
			t.Errorf("%s: %s; want %q", done.Actions[i].Name, done.Actions[i].Why, want)
		}
	}
	for _, r := range []string{"op://v/empty/f", "op://v/big/f"} {
		ref, _ := secrets.ParseReference(r)
		if v, ok := w.lock[ref]; ok {
			t.Errorf("%s is locked to %s", r, v)
		}
	}
}

func TestDriverMode(t *testing.T) {
	w := newWorld(Driver)
	w.templates["one/otp"] = "op://v/db/one-time password?attribute=otp"
	w.shelf.fields["op://v/db/one-time password?attribute=otp"] = "123456"
	expect(t, "first", says(w.sync(t)), "create one_db_v3, create one_otp_v3, create two_api_v1, create two_url_v3")
	if w.reads != 0 {
		t.Error("values were read")
	}
	for _, s := range w.engine.secrets {
		if s.Spec.Driver == nil || s.Spec.Driver.Name != "skep" || len(s.Spec.Data) > 0 {
			t.Errorf("%s is %+v", s.Spec.Name, s.Spec)
		}
		if s.Spec.Name == "two_url_v3" && s.Spec.Labels[secrets.LabelTemplate] != "db:{{ op://v/db/password }}" {
			t.Errorf("labels are %v", s.Spec.Labels)
		}
	}
	expect(t, "again", says(w.sync(t)), "keep one_db_v3, keep one_otp_v3, keep two_api_v1, keep two_url_v3")
	w.use("one_app", "one_db_v3")
	w.Options.Mode = Versioned
	delete(w.templates, "one/otp")
	expect(t, "the other mode", says(w.sync(t)), "failed one_db_v3, prune one_otp_v3, replace two_api_v1, replace two_url_v3")
}

func TestDropped(t *testing.T) {
	w := newWorld(Versioned)
	w.sync(t)
	delete(w.templates, "two/api")
	w.shelf.down = secrets.ErrUnavailable // keeps what is locked, and is not dropped
	if done := w.sync(t); fmt.Sprint(done.Dropped) != "[op://v/api/token]" {
		t.Errorf("dropped are %v", done.Dropped)
	}
	if done := w.sync(t); len(done.Dropped) != 0 {
		t.Errorf("dropped are %v, again", done.Dropped)
	}
}

func TestNothingToSyncNeedsNoSource(t *testing.T) {
	w := newWorld(Versioned)
	w.sync(t)
	w.templates, w.Syncer.Source = nil, nil
	expect(t, "no reference", says(w.sync(t)), "prune one_db_v3, prune two_api_v1, prune two_url_v3")
	if len(w.lock) != 0 {
		t.Errorf("the lock has %v", w.lock)
	}
}
