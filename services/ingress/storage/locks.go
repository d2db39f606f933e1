package storage

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// locks are leases: a row says until when, by the database's clock. The holder
// renews it; when the holder dies, the lease runs out.
type locks struct {
	db   *database
	pace pace
	log  func() *zap.Logger

	mu     sync.Mutex
	held   map[string][]*lease // oldest first; all but the last are lost, known or not
	closed bool
}

// lease is one successful Lock.
type lease struct {
	name    string
	token   string // what the row holds as long as the lock is ours
	renewed time.Time
	ending  bool // Unlock was called
	lost    bool
}

// acquire waits until the lock is there. It gives up when the database cannot
// be asked at first, or not for a whole lease later.
func (l *locks) acquire(ctx context.Context, name string) error {
	token := rand.Text()
	tick := time.NewTicker(l.pace.poll)
	defer tick.Stop()
	var answered time.Time
	for {
		ok, err := l.attempt(ctx, name, token)
		switch {
		case ok:
			return nil
		case err == nil:
			answered = time.Now()
		case ctx.Err() != nil || time.Since(answered) > l.pace.lease:
			return fmt.Errorf("lock %s: %w", name, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("lock %s: %w", name, ctx.Err())
		}
	}
}

// try asks once.
func (l *locks) try(ctx context.Context, name string) (bool, error) {
	ok, err := l.attempt(ctx, name, rand.Text())
	if err != nil {
		return false, fmt.Errorf("try lock %s: %w", name, err)
	}
	return ok, nil
}

func (l *locks) attempt(ctx context.Context, name, token string) (bool, error) {
	// An answer that got lost may have been a yes: the same token gets it again.
	const statement = `INSERT INTO caddy_locks AS old (name, token, expires)
		VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
		ON CONFLICT (name) DO UPDATE SET token = excluded.token, expires = excluded.expires
		WHERE old.expires < clock_timestamp() OR old.token = excluded.token`
	asked := time.Now()
	var ok bool
	err := l.db.do(ctx, func(ctx context.Context) error {
		tag, err := l.db.pool.Exec(ctx, statement, name, token, l.pace.lease.Seconds())
		ok = tag.RowsAffected() == 1
		return err
	})
	if err != nil {
		if ctx.Err() != nil {
			// Nobody will use the lock if it was a yes.
			_, _ = l.remove(context.WithoutCancel(ctx), token)
		}
		return false, err
	}
	if !ok {
		return false, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[name] = append(l.held[name], &lease{name: name, token: token, renewed: asked})
	return true, nil
}

// release gives the oldest lock of the name back. One that was lost is not in
// the database any more; whoever has it now keeps it.
func (l *locks) release(ctx context.Context, name string) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil // close released everything
	}
	if len(l.held[name]) == 0 {
		l.mu.Unlock()
		return fmt.Errorf("unlock %s: it is not locked", name)
	}
	own := l.held[name][0]
	own.ending = true // a renewal that is under way may miss it
	lost := own.lost
	// Whatever comes of it in the database, it is nobody's from now on: there it
	// runs out.
	l.held[name] = l.held[name][1:]
	if len(l.held[name]) == 0 {
		delete(l.held, name)
	}
	l.mu.Unlock()
	if lost {
		return nil
	}
	found, err := l.remove(ctx, own.token)
	if err != nil {
		return fmt.Errorf("unlock %s: %w", name, err)
	}
	if !found {
		l.mu.Lock()
		l.lose(own)
		l.mu.Unlock()
	}
	return nil
}

func (l *locks) remove(ctx context.Context, tokens ...string) (found bool, err error) {
	err = l.db.do(ctx, func(ctx context.Context) error {
		tag, err := l.db.pool.Exec(ctx, `DELETE FROM caddy_locks WHERE token = ANY($1)`, tokens)
		found = found || tag.RowsAffected() > 0 // a repetition finds nothing
		return err
	})
	return found, err
}

// renew renews the lock of a name now, and fails if it is lost or the database
// is away.
func (l *locks) renew(ctx context.Context, name string) error {
	l.mu.Lock()
	var own *lease
	if held := l.held[name]; len(held) > 0 {
		own = held[len(held)-1]
	}
	l.mu.Unlock()
	if own == nil {
		return fmt.Errorf("renew the lock %s: it is not locked", name)
	}
	if err := l.renewAll(ctx, []*lease{own}); err != nil {
		return fmt.Errorf("renew the lock %s: %w", name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if own.lost {
		return fmt.Errorf("renew the lock %s: it was lost", name)
	}
	return nil
}

// maintain renews what is held.
func (l *locks) maintain(ctx context.Context) {
	l.mu.Lock()
	var due []*lease
	for _, held := range l.held {
		for _, own := range held {
			if !own.lost {
				due = append(due, own)
			}
		}
	}
	l.mu.Unlock()
	if len(due) == 0 {
		return
	}
	if err := l.renewAll(ctx, due); err != nil && ctx.Err() == nil {
		l.log().Warn("cannot renew locks; they run out unless the database is back in time", zap.Int("locks", len(due)),
			zap.Duration("lease", l.pace.lease), zap.Error(err))
	}
}

// renewAll renews leases, one that has run out included if nobody else took it.
func (l *locks) renewAll(ctx context.Context, due []*lease) error {
	tokens := make([]string, len(due))
	for i, own := range due {
		tokens[i] = own.token
	}
	asked := time.Now()
	kept := map[string]bool{}
	err := l.db.do(ctx, func(ctx context.Context) error {
		rows, err := l.db.pool.Query(ctx, `UPDATE caddy_locks SET expires = clock_timestamp() + make_interval(secs => $1)
			WHERE token = ANY($2) RETURNING token`, l.pace.lease.Seconds(), tokens)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var token string
			if err := rows.Scan(&token); err != nil {
				return err
			}
			kept[token] = true
		}
		return rows.Err()
	})
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, own := range due {
		switch {
		case kept[own.token]:
			own.renewed = asked
		case !own.ending:
			l.lose(own)
		}
	}
	return nil
}

// lose is called with l.mu held.
func (l *locks) lose(own *lease) {
	if own.lost {
		return
	}
	own.lost = true
	l.log().Error("a lock was lost: its lease ran out before the database was back", zap.String("lock", own.name),
		zap.Duration("since_last_renewal", time.Since(own.renewed)))
}

// close gives everything back.
func (l *locks) close(ctx context.Context) error {
	l.mu.Lock()
	l.closed = true
	var tokens []string
	for _, own := range slices.Concat(slices.Collect(maps.Values(l.held))...) {
		tokens = append(tokens, own.token)
	}
	clear(l.held)
	l.mu.Unlock()
	if len(tokens) == 0 {
		return nil
	}
	_, err := l.remove(ctx, tokens...)
	return err
}
