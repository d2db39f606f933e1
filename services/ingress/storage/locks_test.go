package storage

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"skep/internal/polltest"
	"skep/internal/postgrestest"
)

func TestLocksAcrossProcesses(t *testing.T) {
	server := postgrestest.Start(t)

	t.Run("nobody counts twice", func(t *testing.T) {
		dsn := server.Database(t)
		s := newStore(t, dsn)
		if err := s.Store(t.Context(), "count", []byte("0")); err != nil {
			t.Fatal(err)
		}
		one, two := play(t, "count", dsn, t.TempDir()), play(t, "count", dsn, t.TempDir())
		one.expect(t, "counted")
		two.expect(t, "counted")
		if got, err := s.Load(t.Context(), "count"); err != nil || string(got) != strconv.Itoa(2*rounds) {
			t.Errorf("got %s (%v), want %d", got, err, 2*rounds)
		}
	})

	t.Run("a holder lives", func(t *testing.T) {
		dsn := server.Database(t)
		s := newStore(t, dsn)
		holder := play(t, "hold", dsn, t.TempDir(), "l")
		holder.expect(t, "locked")
		// It renews the lease more often than a lease is long.
		renewals, last := 0, time.Time{}
		polltest.Until(t, func() error {
			if ok, err := s.TryLock(t.Context(), "l"); ok || err != nil {
				t.Fatalf("the lock was taken from a holder that lives (%v)", err)
			}
			if now := expiry(t, s, "l"); !now.Equal(last) {
				renewals, last = renewals+1, now
			}
			if renewals <= 5 {
				return fmt.Errorf("it was renewed %d times", renewals)
			}
			return nil
		})
		holder.end(t)
		if err := s.Lock(t.Context(), "l"); err != nil {
			t.Error(err)
		}
	})

	t.Run("a holder is killed", func(t *testing.T) {
		dsn := server.Database(t)
		s := newStore(t, dsn)
		holder := play(t, "hold", dsn, t.TempDir(), "l")
		holder.expect(t, "locked")
		if err := holder.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		if err := s.Lock(ctx, "l"); err != nil {
			t.Error(err)
		}
	})
}

func TestLockSurvivesARestartOfTheDatabase(t *testing.T) {
	server := postgrestest.Start(t)
	dsn := server.Database(t)
	p := testPace
	p.lease = 5 * time.Minute // it does not run out while the database is away
	holder, waiter := openStore(t, dsn, t.TempDir(), p), openStore(t, dsn, t.TempDir(), p)
	if err := holder.Lock(t.Context(), "l"); err != nil {
		t.Fatal(err)
	}
	if ok, err := waiter.TryLock(t.Context(), "l"); ok || err != nil {
		t.Fatalf("the lock is free: %v (%v)", ok, err)
	}
	locked := make(chan error, 1)
	before := waiter.db.pool.Stat().AcquireCount() // the tables are there: from now on it counts questions for the lock
	go func() { locked <- waiter.Lock(t.Context(), "l") }()
	polltest.Until(t, func() error { // the waiter has asked, and asks again
		if waiter.db.pool.Stat().AcquireCount() < before+2 {
			return errors.New("nobody waits")
		}
		return nil
	})

	server.Halt(t)
	if err := holder.RenewLockLease(t.Context(), "l", time.Hour); err == nil {
		t.Error("a lease was renewed without a database")
	}
	server.Resume(t)

	if err := holder.RenewLockLease(t.Context(), "l", time.Hour); err != nil {
		t.Error(err)
	}
	select {
	case err := <-locked:
		t.Fatalf("two hold the lock (%v)", err)
	default:
	}
	if err := holder.Unlock(t.Context(), "l"); err != nil {
		t.Error(err)
	}
	if err := <-locked; err != nil {
		t.Error(err)
	}
}

func TestLocks(t *testing.T) {
	server := postgrestest.Start(t)
	t.Run("lost", func(t *testing.T) { testLostLock(t, server) })
	t.Run("lost to the same store", func(t *testing.T) { testLockLostToTheSameStore(t, server) })
	t.Run("not given back", func(t *testing.T) { testUnlockFails(t, server) })
	t.Run("given back at the end", func(t *testing.T) { testLocksAreGivenBackAtTheEnd(t, server) })
}

