package store_test

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"skep/services/controlplane"
	"skep/services/controlplane/store"
)

func openQueues(t *testing.T, dsn string) *store.Queues {
	t.Helper()
	q, err := store.OpenQueues(t.Context(), dsn, 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	q.Log = slog.New(slog.DiscardHandler)
	return q
}

func enter(t *testing.T, q *store.Queues, queue string) (leave func()) {
	t.Helper()
	leave, err := q.Enter(t.Context(), queue)
	if err != nil {
		t.Fatal(err)
	}
	return leave
}

func busy(t *testing.T, q *store.Queues, queue string) {
	t.Helper()
	leave, err := q.Enter(t.Context(), queue)
	if !errors.Is(err, controlplane.ErrBusy) {
		t.Errorf("queue %s: %v, want busy", queue, err)
	}
	if err == nil {
		leave()
	}
}

func TestQueues(t *testing.T) {
	dsn := shared.Server(t).Database(t)
	here, there := openQueues(t, dsn), openQueues(t, dsn)
	leave := enter(t, here, "home/main")
	busy(t, there, "home/main")
	busy(t, here, "home/main") // another run of the same worker
	enter(t, there, "home/other")()
	leave()
	leave = enter(t, there, "home/main")
	busy(t, here, "home/main")
	leave()
}

// A worker that dies, and one that loses its connection, hold up nobody.
func TestQueuesOfTheDead(t *testing.T) {
	dsn := shared.Server(t).Database(t)
	here, there := openQueues(t, dsn), openQueues(t, dsn)
	leave := enter(t, here, "home/main")
	busy(t, there, "home/main")
	query[bool](t, dsn, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
	deadline := time.Now().Add(time.Minute)
	var after func()
	for after == nil {
		var err error
		if after, err = there.Enter(t.Context(), "home/main"); err == nil {
			break
		}
		if !errors.Is(err, controlplane.ErrBusy) || time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(10 * time.Millisecond) // a poll
	}
	leave() // what it has not
	busy(t, here, "home/main")
	after()
	enter(t, here, "home/main")()
}
