package dispatch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"skep/services/controlplane"
)

// The engine's client ignores contexts and comes back with an error after half
// a minute. All that comes in meanwhile is dispatched when the engine is there
// again, in the order in which it came.
func TestEngineAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, e := newOutbox(3), newEngine()
		e.set(func(controlplane.Run) error {
			time.Sleep(31 * time.Second)
			return errEngine
		})
		stop := run(t, o, e, o.wake)
		for i := range 20 {
			for source := int64(1); source <= 3; source++ {
				o.push(t, source, ids(i, i+1)[0])
			}
			time.Sleep(15 * time.Second)
		}
		synctest.Wait()
		if n := o.count(controlplane.DeliveryStored); n != 60 || len(e.runs()) != 0 {
			t.Fatalf("%d wait, %d runs", n, len(e.runs()))
		}
		e.set(nil)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		for source := int64(1); source <= 3; source++ {
			if got := e.order(source); !slices.Equal(got, ids(0, 20)) {
				t.Errorf("source %d: %v", source, got)
			}
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// One run whose start never comes back holds up its own source alone, with one
// call.
func TestStartThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, e := newOutbox(2), newEngine()
		hang := make(chan struct{})
		e.set(func(r controlplane.Run) error {
			if strings.HasPrefix(r.Key, "delivery/1/") {
				<-hang
			}
			return nil
		})
		stop := run(t, o, e, o.wake)
		o.push(t, 1, "000000")
		o.push(t, 1, "000001")
		for i := range 10 {
			time.Sleep(time.Minute)
			o.push(t, 2, ids(i, i+1)[0])
		}
		synctest.Wait()
		if got := e.order(2); !slices.Equal(got, ids(0, 10)) {
			t.Errorf("the other source: %v", got)
		}
		if e.calls() != 11 || o.row(0).Attempts < 10 || o.row(1).Attempts != 0 {
			t.Errorf("asked %d times, after %d attempts, %d of the next", e.calls(), o.row(0).Attempts, o.row(1).Attempts)
		}
		close(hang)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := e.order(1); !slices.Equal(got, ids(0, 2)) {
			t.Errorf("after that: %v", got)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// Sources that hang do not take all places: each is waited for once, and then
// looked at now and then.
func TestManyStartsThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hanging = maxCalls - 2
		o, e := newOutbox(hanging+1), newEngine()
		hang := make(chan struct{})
		e.set(func(r controlplane.Run) error {
			if !strings.HasPrefix(r.Key, fmt.Sprintf("delivery/%d/", hanging+1)) {
				<-hang
			}
			return nil
		})
		stop := run(t, o, e, o.wake)
		for source := range int64(hanging) {
			o.push(t, source+1, "000000")
		}
		time.Sleep(5 * time.Minute)
		for i := range 20 {
			o.push(t, hanging+1, ids(i, i+1)[0])
			time.Sleep(4 * time.Second)
			synctest.Wait()
			if got := e.order(hanging + 1); len(got) != i+1 {
				t.Fatalf("after %d deliveries %d were started", i+1, len(got))
			}
		}
		close(hang)
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// However many sources hang, the calls are bounded; what never comes back is
// told at the end.
func TestCallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, e := newOutbox(100), newEngine()
		hang := make(chan struct{})
		e.set(func(controlplane.Run) error {
			<-hang
			return nil
		})
		stop := run(t, o, e, o.wake)
		for source := range int64(100) {
			o.push(t, source+1, "000000")
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if e.calls() != maxCalls {
			t.Errorf("%d calls", e.calls())
		}
		if err := stop(); err == nil || !strings.Contains(err.Error(), "32 starts") {
			t.Errorf("the end: %v", err)
		}
		close(hang)
	})
}

