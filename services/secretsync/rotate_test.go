package secretsync

import (
	"slices"
	"strings"
	"testing"

	"skep/generator/stack"
)

// A rotation deploys what uses an old version, and nothing the second time. A
// stack that fails keeps no other back, and is done again.
func TestRotate(t *testing.T) {
	w := newWorld(Versioned)
	d := &deployer{w: w}
	rotate := func(names ...stack.Name) (Rotation, error) {
		return Rotate(t.Context(), w.Syncer, w.project, d, true, names...)
	}
	if _, err := rotate(); err != nil { // the first time there is nothing that uses anything
		t.Fatal(err)
	}
	w.use("one_app", "one_db_v3")
	w.use("two_app", "two_api_v1", "two_url_v3")
	if r, err := rotate(); err != nil || len(r.Deployed) != 0 {
		t.Fatalf("with nothing new: %v, %v", r.Deployed, err)
	}

	w.edit("op://v/api/token", "new", "api", 2)
	if r, err := rotate("one"); err != nil || len(r.Deployed) != 0 {
		t.Errorf("another stack's: %v, %v", r.Deployed, err)
	}
	d.fails = 1
	if r, err := rotate(); err == nil || !strings.Contains(err.Error(), "deploy stack two: unhealthy") || len(r.Deployed) != 0 {
		t.Errorf("when it fails: %v, %v", r.Deployed, err)
	}
	r, err := rotate()
	if err != nil || !slices.Equal(r.Deployed, []stack.Name{"two"}) || !mounted(&w.services[1].Spec)["two_api_v2"] {
		t.Errorf("again: %v, %v, two_app uses %v", r.Deployed, err, mounted(&w.services[1].Spec))
	}
	if r, err := rotate(); err != nil || len(r.Deployed) != 0 {
		t.Errorf("once more: %v, %v", r.Deployed, err)
	}
}
