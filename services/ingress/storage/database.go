package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// migrations lead from each version of the tables to the next. They only add:
// during an update an older ingress runs on the newer tables.
var migrations = []string{
	// Keys compare by bytes, so that what is below a folder is one range.
	`CREATE TABLE caddy_storage (
		key      text COLLATE "C" PRIMARY KEY,
		value    bytea NOT NULL,
		modified timestamptz NOT NULL
	);
	CREATE TABLE caddy_locks (
		name    text COLLATE "C" PRIMARY KEY,
		token   text NOT NULL UNIQUE,
		expires timestamptz NOT NULL
	)`,
}

// migrationLock is the advisory lock of whoever changes the tables.
const migrationLock = 0x736b65702d636572

// database speaks SQL. Every call has a deadline, and is safe to repeat.
type database struct {
	pool     *pgxpool.Pool
	timeout  time.Duration
	gate     chan struct{} // held by whoever looks at the tables' version
	migrated atomic.Bool
}

func newDatabase(ctx context.Context, dsn string, timeout time.Duration) (*database, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		// The error may quote the DSN, and the DSN holds the password.
		return nil, errors.New("the DSN is neither a PostgreSQL URL nor key=value pairs")
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "skep-ingress"
	}
	// The pool does not connect before it is used, so nothing is waited for.
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the connection pool: %w", err)
	}
	return &database{pool: pool, timeout: timeout, gate: make(chan struct{}, 1)}, nil
}

// String names the database for logs.
func (d *database) String() string {
	c := d.pool.Config().ConnConfig
	return "postgres:" + c.Host + "/" + c.Database
}

// do runs f with a deadline, and once more if the server ended the connection
// that f was given.
func (d *database) do(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	attempt := func() error {
		if err := d.migrate(ctx); err != nil {
			return err
		}
		return f(ctx)
	}
	err := attempt()
	if connectionLost(err) && ctx.Err() == nil {
		d.pool.Reset()
		err = attempt()
	}
	return err
}

func connectionLost(err error) bool {
	var connect *pgconn.ConnectError
	switch {
	case err == nil, errors.Is(err, pgx.ErrNoRows), errors.As(err, &connect), refuses(err):
		return false
	}
	return true
}

// refuses reports whether a server answered, and that it will not: a password,
// a right or room on its disk is missing. A retry alone does not mend that.
func refuses(err error) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && !strings.HasPrefix(answer.Code, "57P") // it stops or starts
}

// migrate brings the tables up to date, once.
func (d *database) migrate(ctx context.Context) error {
	if d.migrated.Load() {
		return nil
	}
	select {
	case d.gate <- struct{}{}:
		defer func() { <-d.gate }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if d.migrated.Load() {
		return nil
	}
	version, err := tableVersion(ctx, d.pool)
	if err != nil {
		return err
	}
	// A role that may not create tables can use those that are there.
	if version < len(migrations) {
		if err := pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error { return upgrade(ctx, tx) }); err != nil {
			return fmt.Errorf("create tables: %w", err)
		}
	}
	d.migrated.Store(true)
	return nil
}

// upgrade lets one ingress at a time change the tables, each version once.
func upgrade(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS caddy_storage_versions (
		version int PRIMARY KEY,
		applied timestamptz NOT NULL DEFAULT clock_timestamp()
	)`); err != nil {
		return err
	}
	version, err := tableVersion(ctx, tx)
	if err != nil {
		return err
	}
	for ; version < len(migrations); version++ {
		if _, err := tx.Exec(ctx, migrations[version]); err != nil {
			return fmt.Errorf("version %d: %w", version+1, err)
		}
		if _, err := tx.Exec(ctx, `INSERT INTO caddy_storage_versions (version) VALUES ($1)`, version+1); err != nil {
			return err
		}
	}
	return nil
}

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func tableVersion(ctx context.Context, q querier) (int, error) {
	var version int
	var exists bool
	if err := q.QueryRow(ctx, `SELECT to_regclass('caddy_storage_versions') IS NOT NULL`).Scan(&exists); err != nil || !exists {
		return 0, err
	}
	err := q.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM caddy_storage_versions`).Scan(&version)
	return version, err
}
