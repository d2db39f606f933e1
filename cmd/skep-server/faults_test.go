package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"skep/services/controlplane"
)

// lock keeps a run's row, so that its result cannot be stored. Rows that refer
// to it can: log lines, effects.
type lock struct {
	f    *faulty
	conn *pgx.Conn
	tx   pgx.Tx
}

func (f *faulty) lock(name string) *lock {
	f.Helper()
	r, err := f.run(name)
	if err != nil {
		f.Fatal(err)
	}
	l := &lock{f: f}
	if l.conn, err = pgx.Connect(f.Context(), f.database); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = l.conn.Close(f.Context()) }) // closed already, in most tests
	if l.tx, err = l.conn.Begin(f.Context()); err != nil {
		f.Fatal(err)
	}
	if _, err := l.tx.Exec(f.Context(), "SELECT FROM skep.run WHERE id = $1 FOR NO KEY UPDATE", string(r.ID)); err != nil {
		f.Fatal(err)
	}
	return l
}

const blocked = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

// await waits until somebody wants the row.
func (l *lock) await() {
	l.f.Helper()
	l.f.await("a result is about to be stored", func() error {
		var n int
		if err := l.tx.QueryRow(l.f.Context(), "SELECT count(*) "+blocked).Scan(&n); err != nil {
			return err
		}
		if n == 0 {
			return errors.New("nobody waits for the run")
		}
		return nil
	})
}

// drop ends statements of clients that are dead, which would go on otherwise.
func (l *lock) drop() {
	l.f.Helper()
	if _, err := l.tx.Exec(l.f.Context(), "SELECT pg_terminate_backend(pid) "+blocked); err != nil {
		l.f.Fatal(err)
	}
}

func (l *lock) free() { _ = l.conn.Close(l.f.Context()) } // the server is gone, in one test

// One fault meets runs at four points: queued, in a check, in a deploy, and with
// the result reported but not stored. All of them end well, once, and nothing
// stays behind. A command that was killed half-way is run again, and so are
// checks and plans before it, which change nothing; a deploy that ended is not.
func TestFaults(t *testing.T) {
	for name, test := range map[string]struct {
		fault func(*faulty, *lock)
		again bool // jobs were killed, and run again
	}{
		"server killed": {again: true, fault: func(f *faulty, l *lock) {
			f.kill(f.server.Pid)
			f.await("the children end", func() error {
				if left := f.processes(); len(left) > 0 {
					return fmt.Errorf("still there: %v", left)
				}
				return nil
			})
			l.drop()
			f.start()
		}},
		"worker killed": {again: true, fault: func(f *faulty, l *lock) {
			f.kill(f.child("-child"))
			l.drop()
		}},
		"engine killed": {fault: func(f *faulty, _ *lock) { f.kill(f.child("engine")) }},
		"PostgreSQL killed": {fault: func(f *faulty, _ *lock) {
			f.postgres.Crash(f.T)
			f.postgres.Resume(f.T)
		}},
		"server told to end": {fault: func(f *faulty, l *lock) {
			pid := f.server.Pid
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
				f.Fatal(err)
			}
			f.await("the server listens no more", func() error {
				if !strings.Contains(f.log.String(), "draining") {
					return errors.New("it does not say that it drains")
				}
				return nil
			})
			l.free()
			f.await("the server drains", func() error {
				f.release()
				if slices.ContainsFunc(f.processes(), func(p process) bool { return p.pid == pid }) {
					return errors.New("it is there")
				}
				return nil
			})
			f.start()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFaulty(t, 3)
			commits := map[string]controlplane.Commit{"storing": f.push("storing", "deploy")}
			f.awaitHeld("storing")
			l := f.lock("storing")
			f.await("the run goes on", func() error {
				f.release("storing")
				return f.state("storing", commits["storing"])
			})
			l.await()
			commits["deploying"] = f.push("deploying", "deploy")
			f.awaitHeld("deploying")
			commits["checking"] = f.push("checking", "check")
			f.awaitHeld("checking")
			commits["queued"] = f.push("queued", "deploy") // all slots are taken
			f.await("a run is queued", func() error {
				r, err := f.run("queued")
				if err == nil && r.State != controlplane.RunQueued {
					err = fmt.Errorf("it is %s", r.State)
				}
				return err
			})

			test.fault(f, l)
			l.free()
			commits["late"] = f.push("late", "deploy")
			f.await("all runs end", func() error {
				f.release()
				for name, c := range commits {
					if r, err := f.run(name); err != nil || r.State != controlplane.RunSucceeded {
						return fmt.Errorf("%s is %s: %s, %w", name, r.State, r.Error, err)
					}
					if err := f.state(name, c); err != nil {
						return err
					}
				}
				return nil
			})
			want := map[string]int{"storing": 1, "deploying": 1, "checking": 1, "queued": 1, "late": 1}
			if test.again {
				want["deploying"], want["checking"] = 2, 2
			}
			for name, n := range want {
				got := len(f.seen[f.folder(name)])
				if got != n && (name != "checking" || got != 2) { // a check changes nothing
					t.Errorf("the held command of %s ran %d times, want %d", name, got, n)
				}
			}
			f.end()
			if n := f.stored("run"); n != len(commits) {
				t.Errorf("%d runs", n)
			}
			if n := f.stored("delivery WHERE state <> 'dispatched' AND event <> 'ping'"); n != 0 {
				t.Errorf("%d deliveries were not dispatched", n)
			}
		})
	}
}
