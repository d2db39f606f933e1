package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"skep/services/controlplane"
	"skep/services/controlplane/store/internal/db"
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

// OpenQueues has a connection for each queue that is taken, slots of them at
// most, and one to look with. It connects when it has to.
func OpenQueues(ctx context.Context, url string, slots int) (*Queues, error) {
	config, err := parse(url)
	if err != nil {
		return nil, err
	}
	config.MaxConns = int32(min(slots, 1000)) + 1
	config.ConnConfig.RuntimeParams["search_path"] = schema
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

const (
	// leaveTime is how long a queue may take to be left; then its session ends.
	leaveTime = 5 * time.Second
	// aliveTime is between two looks at whether a session that holds a queue is
	// there. The network may have gone without a word.
	aliveTime = 10 * time.Second
	// returnPoll and returnTime are how often, and for how long, whoever lost the
	// session tries to take the queue again while the database says that somebody
	// else has it. Others wait for longer: see engine.Queues.
	returnPoll = 200 * time.Millisecond
	returnTime = 3 * time.Second
)

// Enter takes a queue until leave is called. ErrBusy if another run has it. A
// session that ends, as the database was restarted, is made up for by another
// one; held ends if somebody else has the queue by then.
func (q *Queues) Enter(ctx context.Context, queue string) (held context.Context, leave func(), err error) {
	conn, err := q.take(ctx, queue)
	if err != nil {
		return nil, nil, fmt.Errorf("enter queue %s: %w", queue, err)
	}
	held, lose := context.WithCancelCause(ctx)
	stay, stop := context.WithCancel(context.WithoutCancel(ctx))
	kept := make(chan *pgxpool.Conn, 1)
	go func() {
		conn, err := q.keep(stay, conn, queue)
		lose(err) // nil once it is left
		kept <- conn
	}()
	return held, func() {
		stop()
		if conn := <-kept; conn != nil {
			q.leave(context.WithoutCancel(ctx), conn, queue)
		}
	}, nil
}

// take returns a session that has the queue.
func (q *Queues) take(ctx context.Context, queue string) (*pgxpool.Conn, error) {
	conn, err := q.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	var free bool
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock(hashtextextended('skep queue ' || $1, 0))", queue).Scan(&free); err != nil {
		q.end(ctx, conn) // the lock may have been taken
		return nil, err
	}
	if !free {
		conn.Release()
		return nil, controlplane.ErrBusy
	}
	return conn, nil
}

// keep has the queue until ctx ends, and returns the session that has it then;
// an error if it is lost.
func (q *Queues) keep(ctx context.Context, conn *pgxpool.Conn, queue string) (*pgxpool.Conn, error) {
	for {
		err := alive(ctx, conn.Conn())
		if ctx.Err() != nil {
			return conn, nil
		}
		q.Log.WarnContext(ctx, "the session that holds a queue ended, it is taken again", "queue", queue, "error", err)
		q.end(ctx, conn)
		if conn, err = q.retake(ctx, queue); err != nil {
			if ctx.Err() != nil {
				return nil, nil // left meanwhile
			}
			q.Log.WarnContext(ctx, "a queue was lost before it was left", "queue", queue, "error", err)
			return nil, fmt.Errorf("queue %s was lost: %w", queue, err)
		}
	}
}

// alive returns when the session has ended, or ctx.
func alive(ctx context.Context, conn *pgx.Conn) error {
	for {
		wait, cancel := context.WithTimeout(ctx, aliveTime)
		_, err := conn.WaitForNotification(wait) // there are none
		cancel()
		if err != nil && (ctx.Err() != nil || !pgconn.Timeout(err)) {
			return err
		}
		asked, cancel := context.WithTimeout(ctx, leaveTime)
		err = conn.Ping(asked)
		cancel()
		if err != nil {
			return err
		}
	}
}

// retake waits for the database, however long it is away: nobody else can take
// the queue while it is.
func (q *Queues) retake(ctx context.Context, queue string) (*pgxpool.Conn, error) {
	tick := time.NewTicker(returnPoll)
	defer tick.Stop()
	var busy time.Time // since then
	for {
		conn, err := q.take(ctx, queue)
		switch {
		case err == nil:
			return conn, nil
		case !errors.Is(err, controlplane.ErrBusy):
			busy = time.Time{}
		case busy.IsZero():
			busy = time.Now() // by somebody who looks, or by the session that the server has not missed yet
		case time.Since(busy) > returnTime:
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

func (q *Queues) leave(ctx context.Context, conn *pgxpool.Conn, queue string) {
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	var held bool
	err := conn.QueryRow(ctx, "SELECT pg_advisory_unlock(hashtextextended('skep queue ' || $1, 0))", queue).Scan(&held)
	if err == nil && held {
		conn.Release()
		return
	}
	q.Log.WarnContext(ctx, "a queue was lost as it was left", "queue", queue, "error", err)
	q.end(ctx, conn)
}

// end ends a session, and with it its locks.
func (q *Queues) end(ctx context.Context, conn *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
	defer cancel()
	_ = conn.Hijack().Close(ctx) // it is gone already, if that fails
}

// First is what the queue of a run is to do next, by its id, class and state:
// another run, which is before it, or the run itself, also where that is over.
// Whoever asks has the queue, so the worker of one that was begun has not.
func (q *Queues) First(ctx context.Context, own controlplane.RunID) (controlplane.Run, error) {
	row, err := db.New(q.pool).FirstRun(ctx, string(own))
	if errors.Is(err, pgx.ErrNoRows) {
		return controlplane.Run{ID: own}, nil
	}
	if err != nil {
		return controlplane.Run{}, fmt.Errorf("look which run comes before %s: %w", own, err)
	}
	return controlplane.Run{ID: controlplane.RunID(row.ID), Priority: controlplane.Priority(row.Priority), State: controlplane.RunState(row.State)}, nil
}
