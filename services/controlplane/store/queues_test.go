package store_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"

	"skep/internal/polltest"
	"skep/internal/postgrestest"
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
	_, leave, err := q.Enter(t.Context(), queue)
	if err != nil {
		t.Fatal(err)
	}
	return leave
}

func busy(t *testing.T, q *store.Queues, queue string) {
	t.Helper()
	_, leave, err := q.Enter(t.Context(), queue)
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

// endHolders ends the sessions that hold queues, as if they had been lost.
const endHolders = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"

// A worker that loses its session comes back for its queue, whether the session
// alone is gone or the database was restarted.
func TestQueuesComeBack(t *testing.T) {
	for name, fault := range map[string]func(*postgrestest.Server, string){
		"session ended":     func(_ *postgrestest.Server, dsn string) { query[bool](t, dsn, endHolders) },
		"PostgreSQL killed": func(server *postgrestest.Server, _ string) { server.Crash(t); server.Resume(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := postgrestest.Start(t)
			dsn := server.Database(t)
			here, there := openQueues(t, dsn), openQueues(t, dsn)
			held, leave, err := here.Enter(t.Context(), "home/main")
			if err != nil {
				t.Fatal(err)
			}
			fault(server, dsn)
			polltest.Until(t, func() error {
				_, leave, err := there.Enter(t.Context(), "home/main")
				if err == nil {
					leave()
					return errors.New("the queue is free")
				}
				if !errors.Is(err, controlplane.ErrBusy) {
					return err
				}
				return nil
			})
			if held.Err() != nil {
				t.Errorf("the queue was given up: %v", context.Cause(held))
			}
			leave()
			// A session that was cut off as it took the queue again is gone a moment later.
			polltest.Until(t, func() error {
				_, leave, err := there.Enter(t.Context(), "home/main")
				if err == nil {
					leave()
				}
				return err
			})
		})
	}
}

// Whoever does not come back in time hears of it. A session that is dead holds
// up nobody.
func TestQueuesOfTheDead(t *testing.T) {
	dsn := shared.Server(t).Database(t)
	here, there := openQueues(t, dsn), openQueues(t, dsn)
	held, leave, err := here.Enter(t.Context(), "home/main")
	if err != nil {
		t.Fatal(err)
	}
	// The lock passes to a session that waits for it the moment it is free.
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	taken := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), "SELECT pg_advisory_lock(hashtextextended('skep queue home/main', 0))")
		taken <- err
	}()
	polltest.Until(t, func() error {
		if query[int64](t, dsn, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")[0] == 0 {
			return errors.New("nobody waits")
		}
		return nil
	})
	query[bool](t, dsn, endHolders+" AND granted")
	if err := <-taken; err != nil {
		t.Fatal(err)
	}
	<-held.Done()
	if cause := context.Cause(held); !errors.Is(cause, controlplane.ErrBusy) {
		t.Errorf("the queue was lost for %v", cause)
	}
	leave()
	busy(t, there, "home/main")
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, func() error {
		_, leave, err := here.Enter(t.Context(), "home/main")
		if err == nil {
			leave()
		}
		return err
	})
}
