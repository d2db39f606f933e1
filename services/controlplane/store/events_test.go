package store_test

import (
	"context"
	"errors"
	"fmt"
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

func TestEvents(t *testing.T) {
	s, _ := newStore(t)
	for i := range 6 {
		if err := s.Publish(t.Context(), controlplane.Event{Topic: fmt.Sprint("run/", i%2), Type: "log", Data: fmt.Appendf(nil, `{"n": %d}`, i)}); err != nil {
			t.Fatal(err)
		}
	}
	shown(t, s, 6)
	var all []int64
	events, err := s.Since(t.Context(), nil, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range events {
		if string(e.Data) != fmt.Sprintf(`{"n": %d}`, i) || e.At.IsZero() {
			t.Errorf("event %d is %+v", i, e)
		}
		all = append(all, e.ID)
	}
	since := func(topics []string, last int64, limit int) (got []int64) {
		t.Helper()
		events, err := s.Since(t.Context(), topics, last, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			got = append(got, e.ID)
		}
		return got
	}
	if got, want := since([]string{"run/1", "nothing"}, all[1], 0), []int64{all[3], all[5]}; !slices.Equal(got, want) {
		t.Errorf("of a topic: %v, want %v", got, want)
	}
	if got, want := since(nil, all[0], 2), all[1:3]; !slices.Equal(got, want) {
		t.Errorf("a page: %v, want %v", got, want)
	}
	if last, err := s.LastEvent(t.Context()); err != nil || last != all[5] {
		t.Errorf("LastEvent = %d, %v", last, err)
	}
	if err := s.Publish(t.Context(), controlplane.Event{Topic: "t", Type: "x", Data: []byte("{")}); !errors.Is(err, controlplane.ErrInvalid) {
		t.Errorf("data that is no JSON: %v", err)
	}
	if _, err := s.Since(t.Context(), make([]string, 101), 0, 0); !errors.Is(err, controlplane.ErrInvalid) {
		t.Errorf("many topics: %v", err)
	}
	if n, err := s.PruneEvents(t.Context(), time.Now().Add(time.Hour)); n != 6 || err != nil {
		t.Errorf("PruneEvents = %d, %v", n, err)
	}
}

// shown waits until a number of events can be seen.
func shown(t *testing.T, s *store.Store, want int) {
	t.Helper()
	polltest.Until(t, func() error {
		events, err := s.Since(t.Context(), nil, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) < want {
			return fmt.Errorf("%d of %d events are shown", len(events), want)
		}
		return nil
	})
}

// What a process that was killed has left is shown by another one.
func TestEventsOfTheDead(t *testing.T) {
	s, dsn := newStore(t)
	query[int64](t, dsn, "INSERT INTO event (topic, type) VALUES ('t', 'x') RETURNING seq")
	heard := make(chan int64, 100)
	listen(t, func() error { return s.Listen(t.Context(), func(id int64) { heard <- id }) })
	for id := range heard {
		if id == 1 {
			break
		}
	}
	shown(t, s, 1)
}

// A reader that remembers the last ID misses none and sees none twice, though
// many publish at once through two servers.
func TestEventsAreSeenInOrder(t *testing.T) {
	s, dsn := newStore(t)
	servers := []*store.Store{s, openStore(t, dsn)}
	const publishers, each = 8, 40
	var published sync.WaitGroup
	for i := range publishers {
		published.Go(func() {
			for j := range each {
				e := controlplane.Event{Topic: "t", Type: "x", Data: fmt.Appendf(nil, "[%d, %d]", i, j)}
				if err := servers[i%2].Publish(t.Context(), e); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	defer published.Wait()
	seen, last := map[string]int{}, int64(0)
	polltest.Until(t, func() error {
		events, err := s.Since(t.Context(), nil, last, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if e.ID <= last {
				t.Fatalf("event %d came after %d", e.ID, last)
			}
			last = e.ID
			seen[string(e.Data)]++
		}
		if len(seen) < publishers*each {
			return fmt.Errorf("%d of %d events were seen", len(seen), publishers*each)
		}
		return nil
	})
	for data, n := range seen {
		if n != 1 {
			t.Errorf("event %s was seen %d times", data, n)
		}
	}
}

// Two servers show events at once: the place that one has given stays.
func TestEventsKeepTheirPlace(t *testing.T) {
	dsn := shared.Server(t).Database(t)
	if err := store.Migrate(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	publish := func(topic string) {
		query[int64](t, dsn, "INSERT INTO event (topic, type) VALUES ($1, 'x') RETURNING seq", topic)
	}
	publish("a")
	first, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Exec(t.Context(), "SELECT skep.show_events()"); err != nil {
		t.Fatal(err)
	}
	publish("b")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		query[int64](t, dsn, "SELECT show_events()")
	}()
	polltest.Until(t, func() error {
		if n := query[int64](t, dsn, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"); n[0] != 1 {
			return fmt.Errorf("%d wait", n[0])
		}
		return nil
	})
	if err := first.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-ended
	if got := query[string](t, dsn, "SELECT topic || id FROM event ORDER BY seq"); !slices.Equal(got, []string{"a1", "b2"}) {
		t.Errorf("the events are at %v", got)
	}
}

func TestListen(t *testing.T) {
	s, _ := newStore(t)
	heard := make(chan int64, 100)
	listen(t, func() error { return s.Listen(t.Context(), func(id int64) { heard <- id }) })
	if id := <-heard; id != 0 {
		t.Errorf("with no event: %d", id)
	}
	if err := s.Publish(t.Context(), controlplane.Event{Topic: "t", Type: "x"}); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got != 1 {
		t.Errorf("heard of %d, want 1", got)
	}
}

func TestLogsAndArtefacts(t *testing.T) {
	s, _ := newStore(t)
	run := newRun(t, s, "k", "")
	var lines []controlplane.LogLine
	for i := range 5 {
		lines = append(lines, controlplane.LogLine{N: i + 1, At: time.Now(), Stream: "stdout", Text: fmt.Sprint("line ", i+1)})
	}
	lines[4].Text = "\x00\xff" + strings.Repeat("é", 40_000)
	for range 2 { // written again, nothing changes
		if err := s.AppendLog(t.Context(), run, lines); err != nil {
			t.Fatal(err)
		}
	}
	if last, err := s.LastLine(t.Context(), run); err != nil || last != 5 {
		t.Errorf("LastLine = %d, %v", last, err)
	}
	if last, err := s.LastLine(t.Context(), newRun(t, s, "silent", "")); err != nil || last != 0 {
		t.Errorf("LastLine of a run that said nothing = %d, %v", last, err)
	}
	got, err := s.ReadLog(t.Context(), run, 2, 2)
	if err != nil || len(got) != 2 || got[0].Text != "line 3" || got[1].N != 4 || got[0].Stream != "stdout" {
		t.Errorf("ReadLog = %+v, %v", got, err)
	}
	if got, err = s.ReadLog(t.Context(), run, 4, 0); err != nil || len(got) != 1 || !strings.HasPrefix(got[0].Text, "\uFFFD\uFFFDéé") || len(got[0].Text) > 65536 {
		t.Errorf("a line of rubbish: %d lines, %v", len(got), err)
	}
	for _, n := range []int{0, -1, 1_000_001} {
		if err := s.AppendLog(t.Context(), run, []controlplane.LogLine{{N: n}}); !errors.Is(err, controlplane.ErrInvalid) {
			t.Errorf("line %d: %v", n, err)
		}
	}

	content := []byte("\x00\x01plan")
	for range 2 {
		if err := s.PutArtefact(t.Context(), run, "plan.json", "application/json", content); err != nil {
			t.Fatal(err)
		}
	}
	a, back, err := s.Artefact(t.Context(), run, "plan.json")
	if err != nil || string(back) != string(content) || a.Size != 6 || a.Media != "application/json" || a.SHA256 == [32]byte{} {
		t.Errorf("Artefact = %+v, %q, %v", a, back, err)
	}
	if err := s.PutArtefact(t.Context(), run, "big", "", make([]byte, store.MaxArtefact+1)); !errors.Is(err, controlplane.ErrInvalid) {
		t.Errorf("a big one: %v", err)
	}
	large := make([]byte, store.MaxArtefact)
	var mu sync.Mutex
	refused := 0
	parallel(4, func(i int) {
		err := s.PutArtefact(t.Context(), run, fmt.Sprint("part", i), "", large)
		mu.Lock()
		defer mu.Unlock()
		if errors.Is(err, controlplane.ErrInvalid) {
			refused++
		} else if err != nil {
			t.Error(err)
		}
	})
	if refused != 1 {
		t.Errorf("%d of 4 were refused, want the one that is too much", refused)
	}
	list, err := s.ListArtefacts(t.Context(), run)
	if err != nil || len(list) != 4 {
		t.Errorf("ListArtefacts = %d, %v", len(list), err)
	}
	if _, _, err := s.Artefact(t.Context(), run, "other"); !errors.Is(err, controlplane.ErrNotFound) {
		t.Errorf("no such artefact: %v", err)
	}
}
