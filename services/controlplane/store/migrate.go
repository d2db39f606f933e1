package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	schema       = "skep"
	versionTable = schema + ".goose_db_version"

	// migrationLock is the advisory lock of whoever changes the tables.
	migrationLock = 0x736b65702d637074
	lockSeconds   = 300
)

var errNotMigrated = errors.New("the database is not up to date: run skep-server migrate")

// Migrate brings the tables up to date; one caller at a time does, and the
// others find it done. The role needs to own the schema skep, or to be allowed
// to create it; the same goes for the extension pgcrypto, which PostgreSQL lets
// any role install that may create in the database.
func Migrate(ctx context.Context, url string) error {
	config, err := parse(url)
	if err != nil {
		return err
	}
	if err := prepare(ctx, config.ConnConfig); err != nil {
		return fmt.Errorf("migrate the database: %w", err)
	}
	if config.ConnConfig.RuntimeParams["search_path"], err = searchPath(ctx, config.ConnConfig); err != nil {
		return fmt.Errorf("migrate the database: %w", err)
	}
	pool := stdlib.OpenDB(*config.ConnConfig)
	defer pool.Close()
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(migrationLock), lock.WithLockTimeout(1, lockSeconds))
	if err != nil {
		return err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, pool, files, goose.WithTableName(versionTable),
		goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("migrate the database: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate the database: %w", err)
	}
	return nil
}

// prepare makes what the table of versions needs. What is there already is not
// asked for: IF NOT EXISTS checks permissions first, and two callers race.
func prepare(ctx context.Context, config *pgx.ConnConfig) error {
	conn, err := pgx.ConnectConfig(ctx, config.Copy())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
			return err
		}
		for _, thing := range []struct{ exists, create string }{
			{`SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'skep')`, `CREATE SCHEMA skep`},
			{`SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pgcrypto')`, `CREATE EXTENSION pgcrypto SCHEMA skep`},
		} {
			var exists bool
			if err := tx.QueryRow(ctx, thing.exists).Scan(&exists); err != nil {
				return err
			}
			if exists {
				continue
			}
			if _, err := tx.Exec(ctx, thing.create); err != nil {
				return fmt.Errorf("%s: %w", thing.create, err)
			}
		}
		return nil
	})
}

// checkVersion lets an older server run on newer tables, never the reverse.
func (s *Store) checkVersion(ctx context.Context) error {
	newest, err := newestMigration()
	if err != nil {
		return err
	}
	var exists bool
	if err := s.pool.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, versionTable).Scan(&exists); err != nil {
		return fmt.Errorf("look up the version of the database: %w", err)
	}
	if !exists {
		return errNotMigrated
	}
	var version int64
	if err := s.pool.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM `+versionTable).Scan(&version); err != nil {
		return fmt.Errorf("look up the version of the database: %w", err)
	}
	if version < newest {
		return fmt.Errorf("%w: it is at version %d, this program wants %d", errNotMigrated, version, newest)
	}
	return nil
}

func newestMigration() (int64, error) {
	files, err := fs.ReadDir(migrations, "migrations")
	if err != nil {
		return 0, err
	}
	var newest int64
	for _, f := range files {
		version, err := goose.NumericComponent(path.Base(f.Name()))
		if err != nil {
			return 0, err
		}
		newest = max(newest, version)
	}
	return newest, nil
}
