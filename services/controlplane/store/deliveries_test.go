package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"skep/internal/polltest"
	"skep/services/controlplane"
	"skep/services/controlplane/store"
)

func push(source int64, id string) controlplane.Delivery {
	return controlplane.Delivery{
		Source: source, Delivery: controlplane.DeliveryID(id), Event: "push", Body: []byte(`{"ref": "refs/heads/main"}`),
		Headers: map[string]string{"X-Github-Event": "push"},
	}
}

// add stores a delivery that must be fresh.
func add(t testing.TB, s *store.Store, d controlplane.Delivery) int64 {
	t.Helper()
	id, fresh, err := s.Add(t.Context(), d)
	if err != nil || !fresh {
		t.Fatalf("Add = fresh %v, %v", fresh, err)
	}
	return id
}

func ids(deliveries []controlplane.Delivery) []int64 {
	out := []int64{}
	for _, d := range deliveries {
		out = append(out, d.ID)
	}
	return out
}

// claim returns the ids that Claim gave.
func claim(t testing.TB, s *store.Store, limit int) []int64 {
	t.Helper()
	claimed, err := s.Claim(t.Context(), limit)
	if err != nil {
		t.Fatal(err)
	}
	return ids(claimed)
}

func TestAddOnce(t *testing.T) {
	s, dsn := newStore(t)
	source, other := newSource(t, s, "main"), newSource(t, s, "other")
	in := push(source, "guid-1")
	in.Body = []byte("not JSON, \x00\xff\r\n byte for byte")
	id := add(t, s, in)

	again := in
	again.Body = []byte("forged")
	if got, fresh, err := s.Add(t.Context(), again); got != id || fresh || err != nil {
		t.Errorf("a replay: %d, fresh %v, %v", got, fresh, err)
	}
	add(t, s, push(other, "guid-1")) // ids are those of a source
	got, err := s.Delivery(t.Context(), id)
	if err != nil || !bytes.Equal(got.Body, in.Body) || !maps.Equal(got.Headers, in.Headers) || got.Provider != controlplane.GitHub ||
		got.State != controlplane.DeliveryStored || got.Received.IsZero() {
		t.Errorf("Delivery = %+v, %v", got, err)
	}

	var fresh [16]bool
	var same [16]int64
	parallel(len(fresh), func(i int) {
		var err error
		if same[i], fresh[i], err = s.Add(t.Context(), push(source, "guid-2")); err != nil {
			t.Error(err)
		}
	})
	first := 0
	for i := range fresh {
		if fresh[i] {
			first++
		}
		if same[i] != same[0] {
			t.Errorf("one delivery has the ids %v", same)
		}
	}
	if first != 1 {
		t.Errorf("%d of %d deliveries at once were fresh, want 1", first, len(fresh))
	}
	if n := query[int64](t, dsn, "SELECT count(*) FROM delivery"); n[0] != 3 {
		t.Errorf("%d deliveries are stored, want 3", n[0])
	}
}

// The first copy is committed while the second one waits for it.
func TestReplayOfWhatIsBeingStored(t *testing.T) {
	s, dsn := newStore(t)
	source := newSource(t, s, "main")
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	first, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var want int64
	err = first.QueryRow(t.Context(), `INSERT INTO skep.delivery (source_id, delivery_id, event, body) VALUES ($1, 'guid', 'push', '') RETURNING id`, source).Scan(&want)
	if err != nil {
		t.Fatal(err)
	}
	var run controlplane.RunID
	err = first.QueryRow(t.Context(), `INSERT INTO skep.run (id, key, kind) VALUES (gen_random_uuid(), 'key', 'plan') RETURNING id`).Scan(&run)
	if err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	both.Go(func() {
		if id, fresh, err := s.Add(t.Context(), push(source, "guid")); id != want || fresh || err != nil {
			t.Errorf("Add = %d, fresh %v, %v; want %d", id, fresh, err, want)
		}
	})
	both.Go(func() {
		if id, created, err := s.Start(t.Context(), controlplane.Run{Key: "key", Kind: controlplane.RunPlan}); id != run || created || err != nil {
			t.Errorf("Start = %s, created %v, %v; want %s", id, created, err, run)
		}
	})
	polltest.Until(t, func() error {
		if n := query[int64](t, dsn, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"); n[0] != 2 {
			return fmt.Errorf("%d of 2 wait", n[0])
		}
		return nil
	})
	if err := first.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	both.Wait()
}

