package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"skep/internal/postgrestest"
	"skep/services/controlplane"
	"skep/services/controlplane/store"
)

// The server restarts between calls: no caller notices, and who listens hears
// of what happened meanwhile.
func TestRestart(t *testing.T) {
	server := postgrestest.Start(t)
	dsn := server.Database(t)
	if err := store.Migrate(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, dsn)
	source := newSource(t, s, "main")
	heard, told := make(chan int64, 100), make(chan struct{}, 100)
	listen(t, func() error { return s.Listen(t.Context(), func(id int64) { heard <- id }) })
	listen(t, func() error { return s.ListenDeliveries(t.Context(), func() { told <- struct{}{} }) })
	<-heard
	<-told

	for i := range 5 {
		// Every connection of the pool is in use once, so that all of them die.
		parallel(8, func(int) {
			if err := s.Ping(t.Context()); err != nil {
				t.Error(err)
			}
		})
		server.Halt(t)
		if _, _, err := s.Add(t.Context(), push(source, fmt.Sprint("away ", i))); err == nil {
			t.Error("a delivery is stored in no database")
		}
		server.Resume(t)
		key := fmt.Sprint(i)
		switch i {
		case 0:
			add(t, s, push(source, key))
		case 1:
			newRun(t, s, key, "")
		case 2:
			if _, err := s.PutIntegration(t.Context(), controlplane.Integration{Provider: controlplane.GitHub, Name: "main"}, nil); err != nil {
				t.Error(err)
			}
		case 3:
			if got := claim(t, s, 10); len(got) != 1 {
				t.Errorf("Claim = %v", got)
			}
		case 4:
			if err := s.Publish(t.Context(), controlplane.Event{Topic: "t", Type: "x"}); err != nil {
				t.Error(err)
			}
		}
		<-told
	}
	last, err := s.LastEvent(t.Context())
	if err != nil || last == 0 {
		t.Fatalf("LastEvent = %d, %v", last, err)
	}
	for id := int64(0); id < last; {
		id = <-heard
	}
}

// A step whose result cannot be written down is not reported as done, and is
// done again.
func TestRestartDuringStep(t *testing.T) {
	server := postgrestest.Start(t)
	dsn := server.Database(t)
	if err := store.Migrate(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, dsn)
	s.StepLease = time.Hour // a restart may take longer than the lease of a server
	run := newRun(t, s, "k", "")
	calls := 0
	_, err := s.Once(t.Context(), run, "x", func(context.Context) ([]byte, error) {
		calls++
		server.Halt(t)
		return []byte("1"), nil
	})
	if err == nil {
		t.Error("a result that is nowhere was reported")
	}
	server.Resume(t)
	if _, err := s.Once(t.Context(), run, "x", nil); !errors.Is(err, controlplane.ErrBusy) {
		t.Errorf("before the lease is over: %v", err)
	}
	server.Exec(t, dsn, "UPDATE skep.effect SET until = now()")
	if _, err := s.Once(t.Context(), run, "x", func(context.Context) ([]byte, error) {
		calls++
		return []byte("2"), nil
	}); err != nil || calls != 2 {
		t.Errorf("after it: %d calls, %v", calls, err)
	}
	// It restarts while the step works: the result is recorded all the same.
	if _, err := s.Once(t.Context(), run, "y", func(context.Context) ([]byte, error) {
		server.Halt(t)
		server.Resume(t)
		return []byte("3"), nil
	}); err != nil {
		t.Error(err)
	}
}
