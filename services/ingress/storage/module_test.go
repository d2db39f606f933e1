package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"skep/internal/postgrestest"
)

func TestCaddyfile(t *testing.T) {
	for name, c := range map[string]struct{ options, want, err string }{
		"dsn":               {"dsn postgres://u:p@h/d", `{"module":"postgres","dsn":"postgres://u:p@h/d"}`, ""},
		"key=value":         {`dsn "host=h dbname=d"`, `{"module":"postgres","dsn":"host=h dbname=d"}`, ""},
		"file":              {"dsn_file /run/secrets/dsn\ncopy /data/copy", `{"module":"postgres","dsn_file":"/run/secrets/dsn","copy":"/data/copy"}`, ""},
		"placeholder stays": {"dsn {env.DSN}", `{"module":"postgres","dsn":"{env.DSN}"}`, ""},
		"nothing":           {"", "", "needs dsn or dsn_file"},
		"both":              {"dsn a\ndsn_file b", "", "one of them"},
		"twice":             {"dsn a\ndsn b", "", "dsn is there twice"},
		"unknown":           {"host h", "", `no "host"`},
		"two values":        {"dsn host=h dbname=d", "", "dsn takes one value"},
		"no value":          {"dsn", "", "dsn takes one value"},
	} {
		config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte("{\nstorage postgres {\n"+c.options+"\n}\n}\n"), nil)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: got %v, want %s", name, err, c.err)
			}
			continue
		}
		var got struct{ Storage json.RawMessage }
		if err := errors.Join(err, json.Unmarshal(config, &got)); err != nil || !sameJSON(t, string(got.Storage), c.want) {
			t.Errorf("%s: got %s (%v), want %s", name, got.Storage, err, c.want)
		}
	}
}

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y map[string]string
	if err := errors.Join(json.Unmarshal([]byte(a), &x), json.Unmarshal([]byte(b), &y)); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(x) == fmt.Sprint(y)
}

func TestSettings(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_DATA_HOME", dir)
	file := filepath.Join(dir, "dsn")
	if err := os.WriteFile(file, []byte("postgres://u:p@h/{env.NOT_REPLACED}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TEST_DSN", "postgres://u:p@h/d")
	t.Setenv("TEST_FILE", file)
	for name, c := range map[string]struct {
		module Postgres
		want   identity
		err    string
	}{
		"environment":        {Postgres{DSN: "{env.TEST_DSN}"}, identity{"postgres://u:p@h/d", filepath.Join(dir, "caddy", "postgres")}, ""},
		"file":               {Postgres{DSNFile: "{env.TEST_FILE}", Copy: dir}, identity{"postgres://u:p@h/{env.NOT_REPLACED}", dir}, ""},
		"file placeholder":   {Postgres{DSN: "{file." + file + "}", Copy: dir}, identity{"postgres://u:p@h/{env.NOT_REPLACED}", dir}, ""},
		"nothing":            {Postgres{}, identity{}, "set dsn or dsn_file"},
		"empty environment":  {Postgres{DSN: "{env.TEST_UNSET}"}, identity{}, "empty"},
		"file is not there":  {Postgres{DSNFile: file + "x"}, identity{}, "dsn_file"},
		"both, only now":     {Postgres{DSN: "{env.TEST_DSN}", DSNFile: file}, identity{}, "not both"},
		"unknown expression": {Postgres{DSN: "{bee.sting}"}, identity{}, "bee.sting"},
	} {
		got, err := c.module.identify()
		if c.err == "" && (err != nil || got != c.want) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: got %v (%v), want %v (%s)", name, got, err, c.want, c.err)
		}
	}
}

func TestPasswordIsNotPrinted(t *testing.T) {
	for _, dsn := range []string{"postgres://bee:honey@host:port/hive", "host=h password='honey", "honey", "postgres://bee:honey@[::1/hive"} {
		if _, err := newDatabase(t.Context(), dsn, testPace.timeout); err == nil || strings.Contains(err.Error(), "honey") {
			t.Errorf("%s: got %v", dsn, err)
		}
	}
	server := postgrestest.Start(t)
	wrong, err := url.Parse(server.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	wrong.User = url.UserPassword("postgres", "honey")
	s := newStore(t, wrong.String())
	if err := s.Store(t.Context(), "a", nil); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "28P01") || strings.Contains(err.Error(), "honey") {
		t.Errorf("got %v", err)
	}
	if text := fmt.Sprintf("%v %+v %s", s, s, s); strings.Contains(text, "honey") || !strings.HasPrefix(text, "postgres:/") {
		t.Errorf("Caddy logs the storage as %s", text)
	}
}

func TestConfigurationsShareAStore(t *testing.T) {
	provision := func(p *Postgres) (*store, context.CancelFunc) {
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		if err := p.Provision(ctx); err != nil {
			t.Fatal(err)
		}
		return p.store, cancel
	}
	dir := t.TempDir()
	old, next, other := &Postgres{DSN: "host=/nonexistent", Copy: dir}, &Postgres{DSN: "host=/nonexistent", Copy: dir}, &Postgres{DSN: "host=/nonexistent dbname=other", Copy: dir}
	a, cancel := provision(old)
	b, cancelNext := provision(next)
	defer cancelNext()
	c, cancelOther := provision(other)
	defer cancelOther()
	if a != b || a == c {
		t.Errorf("stores are %p %p %p, want the first two the same", a, b, c)
	}
	cancel() // Caddy ends a configuration's context before it cleans up
	for _, p := range []*Postgres{old, other} {
		if err := p.Cleanup(); err != nil {
			t.Error(err)
		}
	}
	select {
	case <-b.done:
		t.Error("the store ended with its first configuration")
	case <-c.done:
	}
	if err := next.Cleanup(); err != nil {
		t.Error(err)
	}
	<-b.done
	if err := (&Postgres{}).Cleanup(); err != nil {
		t.Errorf("cleaning up what was not provisioned: %v", err)
	}
}

func TestTables(t *testing.T) {
	server := postgrestest.Start(t)
	dsn := server.Database(t)
	failed := make(chan error, 8)
	for i := range cap(failed) {
		s := newStore(t, dsn)
		go func() { failed <- s.Store(t.Context(), fmt.Sprintf("a/%d", i), []byte("x")) }()
	}
	for range cap(failed) {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	s := newStore(t, dsn)
	if got, err := s.List(t.Context(), "a", false); err != nil || len(got) != cap(failed) {
		t.Errorf("got %v (%v)", got, err)
	}
	if version, err := tableVersion(t.Context(), s.db.pool); err != nil || version != len(migrations) {
		t.Errorf("version %d (%v), want %d", version, err, len(migrations))
	}

	// A newer ingress was here, and this one's role may use its tables only.
	server.Exec(t, dsn,
		"INSERT INTO caddy_storage_versions (version) VALUES (1000)",
		"CREATE ROLE bee LOGIN PASSWORD 'honey'",
		"GRANT SELECT, INSERT, UPDATE, DELETE ON caddy_storage, caddy_locks, caddy_storage_versions TO bee")
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("bee", "honey")
	bee := newStore(t, u.String())
	if err := bee.Store(t.Context(), "a/bee", []byte("x")); err != nil {
		t.Error(err)
	}
	if err := bee.Lock(t.Context(), "l"); err != nil {
		t.Error(err)
	}
	if err := bee.Unlock(t.Context(), "l"); err != nil {
		t.Error(err)
	}
}
