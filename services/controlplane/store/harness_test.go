package store_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"skep/internal/postgrestest"
	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/store"
)

var shared postgrestest.Shared

func TestMain(m *testing.M) {
	code := m.Run()
	if err := shared.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop PostgreSQL:", err)
		code = 1
	}
	os.Exit(code)
}

// Keys of tests. They are of the form of real ones.
var (
	oldKey = strings.Repeat("0f", 32)
	newKey = strings.Repeat("a5", 32)
)

func testKeys() store.Keys {
	return store.Keys{Current: "k1", All: map[store.KeyID]secrets.Value{"k1": value(oldKey)}}
}

func value(s string) secrets.Value { return secrets.NewValue([]byte(s)) }

// newStore opens a store on a database of its own.
func newStore(t testing.TB) (*store.Store, string) {
	t.Helper()
	dsn := shared.Server(t).Database(t)
	if err := store.Migrate(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	return openStore(t, dsn), dsn
}

func openStore(t testing.TB, dsn string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), dsn, testKeys())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.Log = slog.New(slog.DiscardHandler)
	return s
}

// query runs SQL behind the store's back and returns the first column.
func query[T any](t testing.TB, dsn, sql string, args ...any) []T {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "SET search_path = skep"); err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return found
}

// newSource stores a source and returns its id.
func newSource(t testing.TB, s *store.Store, name controlplane.Name) int64 {
	t.Helper()
	source, err := s.PutSource(t.Context(), controlplane.Source{Provider: controlplane.GitHub, Name: name, Secret: value("signs " + string(name))})
	if err != nil {
		t.Fatal(err)
	}
	return source.ID
}

// newRun starts a run.
func newRun(t testing.TB, s *store.Store, key, queue string) controlplane.RunID {
	t.Helper()
	id, created, err := s.Start(t.Context(), controlplane.Run{Key: key, Kind: controlplane.RunPlan, Queue: queue})
	if err != nil || !created {
		t.Fatalf("Start = created %v, %v", created, err)
	}
	return id
}

// parallel runs f n times at once.
func parallel(n int, f func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { f(i) })
	}
	all.Wait()
}
