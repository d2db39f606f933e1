package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"skep/services/controlplane"
	"skep/services/controlplane/store/internal/db"
)

// Add stores a delivery in one round trip. A second one of the same id changes
// nothing and is not fresh: the id is that of the first.
//
// Listeners are told behind the call's back. A notification that is lost with
// the process is made up for by the dispatcher that looks now and then.
func (s *Store) Add(ctx context.Context, d controlplane.Delivery) (id int64, fresh bool, err error) {
	const action = "store a delivery"
	if len(d.Body) > MaxBody {
		return 0, false, fmt.Errorf("%s: %w: the body has %d bytes, %d are taken", action, controlplane.ErrInvalid, len(d.Body), MaxBody)
	}
	if err := errors.Join(
		check(text{"the delivery's id", string(d.Delivery), 200}, text{"the event", d.Event, 200}, text{"the trace", d.Trace, 100}),
		checkMap("headers", d.Headers, 100, 8000),
	); err != nil {
		return 0, false, fmt.Errorf("%s: %w", action, err)
	}
	if d.Body == nil {
		d.Body = []byte{}
	}
	headers, err := encode(d.Headers)
	if err != nil {
		return 0, false, fmt.Errorf("%s: %w", action, err)
	}
	var row db.AddDeliveryRow
	err = s.do(ctx, action, func(q *db.Queries) (err error) {
		row, err = q.AddDelivery(ctx, db.AddDeliveryParams{
			SourceID: d.Source, DeliveryID: string(d.Delivery), Event: d.Event, Headers: headers, Body: d.Body, Trace: d.Trace,
		})
		if errors.Is(err, pgx.ErrNoRows) {
			// The first copy was committed after this statement had begun.
			row.ID, err = q.DeliveryByKey(ctx, d.Source, string(d.Delivery))
		}
		return err
	})
	if err != nil {
		return 0, false, err
	}
	if row.Fresh {
		s.added.strike()
	}
	return row.ID, row.Fresh, nil
}

// Claim hands out deliveries that are due, for as long as Lease, oldest first
// within each source. Nobody else gets a delivery of these sources until all
// that were claimed are settled or the lease is over, so the caller takes those
// of one source in turn, and stops at the first that it cannot dispatch: Later
// for that one, Release for the rest.
//
// Order is that of the ids. Two requests at the same moment have none: one with
// a lower id may be committed, and claimed, after the other.
func (s *Store) Claim(ctx context.Context, limit int) ([]controlplane.Delivery, error) {
	var claimed []controlplane.Delivery
	err := s.inTx(ctx, "claim deliveries", func(q *db.Queries) error {
		most := Page{Limit: limit}.rows()
		sources, err := q.LockDueSources(ctx, most)
		if err != nil || len(sources) == 0 {
			return err
		}
		rows, err := q.ClaimDeliveries(ctx, sources, most, s.Lease.Seconds())
		if err != nil {
			return err
		}
		claimed, err = deliveries(rows, func(r db.ClaimDeliveriesRow) db.DeliveryRow { return db.DeliveryRow(r) })
		return err
	})
	return claimed, err
}

