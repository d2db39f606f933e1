package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"skep/services/controlplane"
	"skep/services/controlplane/store/internal/db"
)

// Publish adds an event to the feed. ID and time are given to it: the ID behind
// the call's back, in the order in which readers see events.
func (s *Store) Publish(ctx context.Context, e controlplane.Event) error {
	action := fmt.Sprintf("publish %q", e.Type)
	data, err := document("the data", e.Data)
	if err := errors.Join(err, check(text{"the topic", e.Topic, 200}, text{"the type", e.Type, 100})); err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	err = s.do(ctx, action, func(q *db.Queries) error { return q.PublishEvent(ctx, e.Topic, e.Type, data) })
	if err == nil {
		s.published.strike()
	}
	return err
}

const maxTopics = 100

// Since returns events after one that was seen, oldest first: of some topics,
// or of all if none is named. Whoever remembers the last ID misses none.
func (s *Store) Since(ctx context.Context, topics []string, last int64, limit int) ([]controlplane.Event, error) {
	const action = "read events"
	if len(topics) > maxTopics {
		return nil, fmt.Errorf("%s: %w: %d topics, %d are taken", action, controlplane.ErrInvalid, len(topics), maxTopics)
	}
	for _, t := range topics {
		if err := check(text{"a topic", t, 200}); err != nil {
			return nil, fmt.Errorf("%s: %w", action, err)
		}
	}
	if topics == nil {
		topics = []string{}
	}
	var events []controlplane.Event
	err := s.do(ctx, action, func(q *db.Queries) error {
		rows, err := q.EventsSince(ctx, last, topics, Page{Limit: limit}.rows())
		events = convert(rows, func(e db.EventsSinceRow) controlplane.Event { return controlplane.Event(e) })
		return err
	})
	return events, err
}

// LastEvent is the ID of the newest event, 0 if there is none.
func (s *Store) LastEvent(ctx context.Context) (id int64, err error) {
	err = s.do(ctx, "look up the last event", func(q *db.Queries) (err error) {
		id, err = q.LastEvent(ctx)
		return err
	})
	return id, err
}

// PruneEvents removes events from before a time.
func (s *Store) PruneEvents(ctx context.Context, before time.Time) (removed int64, err error) {
	err = s.do(ctx, "prune events", func(q *db.Queries) (err error) {
		removed, err = q.PruneEvents(ctx, before)
		return err
	})
	return removed, err
}
