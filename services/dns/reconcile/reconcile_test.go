package reconcile

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"skep/networks"
	"skep/services/dns"
)

// memory is a provider that may be away, or hang.
type memory struct {
	mu      sync.Mutex
	records []dns.Live
	away    bool
	hang    chan struct{} // List waits for it, if set
	lists   int
}

func (*memory) Traits() dns.Traits { return dns.Traits{} }

func (m *memory) List(ctx context.Context) ([]dns.Live, error) {
	if m.hang != nil {
		select {
		case <-m.hang:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lists++
	if m.away {
		return nil, errors.New("away")
	}
	return append([]dns.Live(nil), m.records...), nil
}

func (m *memory) Apply(_ context.Context, c dns.Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.Old != nil {
		for i, l := range m.records {
			if l.Record == c.Old.Record {
				m.records = append(m.records[:i:i], m.records[i+1:]...)
				break
			}
		}
	}
	if c.Action != dns.Remove {
		record := c.Record
		record.Owner = ""
		m.records = append(m.records, dns.Live{Record: record, Mark: &c.Mark})
	}
	return nil
}

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.records)
}

// eventually looks again and again. In a synctest bubble, whose clock stands
// still while anything is done, it misses nothing that lasts.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after 20 s: %s", what)
		}
	}
}

func zones(names ...string) []dns.Zone {
	list := []networks.Zone{{Name: "a", Domain: "a.example.com"}, {Name: "b", Domain: "b.example.com"}, {Name: "served", Domain: "c.example.com"}}
	for i := range list {
		for _, n := range names {
			list[i].Records = append(list[i].Records, networks.Record{Name: n + "." + list[i].Domain, Type: networks.A, Content: "192.0.2.1"})
		}
	}
	return dns.Zones(list)
}

func fresh() bool { return false }

func start(t *testing.T, r *Reconciler) {
	t.Helper()
	r.Cluster, r.Log, r.Metrics = "homelab", slog.New(slog.NewTextHandler(io.Discard, nil)), NewMetrics(prometheus.NewRegistry())
	r.Share = 1
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestReconciler(t *testing.T) { synctest.Test(t, testReconciler) }

func testReconciler(t *testing.T) {
	stuck := &memory{hang: make(chan struct{})}
	well := &memory{}
	r := &Reconciler{Providers: map[string]dns.Provider{"a": stuck, "b": well}, Grace: time.Second, Resync: time.Hour}
	start(t, r)
	r.Want(zones("x", "y"), fresh)
	eventually(t, "one provider that hangs holds up the other", func() bool { return well.count() == 2 })
	r.Want(zones("x"), fresh)
	r.Want(zones("x", "y", "z"), fresh) // newer, while the other still hangs
	eventually(t, "the newest does not win", func() bool { return well.count() == 3 })
	close(stuck.hang)
	eventually(t, "the provider that was stuck", func() bool { return stuck.count() == 3 })
	r.Want(zones("x"), fresh)
	// Nothing more is said: it looks again by itself when the grace is over.
	eventually(t, "records outlive their grace", func() bool { return well.count() == 1 && stuck.count() == 1 })
	if s := r.Status()["b"]; s.Error != "" || s.Plan.Domain != "b.example.com" {
		t.Errorf("status %v", s)
	}
}

// Nothing goes by a list that may be out of date, and nothing is tried in vain
// until there is another.
func TestStale(t *testing.T) {
	p := &memory{}
	r := &Reconciler{Providers: map[string]dns.Provider{"a": p}, Grace: time.Second, Resync: time.Hour, Cluster: "homelab", Share: 1, Log: slog.New(slog.DiscardHandler)}
	run := func(want want) time.Duration {
		t.Helper()
		next, err := r.once(t.Context(), p, want)
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	stale := func() bool { return true }
	run(want{zones("x", "y")[0], fresh})
	if next := run(want{zones("x")[0], stale}); next != time.Hour || p.count() != 2 || len(r.Status()["a"].Plan.Waiting) != 1 {
		t.Errorf("looks again in %v, %d records, %v", next, p.count(), r.Status()["a"].Plan)
	}
	run(want{zones("x")[0], fresh}) // now it begins to go
	for i := range p.records {
		if m := p.records[i].Mark; !m.Gone.IsZero() {
			m.Gone = m.Gone.Add(-time.Hour) // and its grace is over
		}
	}
	if next := run(want{zones("x", "z")[0], stale}); next != time.Hour || p.count() != 3 {
		t.Errorf("looks again in %v, %d records", next, p.count())
	}
	run(want{zones("x", "z")[0], fresh})
	if p.count() != 2 {
		t.Errorf("%d records, want x and z", p.count())
	}
}

func TestProviderAway(t *testing.T) { synctest.Test(t, testProviderAway) }

func testProviderAway(t *testing.T) {
	p := &memory{away: true}
	r := &Reconciler{Providers: map[string]dns.Provider{"a": p}, Grace: time.Hour, Resync: time.Hour}
	start(t, r)
	r.Want(zones("x"), fresh)
	eventually(t, "the failure is in the status", func() bool { return r.Status()["a"].Error != "" })
	p.mu.Lock()
	p.away = false
	p.mu.Unlock()
	eventually(t, "it is not tried again", func() bool { return p.count() == 1 })
}

func TestDryRun(t *testing.T) { synctest.Test(t, testDryRun) }

func testDryRun(t *testing.T) {
	p := &memory{}
	r := &Reconciler{Providers: map[string]dns.Provider{"a": p}, DryRun: true, Resync: 10 * time.Millisecond}
	start(t, r)
	r.Want(zones("x"), fresh)
	eventually(t, "several runs", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.lists > 3
	})
	if p.count() != 0 || len(r.Status()["a"].Plan.Changes) != 1 {
		t.Errorf("%d records, status %v", p.count(), r.Status())
	}
}