// A run that the engine will never take does not hold up its source.
func TestRunThatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, e := newOutbox(1), newEngine()
		e.set(func(r controlplane.Run) error {
			if strings.HasSuffix(r.Key, "000000") {
				return fmt.Errorf("input %s: %w", strings.Repeat("x", 5000), controlplane.ErrInvalid)
			}
			return nil
		})
		stop := run(t, o, e, o.wake)
		o.push(t, 1, "000000")
		o.push(t, 1, "000001")
		synctest.Wait()
		if r := o.row(0); r.State != controlplane.DeliveryFailed || len(r.Error) > maxReason+10 {
			t.Errorf("%s, an error of %d bytes", r.State, len(r.Error))
		}
		if got := e.order(1); !slices.Equal(got, ids(1, 2)) {
			t.Errorf("%v", got)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestStoreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, e := newOutbox(1), newEngine()
		stop := run(t, o, e, o.wake)
		o.push(t, 1, "000000")
		synctest.Wait()
		o.setAway(errEngine)
		o.wake <- struct{}{}
		time.Sleep(time.Minute)
		o.setAway(nil)
		o.push(t, 1, "000001")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := e.order(1); !slices.Equal(got, ids(0, 2)) {
			t.Errorf("%v", got)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// mortal is a store as a process sees it that is killed at a point: nothing it
// does from then on happens.
type mortal struct {
	*outbox
	dead   atomic.Bool
	before bool // killed before the start; else after it
}

func (m *mortal) SourceByID(ctx context.Context, id int64) (controlplane.Source, error) {
	if m.before {
		m.dead.Store(true)
	}
	if m.dead.Load() {
		return controlplane.Source{}, errEngine
	}
	return m.outbox.SourceByID(ctx, id)
}

func (m *mortal) Dispatched(context.Context, int64, controlplane.RunID) error {
	m.dead.Store(true)
	return errEngine
}

func (m *mortal) Claim(ctx context.Context, limit int) ([]controlplane.Delivery, error) {
	if m.dead.Load() {
		return nil, errEngine
	}
	return m.outbox.Claim(ctx, limit)
}

func (m *mortal) Later(context.Context, int64, time.Duration, string) error { return errEngine }
func (m *mortal) Release(context.Context, []int64) error                    { return errEngine }

// A dispatcher that dies between two steps leaves its deliveries to another
// one: none is lost, each is started once, and in order.
func TestKilled(t *testing.T) {
	for name, before := range map[string]bool{"between claim and start": true, "between start and settling": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o, e := newOutbox(1), newEngine()
				for _, id := range ids(0, 5) {
					o.push(t, 1, id)
				}
				first := &mortal{outbox: o, before: before}
				stop := run(t, first, e, nil)
				synctest.Wait()
				if !first.dead.Load() {
					t.Fatal("it lives")
				}
				if err := stop(); err != nil {
					t.Error(err)
				}
				stop = run(t, o, e, o.wake)
				synctest.Wait()
				if got := o.count(controlplane.DeliveryStored); got != 5 {
					t.Fatalf("%d wait: the lease was not kept", got)
				}
				time.Sleep(lease + 2*time.Second)
				synctest.Wait()
				if got := e.order(1); !slices.Equal(got, ids(0, 5)) || o.count(controlplane.DeliveryDispatched) != 5 {
					t.Errorf("%v", got)
				}
				if want := map[bool]int{true: 5, false: 6}[before]; e.calls() != want {
					t.Errorf("asked %d times, want %d", e.calls(), want)
				}
				if err := stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Who is told to stop ends what it is at and gives the rest back at once.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, e := newOutbox(1), newEngine()
		e.set(func(controlplane.Run) error {
			time.Sleep(3 * time.Second)
			return nil
		})
		for _, id := range ids(0, 4) {
			o.push(t, 1, id)
		}
		stop := run(t, o, e, nil)
		synctest.Wait()
		if err := stop(); err != nil {
			t.Error(err)
		}
		if o.count(controlplane.DeliveryDispatched) != 1 || o.givenBack() != 3 || o.row(1).Attempts != 0 {
			t.Errorf("%d dispatched, %d given back", o.count(controlplane.DeliveryDispatched), o.givenBack())
		}
	})
}

// Deliveries that take long are given back before the lease ends: two
// dispatchers never have one source.
func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, e := newOutbox(1), newEngine()
		var under atomic.Int32
		e.set(func(controlplane.Run) error {
			if under.Add(1) > 1 {
				t.Error("two at once")
			}
			time.Sleep(9 * time.Second)
			under.Add(-1)
			return nil
		})
		for _, id := range ids(0, 20) {
			o.push(t, 1, id)
		}
		first, second := run(t, o, e, nil), run(t, o, e, nil)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if got := e.order(1); !slices.Equal(got, ids(0, 20)) || e.calls() != 20 || o.givenBack() == 0 {
			t.Errorf("%v, asked %d times, %d given back", got, e.calls(), o.givenBack())
		}
		if err := first(); err != nil {
			t.Error(err)
		}
		if err := second(); err != nil {
			t.Error(err)
		}
	})
}