func TestAddRefuses(t *testing.T) {
	s, _ := newStore(t)
	source := newSource(t, s, "main")
	for name, change := range map[string]func(*controlplane.Delivery){
		"no id":       func(d *controlplane.Delivery) { d.Delivery = "" },
		"long id":     func(d *controlplane.Delivery) { d.Delivery = controlplane.DeliveryID(strings.Repeat("x", 201)) },
		"long event":  func(d *controlplane.Delivery) { d.Event = strings.Repeat("x", 201) },
		"zero byte":   func(d *controlplane.Delivery) { d.Event = "\x00" },
		"no UTF-8":    func(d *controlplane.Delivery) { d.Headers["X-Github-Event"] = "\xff" },
		"long header": func(d *controlplane.Delivery) { d.Headers["X-Github-Event"] = strings.Repeat("x", 8001) },
		"huge body":   func(d *controlplane.Delivery) { d.Body = make([]byte, store.MaxBody+1) },
	} {
		bad := push(source, "guid")
		change(&bad)
		if _, _, err := s.Add(t.Context(), bad); !errors.Is(err, controlplane.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := s.Add(t.Context(), push(source+1, "guid")); !errors.Is(err, controlplane.ErrNotFound) {
		t.Errorf("a delivery of no source: %v", err)
	}
}

func TestClaimInOrder(t *testing.T) {
	s, dsn := newStore(t)
	a, b := newSource(t, s, "a"), newSource(t, s, "b")
	var of [2][]int64
	for i := range 4 {
		of[0] = append(of[0], add(t, s, push(a, fmt.Sprint(i))))
	}
	for i := range 2 {
		of[1] = append(of[1], add(t, s, push(b, fmt.Sprint(i))))
	}
	if got, want := claim(t, s, 3), []int64{of[0][0], of[0][1], of[1][0]}; !slices.Equal(got, want) {
		t.Fatalf("Claim(3) = %v, want %v: each source has its turn", got, want)
	}
	if got := claim(t, s, 10); len(got) != 0 {
		t.Errorf("a second dispatcher got %v of sources that the first one has", got)
	}
	run := newRun(t, s, "key", "")
	if err := s.Dispatched(t.Context(), of[0][0], run); err != nil {
		t.Fatal(err)
	}
	if got := claim(t, s, 10); len(got) != 0 {
		t.Errorf("a second dispatcher got %v while the first is half-way", got)
	}

	// The second one cannot be dispatched now: the source waits for it.
	if err := s.Later(t.Context(), of[0][1], time.Hour, "the engine is away"); err != nil {
		t.Fatal(err)
	}
	if err := s.Ignored(t.Context(), of[1][0], "no project"); err != nil {
		t.Fatal(err)
	}
	if got, want := claim(t, s, 1), of[1][1:]; !slices.Equal(got, want) { // a source that waits takes nobody's place
		t.Errorf("Claim = %v, want %v", got, want)
	}
	if err := s.Later(t.Context(), of[0][1], -time.Second, "the engine is back"); err != nil {
		t.Fatal(err)
	}
	if got, want := claim(t, s, 10), of[0][1:]; !slices.Equal(got, want) {
		t.Errorf("Claim = %v, want %v", got, want)
	}
	if err := s.Release(t.Context(), of[0][1:]); err != nil {
		t.Fatal(err)
	}
	if got, want := claim(t, s, 1), of[0][1:2]; !slices.Equal(got, want) {
		t.Errorf("after Release: Claim = %v, want %v", got, want)
	}

	// A dispatcher that died is given up with its lease.
	expire(t, dsn)
	if got, want := claim(t, s, 10), slices.Concat(of[0][1:], of[1][1:]); !slices.Equal(got, want) {
		t.Errorf("after the lease: Claim = %v, want %v", got, want)
	}
	d, err := s.Delivery(t.Context(), of[0][1])
	if err != nil || d.Attempts != 3 {
		t.Errorf("%d attempts, %v; want the released one not to count", d.Attempts, err)
	}
}

// A delivery that got its id before others and is committed after they were
// claimed is claimed alone: those stay with the dispatcher that has them.
func TestClaimOfLatecomer(t *testing.T) {
	s, dsn := newStore(t)
	source := newSource(t, s, "main")
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	slow, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var late int64
	err = slow.QueryRow(t.Context(), `INSERT INTO skep.delivery (source_id, delivery_id, event, body) VALUES ($1, 'late', 'push', '') RETURNING id`, source).Scan(&late)
	if err != nil {
		t.Fatal(err)
	}
	first := add(t, s, push(source, "1"))
	if got := claim(t, s, 10); !slices.Equal(got, []int64{first}) {
		t.Fatalf("Claim = %v, want %d", got, first)
	}
	last := add(t, s, push(source, "2"))
	if err := slow.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := claim(t, s, 10); !slices.Equal(got, []int64{late}) {
		t.Errorf("Claim = %v, want %d: %d is another's, and %d comes after it", got, late, first, last)
	}
	if err := errors.Join(s.Ignored(t.Context(), late, ""), s.Ignored(t.Context(), first, "")); err != nil {
		t.Fatal(err)
	}
	if got := claim(t, s, 10); !slices.Equal(got, []int64{last}) {
		t.Errorf("Claim = %v, want %d", got, last)
	}
}

// expire lets the time of all leases pass.
func expire(t testing.TB, dsn string) {
	t.Helper()
	shared.Server(t).Exec(t, dsn, "UPDATE skep.delivery SET next_at = now() WHERE state = 'stored'")
}

func TestSettle(t *testing.T) {
	s, _ := newStore(t)
	source := newSource(t, s, "main")
	id := add(t, s, push(source, "1"))
	run := newRun(t, s, "key", "")
	for range 2 { // a dispatcher that does not know whether it came through
		if err := s.Dispatched(t.Context(), id, run); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Failed(t.Context(), id, "too late"); !errors.Is(err, controlplane.ErrConflict) {
		t.Errorf("Failed after Dispatched: %v", err)
	}
	if err := s.Later(t.Context(), id, 0, ""); !errors.Is(err, controlplane.ErrNotFound) {
		t.Errorf("Later after Dispatched: %v", err)
	}
	if d, err := s.Delivery(t.Context(), id); err != nil || d.Run != run || d.State != controlplane.DeliveryDispatched || d.Dispatched.IsZero() {
		t.Errorf("Delivery = %+v, %v", d, err)
	}
	if err := s.Ignored(t.Context(), id+1, ""); !errors.Is(err, controlplane.ErrNotFound) {
		t.Errorf("settle nothing: %v", err)
	}
	for range 2 {
		if err := s.Redeliver(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Redeliver(t.Context(), id+1); !errors.Is(err, controlplane.ErrNotFound) {
		t.Errorf("redeliver nothing: %v", err)
	}
	if got := claim(t, s, 1); !slices.Equal(got, []int64{id}) {
		t.Errorf("after Redeliver: Claim = %v", got)
	}
	if err := s.Failed(t.Context(), id, strings.Repeat("why ", 2000)+"\x00\xff"); err != nil {
		t.Fatal(err)
	}

	if n, since, err := s.Backlog(t.Context()); err != nil || n != 0 || since.IsZero() {
		t.Errorf("Backlog of nothing = %d since %s, %v", n, since, err)
	}
	waiting := add(t, s, push(source, "2"))
	waits, err := s.Delivery(t.Context(), waiting)
	if n, since, backlogErr := s.Backlog(t.Context()); err != nil || backlogErr != nil || n != 1 || !since.Equal(waits.Received) {
		t.Errorf("Backlog = %d since %s, %v; want 1 since %s", n, since, backlogErr, waits.Received)
	}
	found, next, err := s.ListDeliveries(t.Context(), store.DeliveryFilter{}, store.Page{Limit: 1})
	if err != nil || len(found) != 1 || found[0].ID != waiting || next != waiting || found[0].Body != nil {
		t.Errorf("ListDeliveries = %+v, next %d, %v", found, next, err)
	}
	failed, next, err := s.ListDeliveries(t.Context(), store.DeliveryFilter{Source: source, State: controlplane.DeliveryFailed}, store.Page{})
	if err != nil || !slices.Equal(ids(failed), []int64{id}) || next != 0 || !strings.HasPrefix(failed[0].Error, "why ") {
		t.Errorf("ListDeliveries of those that failed = %+v, next %d, %v", failed, next, err)
	}
	if n, err := s.PruneDeliveries(t.Context(), time.Now().Add(time.Hour)); n != 1 || err != nil {
		t.Errorf("PruneDeliveries = %d, %v; want what waits to stay", n, err)
	}
	if _, err := s.Delivery(t.Context(), waiting); err != nil {
		t.Error(err)
	}
}

// Eight dispatchers work on six sources and die again and again, before or
// after the dispatch and before they could say so.
func TestDispatchersAtOnce(t *testing.T) {
	s, dsn := newStore(t)
	const dispatchers, sources, each = 8, 6, 60
	s.Lease = time.Hour // it ends when the test says so
	for i := range sources {
		source := newSource(t, s, controlplane.Name(fmt.Sprint("s", i)))
		for j := range each {
			add(t, s, push(source, fmt.Sprint(j)))
		}
	}
	run := newRun(t, s, "key", "")

	var mu sync.Mutex
	dispatched := map[int64][]int64{} // what the engine saw, by source
	diedAfter := map[int64]int{}      // deliveries that the engine has, and nobody said so
	var left []int64                  // the claims of those who died
	dispatch := func(d controlplane.Delivery) {
		mu.Lock()
		defer mu.Unlock()
		dispatched[d.Source] = append(dispatched[d.Source], d.ID)
	}
	die := func(claimed []int64) {
		mu.Lock()
		defer mu.Unlock()
		left = append(left, claimed...)
	}
	done := func() bool {
		return query[int64](t, dsn, "SELECT count(*) FROM delivery WHERE state = 'stored'")[0] == 0
	}
	parallel(dispatchers, func(i int) {
		chance := rand.New(rand.NewPCG(1, uint64(i)))
		for {
			claimed, err := s.Claim(t.Context(), 1+chance.IntN(20))
			if err != nil {
				t.Error(err)
				return
			}
			if len(claimed) == 0 {
				// The leases of the dead run out.
				mu.Lock()
				gone := left
				left = nil
				mu.Unlock()
				if len(gone) == 0 && done() {
					return
				}
				query[int64](t, dsn, "UPDATE delivery SET next_at = now() WHERE id = ANY($1) AND state = 'stored' RETURNING id", gone)
			}
			for n, d := range claimed {
				fate := chance.IntN(30)
				if fate == 0 {
					die(ids(claimed[n:]))
					break
				}
				dispatch(d)
				if fate == 1 {
					mu.Lock()
					diedAfter[d.ID]++
					mu.Unlock()
					die(ids(claimed[n:]))
					break
				}
				if err := s.Dispatched(t.Context(), d.ID, run); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})

	for source, seen := range dispatched {
		if !slices.IsSorted(seen) {
			t.Errorf("source %d was dispatched out of order: %v", source, seen)
		}
		if n := len(slices.Compact(slices.Clone(seen))); n != each {
			t.Errorf("%d of %d deliveries of source %d were dispatched", n, each, source)
		}
		times := map[int64]int{}
		for _, id := range seen {
			times[id]++
		}
		for id, n := range times {
			if n != 1+diedAfter[id] {
				t.Errorf("delivery %d was dispatched %d times, and %d dispatchers died with it", id, n, diedAfter[id])
			}
		}
	}
	if len(dispatched) != sources || len(diedAfter) == 0 {
		t.Errorf("%d sources, %d deaths: the test shows nothing", len(dispatched), len(diedAfter))
	}
}

func TestListenDeliveries(t *testing.T) {
	s, dsn := newStore(t)
	source := newSource(t, s, "main")
	another := openStore(t, dsn)
	heard := make(chan struct{}, 100)
	listen(t, func() error { return another.ListenDeliveries(t.Context(), func() { heard <- struct{}{} }) })
	<-heard // it listens
	id := add(t, s, push(source, "1"))
	<-heard
	if err := s.Ignored(t.Context(), id, ""); err != nil {
		t.Fatal(err)
	}
	if err := s.Redeliver(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	<-heard
}

// listen runs f until the test's context ends.
func listen(t *testing.T, f func() error) {
	ended := make(chan error, 1)
	go func() { ended <- f() }()
	t.Cleanup(func() {
		if err := <-ended; !errors.Is(err, t.Context().Err()) {
			t.Errorf("it ended with %v", err)
		}
	})
}