func deliveries[R any](rows []R, f func(R) db.DeliveryRow) ([]controlplane.Delivery, error) {
	out := make([]controlplane.Delivery, 0, len(rows))
	for _, r := range rows {
		d, err := delivery(f(r))
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

func delivery(r db.DeliveryRow) (controlplane.Delivery, error) {
	d := controlplane.Delivery{
		ID: r.ID, Source: r.SourceID, Provider: controlplane.Provider(r.Provider), Delivery: controlplane.DeliveryID(r.DeliveryID),
		Event: r.Event, Body: r.Body, Received: r.Received, State: controlplane.DeliveryState(r.State), Attempts: int(r.Attempts),
		Error: r.Error, Run: controlplane.RunID(r.RunID), Dispatched: moment(r.Dispatched),
		Trace: r.Trace,
	}
	if err := json.Unmarshal(r.Headers, &d.Headers); err != nil {
		return d, fmt.Errorf("the headers of delivery %d: %w", r.ID, err)
	}
	return d, nil
}

// Dispatched says that a run has the delivery. Saying so again changes nothing;
// ErrConflict if it ended in another way.
func (s *Store) Dispatched(ctx context.Context, id int64, run controlplane.RunID) error {
	return s.settle(ctx, id, controlplane.DeliveryDispatched, run, "")
}

// Ignored says that there is nothing to do, and why.
func (s *Store) Ignored(ctx context.Context, id int64, reason string) error {
	return s.settle(ctx, id, controlplane.DeliveryIgnored, "", reason)
}

// Failed gives the delivery up: only Redeliver brings it back.
func (s *Store) Failed(ctx context.Context, id int64, reason string) error {
	return s.settle(ctx, id, controlplane.DeliveryFailed, "", reason)
}

func (s *Store) settle(ctx context.Context, id int64, state controlplane.DeliveryState, run controlplane.RunID, reason string) error {
	return s.do(ctx, fmt.Sprintf("mark delivery %d as %s", id, state), func(q *db.Queries) error {
		n, err := q.SettleDelivery(ctx, db.SettleDeliveryParams{
			State: string(state), RunID: string(run), Error: clean(reason, maxError), ID: id,
		})
		if err != nil || n > 0 {
			return err
		}
		now, err := q.DeliveryState(ctx, id)
		if err == nil && now != string(state) {
			err = fmt.Errorf("%w: it is %s", controlplane.ErrConflict, now)
		}
		return err
	})
}

// Later puts the delivery back for after a delay. Those of the same source wait
// for it: order is kept.
func (s *Store) Later(ctx context.Context, id int64, delay time.Duration, reason string) error {
	return s.do(ctx, fmt.Sprintf("postpone delivery %d", id), func(q *db.Queries) error {
		return one(q.PostponeDelivery(ctx, delay.Seconds(), clean(reason, maxError), id))
	})
}

// Release gives back deliveries that were claimed and not tried.
func (s *Store) Release(ctx context.Context, ids []int64) error {
	return s.do(ctx, "release deliveries", func(q *db.Queries) error { return q.ReleaseDeliveries(ctx, ids) })
}

// Redeliver makes a delivery that is settled one to be dispatched again. What
// runs for it must tell the two apart by Attempts or time, if it wants to.
func (s *Store) Redeliver(ctx context.Context, id int64) error {
	err := s.do(ctx, fmt.Sprintf("redeliver %d", id), func(q *db.Queries) error {
		n, err := q.Redeliver(ctx, id)
		if err != nil || n > 0 {
			return err
		}
		_, err = q.DeliveryState(ctx, id) // waiting already, or not there
		return err
	})
	if err == nil {
		s.added.strike()
	}
	return err
}

// Delivery is one of them, with its body.
func (s *Store) Delivery(ctx context.Context, id int64) (controlplane.Delivery, error) {
	var found controlplane.Delivery
	err := s.do(ctx, fmt.Sprintf("look up delivery %d", id), func(q *db.Queries) error {
		row, err := q.Delivery(ctx, id)
		if err != nil {
			return err
		}
		found, err = delivery(row)
		return err
	})
	return found, err
}

// DeliveryFilter narrows a list; what is empty does not.
type DeliveryFilter struct {
	Source int64
	State  controlplane.DeliveryState
}

// ListDeliveries returns a page without bodies, and where the next one begins:
// 0 after the last.
func (s *Store) ListDeliveries(ctx context.Context, filter DeliveryFilter, page Page) (found []controlplane.Delivery, next int64, err error) {
	err = s.do(ctx, "list deliveries", func(q *db.Queries) error {
		rows, err := q.ListDeliveries(ctx, db.ListDeliveriesParams{
			Before: page.Before, SourceID: filter.Source, State: string(filter.State), MaxRows: page.rows(),
		})
		if err != nil {
			return err
		}
		found, err = deliveries(rows, func(r db.ListDeliveriesRow) db.DeliveryRow {
			return db.DeliveryRow{
				ID: r.ID, SourceID: r.SourceID, Provider: r.Provider, DeliveryID: r.DeliveryID, Event: r.Event, Headers: r.Headers,
				Received: r.Received, State: r.State, Attempts: r.Attempts, Error: r.Error, RunID: r.RunID, Dispatched: r.Dispatched,
			}
		})
		return err
	})
	if n := len(found); n > 0 {
		next = page.next(n, found[n-1].ID)
	}
	return found, next, err
}

// Backlog is how many deliveries wait to be dispatched, and since when the
// oldest does: since now, if there is none.
func (s *Store) Backlog(ctx context.Context) (n int64, oldest time.Time, err error) {
	err = s.do(ctx, "count the deliveries that wait", func(q *db.Queries) error {
		row, err := q.Backlog(ctx)
		n, oldest = row.Count, row.Oldest
		return err
	})
	return n, oldest, err
}

const pruneBatch = 1000

// PruneDeliveries removes what was received before a time and is settled. A
// replay of what was removed counts as fresh, so keep more than the days in
// which a provider repeats itself.
func (s *Store) PruneDeliveries(ctx context.Context, before time.Time) (int64, error) {
	return s.prune(ctx, "prune deliveries", func(q *db.Queries) (int64, error) {
		return q.PruneDeliveries(ctx, before, pruneBatch)
	})
}

// prune deletes in batches, so that no transaction is long.
func (s *Store) prune(ctx context.Context, action string, batch func(*db.Queries) (int64, error)) (total int64, err error) {
	for {
		var n int64
		err := s.do(ctx, action, func(q *db.Queries) (err error) {
			n, err = batch(q)
			return err
		})
		total += n
		if err != nil || n < pruneBatch {
			return total, err
		}
	}
}
