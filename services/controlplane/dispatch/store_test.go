package dispatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"skep/internal/postgrestest"
	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/store"
)

// database is the real store.
type database struct{ *store.Store }

var _ Store = (*store.Store)(nil)

// newDatabase has sources 1 to n, and the project of newOutbox.
func newDatabase(t testing.TB, n int) database {
	t.Helper()
	dsn := postgrestest.Start(t).Database(t)
	if err := store.Migrate(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	keys := store.Keys{Current: "k", All: map[store.KeyID]secrets.Value{"k": secrets.NewValue([]byte(strings.Repeat("0f", 32)))}}
	s, err := store.Open(t.Context(), dsn, keys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if _, err := s.PutIntegration(t.Context(), controlplane.Integration{Provider: controlplane.GitHub, Name: "main"}, nil); err != nil {
		t.Fatal(err)
	}
	fake := newOutbox(n)
	for i := range n {
		in := fake.sources[int64(i+1)]
		in.ID = 0
		if out, err := s.PutSource(t.Context(), in); err != nil || out.ID != int64(i+1) {
			t.Fatal(out.ID, err)
		}
	}
	if _, err := s.PutProject(t.Context(), fake.projects[0]); err != nil {
		t.Fatal(err)
	}
	return database{s}
}

// listen wakes the channel whenever the database says so.
func (d database) listen(t testing.TB) <-chan struct{} {
	wake := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	var down sync.WaitGroup
	down.Go(func() {
		err := d.ListenDeliveries(ctx, func() {
			select {
			case wake <- struct{}{}:
			default:
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		down.Wait()
	})
	return wake
}

func (d database) add(ctx context.Context, source int64, id string) (int64, error) {
	n, _, err := d.Add(ctx, controlplane.Delivery{
		Source: source, Provider: controlplane.GitHub, Event: "push", Delivery: controlplane.DeliveryID(id), Body: []byte(pushBody("acme/cluster")),
	})
	return n, err
}

// The same rules as the fake's, on PostgreSQL: two dispatchers, replays, an
// engine that fails now and then, and each delivery once, in order.
func TestDatabase(t *testing.T) {
	const sources, each = 4, 100
	d, e := newDatabase(t, sources), newEngine()
	e.set(func(controlplane.Run) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.asked%150 == 0 {
			return errEngine
		}
		return nil
	})
	stops := []func() error{run(t, d, e, d.listen(t)), run(t, d, e, d.listen(t))}
	var senders sync.WaitGroup
	for source := range int64(sources) {
		senders.Go(func() {
			for _, id := range ids(0, each) {
				first, err := d.add(t.Context(), source+1, id)
				if err != nil {
					t.Error(err)
				}
				if again, err := d.add(t.Context(), source+1, id); err != nil || again != first {
					t.Errorf("again: %d, %v", again, err)
				}
			}
		})
	}
	senders.Wait()
	waitFor(t, func() bool {
		n, _, err := d.Backlog(t.Context())
		return err == nil && n == 0
	})
	for _, stop := range stops {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
	for source := range int64(sources) {
		if got := e.order(source + 1); !slices.Equal(got, ids(0, each)) {
			t.Errorf("source %d: %v", source+1, got)
		}
	}
	found, _, err := d.ListDeliveries(t.Context(), store.DeliveryFilter{State: controlplane.DeliveryDispatched}, store.Page{Limit: 1000})
	if err != nil || len(found) != sources*each {
		t.Errorf("%d are dispatched, %v", len(found), err)
	}
	for _, f := range found {
		if f.Run == "" {
			t.Errorf("delivery %d has no run", f.ID)
		}
	}
}

// BenchmarkDispatch measures from the insert's end to the start of the run, one
// delivery at a time: what the outbox adds.
func BenchmarkDispatch(b *testing.B) {
	d, e := newDatabase(b, 1), newEngine()
	started := make(chan time.Time, 1)
	e.set(func(controlplane.Run) error {
		started <- time.Now()
		return nil
	})
	stop := run(b, d, e, d.listen(b))
	var took []time.Duration
	b.ResetTimer()
	for i := range b.N {
		if _, err := d.add(b.Context(), 1, fmt.Sprint("bench-", i)); err != nil {
			b.Fatal(err)
		}
		stored := time.Now()
		took = append(took, (<-started).Sub(stored))
	}
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	if err := stop(); err != nil {
		b.Error(err)
	}
}
