package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"skep/internal/polltest"
	"skep/services/controlplane"
)

func TestOnce(t *testing.T) {
	s, dsn := newStore(t)
	run := newRun(t, s, "k", "")
	calls := 0
	step := func(context.Context) ([]byte, error) {
		calls++
		return fmt.Appendf(nil, `{"call": %d}`, calls), nil
	}
	for range 3 {
		if got, err := s.Once(t.Context(), run, "comment", step); err != nil || string(got) != `{"call": 1}` {
			t.Errorf("Once = %s, %v", got, err)
		}
		query[string](t, dsn, "UPDATE effect SET until = now() RETURNING step") // what is done stays done
	}
	if _, err := s.Once(t.Context(), run, "status", step); err != nil || calls != 2 {
		t.Errorf("another step: %d calls, %v", calls, err)
	}
	if got, err := s.Once(t.Context(), newRun(t, s, "k2", ""), "comment", func(context.Context) ([]byte, error) { return nil, nil }); err != nil || string(got) != "null" {
		t.Errorf("a step without a result: %s, %v", got, err)
	}
}

func TestOnceAfterFailure(t *testing.T) {
	s, _ := newStore(t)
	run := newRun(t, s, "k", "")
	cause := errors.New("cause")
	if _, err := s.Once(t.Context(), run, "x", func(context.Context) ([]byte, error) { return nil, cause }); !errors.Is(err, cause) {
		t.Errorf("the step's error is lost: %v", err)
	}
	if _, err := s.Once(t.Context(), run, "x", func(context.Context) ([]byte, error) { return []byte("{"), nil }); !errors.Is(err, controlplane.ErrInvalid) {
		t.Errorf("a result that is no JSON: %v", err)
	}
	// The caller gives up while the step is at work: its effect is recorded.
	ctx, cancel := context.WithCancel(t.Context())
	got, err := s.Once(ctx, run, "x", func(context.Context) ([]byte, error) {
		cancel()
		return []byte("7"), nil
	})
	if err != nil || string(got) != "7" {
		t.Fatalf("Once = %s, %v", got, err)
	}
	if got, err := s.Once(t.Context(), run, "x", nil); err != nil || string(got) != "7" {
		t.Errorf("Once again = %s, %v", got, err)
	}
	nobody := controlplane.RunID("00000000-0000-0000-0000-000000000000")
	if _, err := s.Once(t.Context(), nobody, "x", nil); !errors.Is(err, controlplane.ErrNotFound) {
		t.Errorf("a step of no run: %v", err)
	}
}

func TestOnceAtOnce(t *testing.T) {
	s, _ := newStore(t)
	run := newRun(t, s, "k", "")
	var calls, results, busy atomic.Int64
	for range 20 { // until the one that works is done, the others are told so
		parallel(8, func(int) {
			_, err := s.Once(t.Context(), run, "x", func(context.Context) ([]byte, error) {
				calls.Add(1)
				return []byte("1"), nil
			})
			switch {
			case err == nil:
				results.Add(1)
			case errors.Is(err, controlplane.ErrBusy):
				busy.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	if calls.Load() != 1 || results.Load()+busy.Load() != 160 || results.Load() < 152 {
		t.Errorf("%d calls, %d results, %d busy", calls.Load(), results.Load(), busy.Load())
	}
}

func TestOnceTakenOver(t *testing.T) {
	s, dsn := newStore(t)
	s.StepLease = 90 * time.Millisecond
	run := newRun(t, s, "k", "")

	// While it works the lease is extended, however long that takes.
	_, err := s.Once(t.Context(), run, "long", func(ctx context.Context) ([]byte, error) {
		until := query[time.Time](t, dsn, "SELECT until FROM effect")[0]
		polltest.Until(t, func() error {
			if query[time.Time](t, dsn, "SELECT until FROM effect")[0].Sub(until) < 3*s.StepLease {
				return errors.New("the lease is not extended")
			}
			return ctx.Err()
		})
		return nil, nil
	})
	if err != nil {
		t.Error(err)
	}

	// A worker that lost its lease is told to stop, and its result is not taken.
	_, err = s.Once(t.Context(), run, "lost", func(ctx context.Context) ([]byte, error) {
		query[string](t, dsn, "UPDATE effect SET holder = gen_random_uuid() WHERE step = 'lost' RETURNING step")
		<-ctx.Done()
		return []byte("1"), nil
	})
	if !errors.Is(err, controlplane.ErrBusy) {
		t.Errorf("a worker that lost its lease: %v", err)
	}
	if left := query[string](t, dsn, "SELECT result::text FROM effect WHERE step = 'lost' AND result IS NOT NULL"); len(left) > 0 {
		t.Errorf("its result %s was recorded", left)
	}
	// The one that took over dies, and its lease runs out.
	query[string](t, dsn, "UPDATE effect SET until = now() WHERE step = 'lost' RETURNING step")
	if got, err := s.Once(t.Context(), run, "lost", func(context.Context) ([]byte, error) { return []byte("2"), nil }); err != nil || string(got) != "2" {
		t.Errorf("after the lease: %s, %v", got, err)
	}
}
