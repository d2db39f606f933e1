package store

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Channels of LISTEN, as the queries name them.
const (
	eventChannel    = "skep_event"
	deliveryChannel = "skep_delivery"
)

const (
	// quiet is how long a connection that listens may be silent before it is
	// asked whether it still is one.
	quiet        = 30 * time.Second
	firstPause   = 50 * time.Millisecond
	longestPause = 5 * time.Second
)

// Listen calls f with the ID of the newest event: at once, after each new one
// and after each outage. One call may stand for many events. It returns when
// the context ends.
func (s *Store) Listen(ctx context.Context, f func(id int64)) error {
	return s.listen(ctx, eventChannel, func(payload string) error {
		id, err := strconv.ParseInt(payload, 10, 64)
		if err != nil { // just connected
			if id, err = s.LastEvent(ctx); err != nil {
				return err
			}
		}
		f(id)
		return nil
	})
}

// ListenDeliveries calls f when there may be deliveries to claim: at once,
// after some were added and after each outage. A notification can be lost, and
// none comes for a retry that is due: look now and then without one.
func (s *Store) ListenDeliveries(ctx context.Context, f func()) error {
	return s.listen(ctx, deliveryChannel, func(string) error {
		f()
		return nil
	})
}

// listen holds a connection of its own. Each new one begins with an empty
// payload, as nobody knows what was said before.
func (s *Store) listen(ctx context.Context, channel string, heard func(payload string) error) error {
	pause := firstPause
	for {
		err := s.listenOnce(ctx, channel, func(payload string) error {
			pause = firstPause
			return heard(payload)
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.Log.WarnContext(ctx, "listen again", "channel", channel, "error", err, "pause", pause)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		pause = min(2*pause, longestPause)
	}
}

func (s *Store) listenOnce(ctx context.Context, channel string, heard func(payload string) error) error {
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig.Copy())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return err
	}
	if err := heard(""); err != nil {
		return err
	}
	for {
		wait, cancel := context.WithTimeout(ctx, quiet)
		said, err := conn.WaitForNotification(wait)
		cancel()
		switch {
		case err == nil:
			err = heard(said.Payload)
		case ctx.Err() == nil && pgconn.Timeout(err):
			asked, cancel := context.WithTimeout(ctx, quiet)
			err = conn.Ping(asked)
			cancel()
		}
		if err != nil {
			return err
		}
	}
}
