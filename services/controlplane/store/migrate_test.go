package store_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"skep/services/controlplane/store"
)

func TestMigrateTwiceAndAtOnce(t *testing.T) {
	dsn := shared.Server(t).Database(t)
	errs := make([]error, 12)
	parallel(len(errs), func(i int) { errs[i] = store.Migrate(t.Context(), dsn) })
	if err := errors.Join(append(errs, store.Migrate(t.Context(), dsn))...); err != nil {
		t.Fatal(err)
	}
	twice := query[int64](t, dsn, "SELECT version_id FROM goose_db_version GROUP BY version_id HAVING count(*) > 1")
	if len(twice) > 0 {
		t.Errorf("migrations %v ran more than once", twice)
	}
	openStore(t, dsn)

	// During an update the older server meets newer tables.
	shared.Server(t).Exec(t, dsn, "INSERT INTO skep.goose_db_version (version_id, is_applied) VALUES (9999, true)")
	if err := store.Migrate(t.Context(), dsn); err != nil {
		t.Errorf("newer tables: %v", err)
	}
	openStore(t, dsn)
}

// The role of a server owns its database at most.
func TestMigrateWithoutSuperuser(t *testing.T) {
	for _, test := range []struct {
		name       string
		statements []string
	}{
		{"owner of the database", []string{"ALTER DATABASE %d OWNER TO plain"}},
		{"may create", []string{"GRANT CREATE ON DATABASE %d TO plain"}},
		{"extension and schema are there", []string{
			"CREATE SCHEMA extensions", "GRANT USAGE ON SCHEMA extensions TO plain", "CREATE EXTENSION pgcrypto SCHEMA extensions",
			"CREATE SCHEMA skep AUTHORIZATION plain",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := shared.Server(t)
			dsn := server.Database(t)
			address, err := url.Parse(dsn)
			if err != nil {
				t.Fatal(err)
			}
			database := strings.TrimPrefix(address.Path, "/")
			server.Exec(t, dsn, `DO $$ BEGIN CREATE ROLE plain LOGIN PASSWORD 'plain'; EXCEPTION WHEN duplicate_object THEN NULL; END $$`)
			for _, s := range test.statements {
				server.Exec(t, dsn, strings.ReplaceAll(s, "%d", database))
			}
			address.User = url.UserPassword("plain", "plain")
			if err := store.Migrate(t.Context(), address.String()); err != nil {
				t.Fatal(err)
			}
			newSource(t, openStore(t, address.String()), "main")
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	server := shared.Server(t)
	empty := server.Database(t)
	older := server.Database(t)
	if err := store.Migrate(t.Context(), older); err != nil {
		t.Fatal(err)
	}
	server.Exec(t, older, "UPDATE skep.goose_db_version SET version_id = 0")
	for name, dsn := range map[string]string{"a database that is empty": empty, "older tables": older} {
		s, err := store.Open(t.Context(), dsn, testKeys())
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "skep-server migrate") {
			t.Errorf("%s: got %v, want to be told what to run", name, err)
		}
	}

	const password = "hunter2hunter2"
	for _, dsn := range []string{
		"postgres://u:" + password + "@[::1/x", "host=/nowhere port=x password=" + password,
		"postgres://u:" + password + "@127.0.0.1:1/x",
	} {
		_, err := store.Open(t.Context(), dsn, testKeys())
		if err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("Open(%q): %v", strings.ReplaceAll(dsn, password, "..."), err)
		}
		if err := store.Migrate(t.Context(), dsn); err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("Migrate(%q): %v", strings.ReplaceAll(dsn, password, "..."), err)
		}
	}
}
