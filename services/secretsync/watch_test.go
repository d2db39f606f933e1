package secretsync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"skep/generator/stack"
	"skep/secrets"
)

// deployer makes the services of a stack use what is wanted.
type deployer struct {
	mu    sync.Mutex
	w     *world
	calls []string
	fails int
	busy  int
	takes time.Duration
}

// made are the deploys until now.
func (d *deployer) made() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.calls)
}

func (d *deployer) Deploy(ctx context.Context, stacks []stack.Name) error {
	select {
	case <-time.After(d.takes):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, fmt.Sprintf("%v", stacks))
	if d.busy > 0 {
		d.busy--
		return fmt.Errorf("%w by somebody", ErrBusy)
	}
	if d.fails > 0 {
		d.fails--
		return errors.New("unhealthy")
	}
	wanted, err := d.w.project.Secrets(d.w.lock)
	for _, s := range stacks {
		var names []string
		for _, w := range wanted {
			if w.Stack == s {
				names = append(names, w.Name)
			}
		}
		d.w.use(string(s)+"_app", names...)
	}
	return err
}

func watching(t *testing.T, w *world, d *deployer, body func(log *bytes.Buffer)) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		watcher := &Watcher{
			Syncer: w.Syncer, Deployer: d, Interval: 20 * time.Second, Prune: true,
			Open: func(context.Context) (Project, error) { return w.project, nil },
			Log:  slog.New(slog.NewTextHandler(&log, nil)),
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- watcher.Run(ctx) }()
		synctest.Wait()
		body(&log)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestWatchRotatesWithinAMinute(t *testing.T) {
	w := newWorld(Versioned)
	d := &deployer{w: w}
	watching(t, w, d, func(*bytes.Buffer) {
		w.use("one_app", "one_db_v3")
		w.use("two_app", "two_api_v1", "two_url_v3")
		w.edit("op://v/api/token", "new", "api", 2)
		time.Sleep(time.Minute)
		synctest.Wait()
		if !slices.Equal(d.made(), []string{"[two]"}) || !mounted(&w.services[1].Spec)["two_api_v2"] {
			t.Errorf("deployed %q, two_app uses %v", d.made(), mounted(&w.services[1].Spec))
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if len(d.made()) != 1 {
			t.Errorf("deployed again: %q", d.made())
		}
	})
}

func TestWatchSettlesWithTheSameTextTwice(t *testing.T) {
	w := newWorld(Versioned)
	w.templates["two/url2"] = w.templates["two/url"]
	d := &deployer{w: w}
	watching(t, w, d, func(*bytes.Buffer) {
		w.use("two_app", "two_api_v1", "two_url2_v3", "two_url_v3")
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(d.made()) != 0 {
			t.Errorf("deployed %q, and nothing changed", d.made())
		}
		w.edit("op://v/db/password", "new", "db", 4)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if !slices.Equal(d.made(), []string{"[two]"}) {
			t.Errorf("deployed %q after one change", d.made())
		}
	})
}

func TestWatchOutlivesASourceThatHangs(t *testing.T) {
	w := newWorld(Versioned)
	d := &deployer{w: w}
	watching(t, w, d, func(log *bytes.Buffer) {
		w.use("one_app", "one_db_v3")
		w.shelf.mu.Lock()
		w.hangs = true
		w.shelf.mu.Unlock()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := strings.Count(log.String(), errSlowTurn.Error()); n != 1 {
			t.Errorf("the log says %d times that a turn took too long:\n%s", n, log)
		}
		w.shelf.mu.Lock()
		w.hangs = false
		w.shelf.mu.Unlock()
		w.edit("op://v/db/password", "new", "db", 4)
		time.Sleep(turnTime + time.Minute)
		synctest.Wait()
		if !slices.Equal(d.made(), []string{"[one]"}) {
			t.Errorf("deployed %q", d.made())
		}
	})
}

func TestWatchOutlivesTheSource(t *testing.T) {
	w := newWorld(Versioned)
	d := &deployer{w: w}
	watching(t, w, d, func(log *bytes.Buffer) {
		w.use("one_app", "one_db_v3")
		w.shelf.mu.Lock()
		w.down = secrets.ErrUnavailable
		w.shelf.mu.Unlock()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := strings.Count(log.String(), "source unavailable"); n != 3 { // one for each secret, once
			t.Errorf("the log says %d times that the source is away:\n%s", n, log)
		}
		w.shelf.mu.Lock()
		w.down = nil
		w.shelf.mu.Unlock()
		w.edit("op://v/db/password", "new", "db", 4)
		time.Sleep(time.Minute)
		synctest.Wait()
		if !slices.Equal(d.made(), []string{"[one]"}) {
			t.Errorf("deployed %q", d.made())
		}
	})
}

func TestWatchDoesNotHammerAFailingDeploy(t *testing.T) {
	w := newWorld(Versioned)
	d := &deployer{w: w, fails: 1000}
	watching(t, w, d, func(*bytes.Buffer) {
		w.use("one_app", "one_db_v3")
		w.edit("op://v/db/password", "bad", "db", 4)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := len(d.made()); n < 3 || n > 5 { // after 0, 1, 3, 7 minutes
			t.Errorf("tried %d times in ten minutes", n)
		}
		// Another change is tried at once.
		d.mu.Lock()
		d.fails = 0
		d.mu.Unlock()
		w.edit("op://v/db/password", "good", "db", 5)
		before := len(d.made())
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(d.made()) != before+1 || !mounted(&w.services[0].Spec)["one_db_v5"] {
			t.Errorf("tried %d times, one_app uses %v", len(d.made())-before, mounted(&w.services[0].Spec))
		}
	})
}

// Somebody else's deploy is waited for from turn to turn: nothing was tried.
func TestWatchWaitsForAnotherDeploy(t *testing.T) {
	w := newWorld(Versioned)
	d := &deployer{w: w, busy: 5}
	watching(t, w, d, func(log *bytes.Buffer) {
		w.use("one_app", "one_db_v3")
		w.edit("op://v/db/password", "new", "db", 4)
		time.Sleep(2*time.Minute + time.Second)
		synctest.Wait()
		if n := len(d.made()); n != 6 || !mounted(&w.services[0].Spec)["one_db_v4"] {
			t.Errorf("tried %d times in two minutes, one_app uses %v", n, mounted(&w.services[0].Spec))
		}
		if n := strings.Count(log.String(), "another deploy is under way by somebody"); n != 1 {
			t.Errorf("the log says %d times that another deploy is under way:\n%s", n, log)
		}
	})
}

// The limit of a turn is not that of a deploy.
func TestWatchLeavesADeployItsTime(t *testing.T) {
	w := newWorld(Versioned)
	d := &deployer{w: w, takes: 3 * turnTime}
	watching(t, w, d, func(log *bytes.Buffer) {
		w.use("one_app", "one_db_v3")
		w.edit("op://v/db/password", "new", "db", 4)
		time.Sleep(4 * turnTime)
		synctest.Wait()
		if !slices.Equal(d.made(), []string{"[one]"}) {
			t.Errorf("deployed %q, the log says\n%s", d.made(), log)
		}
	})
}

func TestWatchSaysWhatTheLockLoses(t *testing.T) {
	w := newWorld(Versioned)
	w.sync(t)
	delete(w.templates, "two/api")
	watching(t, w, &deployer{w: w}, func(log *bytes.Buffer) {
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := strings.Count(log.String(), "dropped=op://v/api/token"); n != 1 {
			t.Errorf("the log says it %d times:\n%s", n, log)
		}
	})
}
