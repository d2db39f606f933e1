package worker

import (
	"slices"
	"strings"
	"testing"

	"skep/services/controlplane"
)

// A plan has the versions of the Swarm, whatever lock is committed; one that does
// not read the store has those of the lock.
func TestPlansLock(t *testing.T) {
	const committed = "references:\n  op://v/i/f: 5\n"
	for name, c := range map[string]struct {
		change func(*world)
		steps  []string
		lock   string
		end    string
	}{
		"committed": {func(w *world) { w.tree["stacks/secrets.lock"] = committed }, []string{"check", "lock", "plan"}, "op://v/i/f: 6\n", "succeeded"},
		"none":      {func(*world) {}, []string{"check", "lock", "plan"}, "op://v/i/f: 6\n", "succeeded"},
		"no store": {func(w *world) {
			w.tree["stacks/secrets.lock"] = committed
			w.storeless = true
		}, []string{"check", "plan"}, committed, "succeeded"},
		"no Swarm": {func(w *world) { w.exits["lock"] = Exit{Code: 1} }, []string{"check", "lock"}, "", "failed: skep secrets lock: exit code 1"},
		"no answer": {func(w *world) { w.exits["lock"] = Exit{Answer: []byte("[redacted]")} }, []string{"check", "lock"}, "",
			"failed: skep secrets lock: it ended well, but its answer is not what this worker reads: have jobs run the skep of the worker's own version"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(controlplane.RunPlan, pull(false))
			c.change(w)
			if err := w.handle(t); err != nil {
				t.Fatal(err)
			}
			if got := w.steps(); !slices.Equal(got, c.steps) || !slices.Equal(w.finished, []string{c.end}) {
				t.Errorf("steps %q, finished %q", got, w.finished)
			}
			if !strings.HasSuffix(w.lock, c.lock) {
				t.Errorf("the last job's lock is %q", w.lock)
			}
			for _, j := range w.jobs {
				if len(j.Secrets) > 0 || j.Env["OP_CONNECT_HOST"] != "" {
					t.Errorf("%s gets secrets", j.Step)
				}
			}
		})
	}
}

// What an answer says is shown with the worker's secrets masked, and taken as
// it is: a secret may be a word of it.
func TestAnswersAreMaskedWhereTheyAreShown(t *testing.T) {
	w := newWorld(controlplane.RunDeploy, push()) // with the secret "planted"
	w.exits["secrets"] = Exit{Answer: []byte(`{"locked":{"op://planted/i/f":"7"}}`)}
	if err := w.handle(t); err != nil || !strings.Contains(w.lock, "op://planted/i/f: 7") {
		t.Errorf("the deploy has the lock %q, %v", w.lock, err)
	}
	for _, j := range w.jobs {
		if want := j.Step != "deploy"; j.Answer != want {
			t.Errorf("the answer of %s is wanted: %v", j.Step, j.Answer)
		}
	}
	w = newWorld(controlplane.RunDeploy, push())
	w.exits["secrets"] = Exit{Code: 1, Answer: []byte(`{"actions":[{"kind":"failed","name":"b_v1","why":"no access with planted"}]}`)}
	if err := w.handle(t); err != nil || !slices.Equal(w.finished, []string{"failed: skep secrets sync: b_v1: no access with [redacted]"}) {
		t.Errorf("finished %q, %v", w.finished, err)
	}
}
