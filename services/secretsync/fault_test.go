package secretsync

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
)

func TestFailedCreateKeepsTheOldVersion(t *testing.T) {
	w := newWorld(Versioned)
	w.sync(t)
	lock := maps.Clone(w.lock)
	w.edit("op://v/db/password", "new", "db", 4)
	w.engine.fail = func(call string) error {
		if call == "create one_db_v4" {
			return errdefs.ErrInvalidArgument
		}
		return nil
	}
	expect(t, "failed", says(w.sync(t)), "used one_db_v3, failed one_db_v4, keep two_api_v1, used two_url_v3, create two_url_v4")
	if !maps.Equal(lock, w.lock) {
		t.Errorf("the lock moved to %v", w.lock)
	}
	w.engine.fail = nil
	expect(t, "again", says(w.sync(t)), "prune one_db_v3, create one_db_v4, keep two_api_v1, prune two_url_v3, keep two_url_v4")
}

func TestErrorsHoldNoValue(t *testing.T) {
	for name, quote := range map[string]string{"plain": "t0ken", "as it was sent": base64.StdEncoding.EncodeToString([]byte("t0ken"))} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(Versioned)
			w.engine.fail = func(call string) error {
				if call == "create two_api_v1" {
					return fmt.Errorf("%w: cannot read {Data: %q}", errdefs.ErrInvalidArgument, quote)
				}
				return nil
			}
			why := w.sync(t).Of(Failed)[0].Why
			if strings.Contains(why, quote) || !strings.Contains(why, "the engine refused it") {
				t.Errorf("why %q", why)
			}
		})
	}
}

func TestItemMovesWhileItIsRead(t *testing.T) {
	w := newWorld(Versioned)
	w.moves = true
	done := w.sync(t)
	expect(t, "moved", says(done), "failed one_db_v3, create two_api_v1, failed two_url_v3")
	if !strings.Contains(done.Actions[0].Why, ErrMoved.Error()) {
		t.Errorf("why %q", done.Actions[0].Why)
	}
}

func TestItemIsReplacedWhileItIsRead(t *testing.T) {
	w := newWorld(Versioned)
	w.replaced = true
	done := w.sync(t)
	expect(t, "replaced", says(done), "failed one_db_v3, failed two_api_v1, failed two_url_v3")
	if !strings.Contains(done.Actions[0].Why, ErrMoved.Error()) || len(w.engine.secrets) != 0 {
		t.Errorf("why %q, %d secrets", done.Actions[0].Why, len(w.engine.secrets))
	}
}

// refusedConnection is what a client says that reaches nobody.
type refusedConnection struct{ error }

func (r refusedConnection) Unwrap() error        { return r.error }
func (refusedConnection) ConnectionFailed() bool { return true }

// Where nobody ever answered the address is wrong; a manager that was there is
// waited for.
func TestAWrongAddressIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(Versioned)
		refused := refusedConnection{errdefs.ErrUnavailable}
		began := time.Now()
		w.engine.fail = func(string) error { return refused }
		if _, err := w.Syncer.Plan(t.Context(), w.project); !errors.Is(err, refused) || time.Since(began) > 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		w.engine.fail = nil
		w.sync(t)
		back := time.Now().Add(30 * time.Second)
		w.engine.fail = func(string) error {
			if time.Now().Before(back) {
				return refused
			}
			return nil
		}
		expect(t, "it came back", says(w.sync(t)), "keep one_db_v3, keep two_api_v1, keep two_url_v3")
	})
}

func TestLostReplyIsNoSecondSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(Versioned)
		w.lose = true
		expect(t, "lost", says(w.sync(t)), "create one_db_v3, create two_api_v1, create two_url_v3")
		if len(w.engine.secrets) != 3 {
			t.Errorf("%d secrets", len(w.engine.secrets))
		}
	})
}

func TestLeaderlessSwarmIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(Versioned)
		back := time.Now().Add(30 * time.Second)
		w.engine.fail = func(string) error {
			if time.Now().Before(back) {
				return errdefs.ErrUnavailable
			}
			return nil
		}
		expect(t, "waited", says(w.sync(t)), "create one_db_v3, create two_api_v1, create two_url_v3")
	})
}

func TestLockThatCannotBeWritten(t *testing.T) {
	w := newWorld(Versioned)
	w.sync(t)
	w.edit("op://v/db/password", "new", "db", 4)
	w.full = errors.New("disk full")
	plan, err := w.Syncer.Plan(t.Context(), w.project)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Apply(t.Context(), w.project, plan, true); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("got %v", err)
	}
	if _, ok := w.values()["one_db_v3"]; !ok {
		t.Error("what the old lock names was pruned")
	}
}

// A sync that ends at any call of the Swarm, or at the lock, is finished by the
// next one, and no service ever lacks what it mounts.
func TestKilledAtEveryStep(t *testing.T) {
	for steps := 0; ; steps++ {
		w := newWorld(Versioned)
		w.sync(t)
		w.use("one_app", "one_db_v3")
		w.use("two_app", "two_api_v1", "two_url_v3")
		w.edit("op://v/db/password", "new", "db", 4)
		w.edit("op://v/api/token", "newer", "api", 2)
		left := steps
		killed := errors.New("killed")
		dead := func() error {
			if left--; left < 0 {
				return killed
			}
			return nil
		}
		w.engine.fail = func(string) error { return dead() }
		w.saving = dead
		if plan, err := w.Syncer.Plan(t.Context(), w.project); err == nil {
			_, _ = w.Apply(t.Context(), w.project, plan, true)
		}
		for _, s := range w.services {
			for name := range mounted(&s.Spec) {
				if _, ok := w.values()[name]; !ok {
					t.Errorf("after %d steps %s lacks %s", steps, s.Spec.Name, name)
				}
			}
		}
		wanted, err := w.project.Secrets(w.lock)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range wanted {
			if _, ok := w.values()[s.Name]; !ok {
				t.Errorf("after %d steps the lock asks for %s, which is not there", steps, s.Name)
			}
		}
		finished := left >= 0
		w.engine.fail, w.saving = nil, nil
		w.sync(t)
		if done := w.sync(t); done.Changes() || len(done.Of(Failed)) > 0 {
			t.Errorf("after %d steps it does not settle: %s", steps, says(done))
		}
		if got := w.values(); got["one_db_v4"] != "new" || got["two_url_v4"] != "db:new" || got["two_api_v2"] != "newer" {
			t.Errorf("after %d steps the values are %v", steps, got)
		}
		if finished {
			if steps < 7 { // three lists, three secrets, the lock
				t.Errorf("a whole sync takes %d steps", steps)
			}
			return
		}
	}
}
