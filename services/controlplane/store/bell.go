package store

import (
	"context"
	"strconv"
	"time"

	"skep/services/controlplane/store/internal/db"
)

// bell says that there is something to tell. Strikes while it is being told
// are one.
type bell chan struct{}

func (b bell) strike() {
	select {
	case b <- struct{}{}:
	default:
	}
}

// sweep is how often events are looked for that a process has left hidden: it
// was killed after the commit, before it could show them.
const sweep = time.Second

// pace is the time between two notifications: the first strike is told of at
// once, and what comes in a burst together.
const pace = 5 * time.Millisecond

// tell notifies all servers of what this one has committed. NOTIFY in the
// transactions themselves would make them queue up at the one lock that
// PostgreSQL has for it, each until its commit is on the disk.
func (s *Store) tell(ctx context.Context) {
	tick := time.NewTicker(sweep)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-s.added:
			err = s.do(ctx, "notify of deliveries", func(q *db.Queries) error { return q.TellDeliveries(ctx) })
		case <-s.published:
			err = s.showEvents(ctx)
		case <-tick.C:
			err = s.showEvents(ctx)
		}
		if err != nil && ctx.Err() == nil {
			s.Log.WarnContext(ctx, "listeners wait for the next look", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pace):
		}
	}
}

func (s *Store) showEvents(ctx context.Context) error {
	return s.do(ctx, "show events", func(q *db.Queries) error {
		last, err := q.ShowEvents(ctx)
		if err != nil || last == 0 {
			return err
		}
		return q.TellEvents(ctx, strconv.FormatInt(last, 10))
	})
}
