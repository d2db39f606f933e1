package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"skep/internal/polltest"
	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/store"
)

func bothKeys(current store.KeyID) store.Keys {
	return store.Keys{Current: current, All: map[store.KeyID]secrets.Value{"k1": value(oldKey), "k2": value(newKey)}}
}

func TestKeysRefused(t *testing.T) {
	_, dsn := newStore(t)
	wiped := value(oldKey)
	wiped.Wipe()
	for name, keys := range map[string]store.Keys{
		"none":            {},
		"no current":      {All: map[store.KeyID]secrets.Value{"k1": value(oldKey)}},
		"another current": {Current: "k2", All: map[store.KeyID]secrets.Value{"k1": value(oldKey)}},
		"empty":           {Current: "k1", All: map[store.KeyID]secrets.Value{"k1": {}}},
		"a password":      {Current: "k1", All: map[store.KeyID]secrets.Value{"k1": value("correct horse battery staple")}},
		"short":           {Current: "k1", All: map[store.KeyID]secrets.Value{"k1": value(oldKey[2:])}},
		"wiped":           {Current: "k1", All: map[store.KeyID]secrets.Value{"k1": wiped}},
		"no id":           {Current: "", All: map[store.KeyID]secrets.Value{"": value(oldKey)}},
	} {
		s, err := store.Open(t.Context(), dsn, keys)
		if err == nil {
			s.Close()
			t.Errorf("keys that are %s are taken", name)
		} else if strings.Contains(err.Error(), oldKey[2:]) || strings.Contains(err.Error(), "battery") {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}

func TestReencrypt(t *testing.T) {
	const integrations, fields = 30, 4 // more than two batches
	old, dsn := newStore(t)
	for i := range integrations {
		values := map[string]secrets.Value{"reference": value("op://vault/item/field")}
		for j := range fields {
			values[fmt.Sprint("field", j)] = value(fmt.Sprint("secret ", i, " ", j))
		}
		in := controlplane.Integration{Provider: controlplane.GitHub, Name: controlplane.Name(fmt.Sprint("i", i))}
		if _, err := old.PutIntegration(t.Context(), in, values); err != nil {
			t.Fatal(err)
		}
	}
	newSource(t, old, "main")
	under := func(key string) int64 {
		return query[int64](t, dsn, `SELECT (SELECT count(*) FROM credential WHERE key_id = $1) + (SELECT count(*) FROM source WHERE key_id = $1)`, key)[0]
	}
	readable := func(s *store.Store) {
		t.Helper()
		for i := range integrations {
			got := credentials(t, s, controlplane.Name(fmt.Sprint("i", i)))
			if len(got) != fields+1 || got["field3"] != fmt.Sprint("secret ", i, " ", 3) || got["reference"] != "op://vault/item/field" {
				t.Fatalf("integration %d has %q", i, got)
			}
		}
		if source, err := s.Source(t.Context(), controlplane.GitHub, "main"); err != nil || source.Secret.Len() != len("signs main") {
			t.Fatalf("Source = %+v, %v", source, err)
		}
	}

	s, err := store.Open(t.Context(), dsn, bothKeys("k2"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	readable(s)

	// It is stopped in the second batch, which waits for a row that is locked.
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	lock, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Exec(t.Context(), `SELECT FROM skep.credential WHERE (integration_id, field) =
		(SELECT integration_id, field FROM skep.credential WHERE cipher IS NOT NULL ORDER BY integration_id, field OFFSET 70 LIMIT 1) FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		n, err := s.Reencrypt(ctx)
		if n != 50 {
			err = fmt.Errorf("%d secrets were changed before it was stopped: %w", n, err)
		}
		ended <- err
	}()
	polltest.Until(t, func() error {
		if n := under("k2"); n != 50 {
			return fmt.Errorf("%d secrets are under the new key", n)
		}
		if n := query[int64](t, dsn, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"); n[0] == 0 {
			return errors.New("it does not wait")
		}
		return nil
	})
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "before it was stopped") {
		t.Errorf("stopped: %v", err)
	}
	polltest.Until(t, func() error { // the batch that was under way is given up
		if n := query[int64](t, dsn, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"); n[0] > 0 {
			return errors.New("it still waits")
		}
		return nil
	})
	if err := lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	readable(s)

	// A server that has the new key alone does not start before all is done.
	alone := store.Keys{Current: "k2", All: map[store.KeyID]secrets.Value{"k2": value(newKey)}}
	if early, err := store.Open(t.Context(), dsn, alone); err == nil {
		early.Close()
		t.Error("a key that is needed can be dropped")
	}
	if n, err := s.Reencrypt(t.Context()); err != nil || n != integrations*fields+1-50 {
		t.Errorf("Reencrypt = %d, %v", n, err)
	}
	if n, err := s.Reencrypt(t.Context()); err != nil || n != 0 || under("k1") != 0 {
		t.Errorf("Reencrypt again = %d, %v; %d secrets are under the old key", n, err, under("k1"))
	}
	last, err := store.Open(t.Context(), dsn, alone)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(last.Close)
	readable(last)

	// A server that was not given the new key says so.
	if err := old.Credentials(t.Context(), controlplane.GitHub, "i0", nil); err == nil || !strings.Contains(err.Error(), "k2") {
		t.Errorf("with the old key alone: %v", err)
	}
}

// A key of the right name and the wrong bits opens nothing, and shows nothing.
func TestWrongKey(t *testing.T) {
	s, dsn := newStore(t)
	newSource(t, s, "main")
	wrong, err := store.Open(t.Context(), dsn, store.Keys{Current: "k1", All: map[store.KeyID]secrets.Value{"k1": value(newKey)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(wrong.Close)
	if _, err := wrong.Source(t.Context(), controlplane.GitHub, "main"); err == nil || strings.Contains(err.Error(), newKey) {
		t.Errorf("Source = %v", err)
	}
}