func testLostLock(t *testing.T, server *postgrestest.Server) {
	dsn := server.Database(t)
	loser, winner := newStore(t, dsn), newStore(t, dsn)
	if err := loser.Lock(t.Context(), "l"); err != nil {
		t.Fatal(err)
	}
	// As if the loser had not been able to renew it.
	polltest.Until(t, func() error {
		server.Exec(t, dsn, "UPDATE caddy_locks SET expires = to_timestamp(0)")
		ok, err := winner.TryLock(t.Context(), "l")
		if !ok {
			return fmt.Errorf("it is not free: %w", err)
		}
		return err
	})
	if err := loser.RenewLockLease(t.Context(), "l", time.Hour); err == nil {
		t.Error("a lost lock was renewed")
	}
	if err := loser.Unlock(t.Context(), "l"); err != nil {
		t.Errorf("unlock what was lost: %v", err)
	}
	if ok, err := loser.TryLock(t.Context(), "l"); ok || err != nil {
		t.Errorf("the loser released the winner's lock: got %v (%v)", ok, err)
	}
	if err := winner.Unlock(t.Context(), "l"); err != nil {
		t.Error(err)
	}
}

// A process can lose a lock to itself: two jobs of it want the same one.
func testLockLostToTheSameStore(t *testing.T, server *postgrestest.Server) {
	dsn := server.Database(t)
	s, other := newStore(t, dsn), newStore(t, dsn)
	if err := s.Lock(t.Context(), "l"); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, func() error {
		server.Exec(t, dsn, "UPDATE caddy_locks SET expires = to_timestamp(0)")
		ok, err := s.TryLock(t.Context(), "l")
		if !ok {
			return fmt.Errorf("it is not free: %w", err)
		}
		return err
	})
	if err := s.Unlock(t.Context(), "l"); err != nil {
		t.Error(err)
	}
	if ok, err := other.TryLock(t.Context(), "l"); ok || err != nil {
		t.Errorf("the first job released the second's lock: got %v (%v)", ok, err)
	}
	if err := s.Unlock(t.Context(), "l"); err != nil {
		t.Error(err)
	}
	if ok, err := other.TryLock(t.Context(), "l"); !ok || err != nil {
		t.Errorf("the second job did not release it: got %v (%v)", ok, err)
	}
}

// An Unlock that fails leaves nothing behind that the next one would take for
// its own.
func testUnlockFails(t *testing.T, server *postgrestest.Server) {
	dsn := server.Database(t)
	s, other := newStore(t, dsn), newStore(t, dsn)
	if err := s.Lock(t.Context(), "l"); err != nil {
		t.Fatal(err)
	}
	server.Halt(t)
	if err := s.Unlock(t.Context(), "l"); err == nil {
		t.Error("it was unlocked without a database")
	}
	server.Resume(t)
	polltest.Until(t, func() error {
		ok, err := s.TryLock(t.Context(), "l")
		if err == nil && !ok {
			err = errors.New("what was not given back does not run out")
		}
		return err
	})
	if err := s.Unlock(t.Context(), "l"); err != nil {
		t.Error(err)
	}
	if ok, err := other.TryLock(t.Context(), "l"); !ok || err != nil {
		t.Errorf("the second lock was not given back: got %v (%v)", ok, err)
	}
}

func testLocksAreGivenBackAtTheEnd(t *testing.T, server *postgrestest.Server) {
	dsn := server.Database(t)
	p := testPace
	p.lease = time.Hour
	s := openStore(t, dsn, t.TempDir(), p)
	if err := s.Lock(t.Context(), "l"); err != nil {
		t.Fatal(err)
	}
	if err := s.Destruct(); err != nil {
		t.Error(err)
	}
	if err := s.Unlock(t.Context(), "l"); err != nil {
		t.Error("Caddy unlocks after it closed the storage:", err)
	}
	if ok, err := newStore(t, dsn).TryLock(t.Context(), "l"); !ok || err != nil {
		t.Errorf("the lock is not free: got %v (%v)", ok, err)
	}
}

func expiry(t *testing.T, s *store, name string) (expires time.Time) {
	t.Helper()
	if err := s.db.pool.QueryRow(t.Context(), `SELECT expires FROM caddy_locks WHERE name = $1`, name).Scan(&expires); err != nil {
		t.Fatal(err)
	}
	return expires
}
