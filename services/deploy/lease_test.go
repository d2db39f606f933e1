package deploy

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
)

func TestTwoDeployers(t *testing.T) { synctest.Test(t, testTwoDeployers) }

func testTwoDeployers(t *testing.T) {
	f := newFake()
	var group sync.WaitGroup
	errs := make([]error, 2)
	for i, text := range []string{appV1, appV2} {
		group.Go(func() { _, errs[i] = Deploy(t.Context(), f, project(t, text), quick()) })
	}
	group.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, ErrLocked) {
			t.Error(err)
		}
	}
	// Whoever came last, the Swarm is one or the other, whole.
	one, _ := Compare(project(t, appV1), f.state, Scope{})
	two, _ := Compare(project(t, appV2), f.state, Scope{})
	if one.Empty() == two.Empty() {
		t.Errorf("the Swarm is neither: %q", f.writes)
	}
}

func TestTheLeaseKeepsOthersOut(t *testing.T) { synctest.Test(t, testTheLeaseKeepsOthersOut) }

func testTheLeaseKeepsOthersOut(t *testing.T) {
	f := newFake()
	p := &patient{engine: f, patience: time.Second}
	const term = 200 * time.Millisecond
	held, first, err := acquire(t.Context(), p, term, "first", time.Now, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := acquire(t.Context(), p, term, "second", time.Now, func(string) {}); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "first") {
		t.Fatalf("got %v", err)
	}
	// Its holder dies: no renewal comes any more.
	first.stop()
	<-first.done
	_, second, err := acquire(t.Context(), p, term, "second", time.Now, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	// A holder that comes back too late finds out and keeps its hands off.
	if err := first.renew(t.Context(), first.labels()); !errors.Is(err, ErrChanged) {
		t.Errorf("got %v", err)
	}
	if held.Err() != nil {
		t.Error("the first context ended early")
	}
	if err := first.release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, ok := f.state.config(leaseName); !ok {
		t.Error("the first took the lease of the second away")
	}
	if err := second.release(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestALostLeaseStopsTheDeploy(t *testing.T) { synctest.Test(t, testALostLeaseStopsTheDeploy) }

func testALostLeaseStopsTheDeploy(t *testing.T) {
	f := newFake()
	p := &patient{engine: f, patience: time.Second}
	held, l, err := acquire(t.Context(), p, 100*time.Millisecond, "first", time.Now, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	defer l.stop()
	f.mu.Lock()
	f.state.Configs[0].Version = f.next() // somebody took it over
	f.mu.Unlock()
	select {
	case <-held.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("it went on")
	}
	if cause := context.Cause(held); !errors.Is(cause, ErrLeaseLost) {
		t.Errorf("got %v", cause)
	}
}

// What was taken by a call that failed for the deployer is given back: nobody
// waits a term for it.
func TestALeaseThatIsTakenInVainIsGivenBack(t *testing.T) {
	for _, takesOver := range []bool{false, true} {
		for _, lost := range []string{"the reply", "the look after it"} {
			f := newFake()
			p := &patient{engine: f, patience: time.Nanosecond}
			write := "create config " + leaseName
			if takesOver {
				write = "update config " + leaseName
				_, first, err := acquire(t.Context(), p, 100*time.Millisecond, "first", time.Now, func(string) {})
				if err != nil {
					t.Fatal(err)
				}
				first.stop()
				<-first.done
			}
			wrote, failed := false, false
			f.fault = func(call string, after bool) error {
				wrote = wrote || call == write && after
				if !wrote || failed || lost == "the look after it" && call != "configs" {
					return nil
				}
				failed = true
				return errdefs.ErrPermissionDenied
			}
			if _, _, err := acquire(t.Context(), p, 100*time.Millisecond, "second", time.Now, func(string) {}); !errdefs.IsPermissionDenied(err) {
				t.Fatalf("taking over %v, without %s: got %v", takesOver, lost, err)
			}
			if c, ok := f.state.config(leaseName); ok {
				t.Errorf("taking over %v, without %s: the lease is left to %v", takesOver, lost, c.Spec.Labels[labelHolder])
			}
		}
	}
}

// A renewal whose reply is lost was carried out all the same; the lease is
// given back, at whatever version it is.
func TestALeaseIsGivenBackDuringARenewal(t *testing.T) {
	synctest.Test(t, testALeaseIsGivenBackDuringARenewal)
}

func testALeaseIsGivenBackDuringARenewal(t *testing.T) {
	f := newFake()
	p := &patient{engine: f, patience: time.Minute}
	renewed := make(chan struct{})
	first := true
	f.fault = func(call string, after bool) error {
		switch {
		case call != "update config "+leaseName, first && !after:
			return nil
		case first:
			first = false
			close(renewed)
		}
		return errdefs.ErrUnavailable
	}
	_, l, err := acquire(t.Context(), p, 100*time.Millisecond, "first", time.Now, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-renewed:
	case <-time.After(time.Minute):
		t.Fatal("the lease is not renewed")
	}
	if err := l.release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c, ok := f.state.config(leaseName); ok {
		t.Errorf("the lease is left: %v", c.Spec.Labels)
	}
}
