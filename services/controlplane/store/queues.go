package store

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"skep/services/controlplane"
)

// Queues are the queues of runs as locks of the database's sessions: one worker
// has a queue at a time, for as long as it works on a run, also on one that was
// superseded or cancelled meanwhile. Who dies has none.
type Queues struct {
	// Log hears of queues that could not be left in order.
	Log  *slog.Logger
	pool *pgxpool.Pool
}

// quickly ends a session whose worker is gone without a word, within half a
// minute or so, in place of the two hours of most systems.
const quickly = "SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"

// OpenQueues has a connection for each queue that is taken, and slots of them at
// most. It connects when one is.
func OpenQueues(ctx context.Context, url string, slots int) (*Queues, error) {
	config, err := parse(url)
	if err != nil {
		return nil, err
	}
	config.MaxConns = int32(min(slots, 1000))
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, quickly)
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the queues: %w", err)
	}
	return &Queues{Log: slog.Default(), pool: pool}, nil
}

// Close waits until all queues have been left.
func (q *Queues) Close() { q.pool.Close() }

// leaveTime is how long a queue may take to be left; then its session ends.
const leaveTime = 5 * time.Second

// Enter takes a queue until leave is called. ErrBusy if another run has it.
func (q *Queues) Enter(ctx context.Context, queue string) (leave func(), err error) {
	conn, err := q.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("enter queue %s: %w", queue, err)
	}
	var free bool
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock(hashtextextended('skep queue ' || $1, 0))", queue).Scan(&free); err != nil {
		q.end(ctx, conn) // the lock may have been taken
		return nil, fmt.Errorf("enter queue %s: %w", queue, err)
	}
	if !free {
		conn.Release()
		return nil, fmt.Errorf("enter queue %s: %w", queue, controlplane.ErrBusy)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
		defer cancel()
		var held bool
		err := conn.QueryRow(ctx, "SELECT pg_advisory_unlock(hashtextextended('skep queue ' || $1, 0))", queue).Scan(&held)
		if err == nil && held {
			conn.Release()
			return
		}
		q.Log.WarnContext(ctx, "a queue was lost before it was left", "queue", queue, "error", err)
		q.end(ctx, conn)
	}, nil
}

// end ends a session, and with it its locks.
func (q *Queues) end(ctx context.Context, conn *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
	defer cancel()
	_ = conn.Hijack().Close(ctx) // it is gone already, if that fails
}
