// Package store keeps what the control plane must not lose, in PostgreSQL: a
// schema of its own, skep, in a database that it may share with the engine.
//
// Every method is one transaction, bounds what it is given and wraps its
// errors: controlplane.ErrNotFound, ErrConflict, ErrInvalid, ErrBusy and
// ErrOver say what happened. A connection that the server ended is replaced
// and the call repeated once.
//
// Queries are in queries/; sqlc makes internal/db of them.
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"skep/services/controlplane"
	"skep/services/controlplane/store/internal/db"
)

// Store is the database. Its exported fields are set before it is used, or not
// at all.
type Store struct {
	// Lease is how long a dispatcher has for the deliveries that it claimed.
	Lease time.Duration
	// StepLease is how long a step is held for a worker that has died.
	StepLease time.Duration
	// Log hears of what goes on behind the calls. No secret reaches it.
	Log *slog.Logger

	pool  *pgxpool.Pool
	keys  keyring
	begin func() // starts what goes on behind the calls, once
	stop  context.CancelFunc
	down  sync.WaitGroup

	added     bell // a delivery
	published bell // an event
}

const (
	// defaultLease outlasts the engine's client, which takes 31 seconds to find
	// that the engine is away.
	defaultLease     = 45 * time.Second
	defaultStepLease = 30 * time.Second

	// defaultConnections are as many as deliveries whose commits share a write to
	// the disk: half of them acknowledge a quarter less. They are opened as they are
	// needed; two servers, a worker and the engine leave a quarter of a
	// stock PostgreSQL's 100 to others.
	defaultConnections = 16
)

// Open connects to a database that Migrate has been at. It fails without the
// keys of all secrets that are there. The URL may set pgxpool's parameters,
// such as pool_max_conns.
func Open(ctx context.Context, url string, keys Keys) (*Store, error) {
	ring, err := keys.ring()
	if err != nil {
		return nil, err
	}
	config, err := parse(url)
	if err != nil {
		return nil, err
	}
	path, err := searchPath(ctx, config.ConnConfig)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	config.ConnConfig.RuntimeParams["search_path"] = path
	config.ConnConfig.Tracer = queryTracer{}
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		conn.TypeMap().RegisterType(&pgtype.Type{
			Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
		})
		return nil
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	s := &Store{
		Lease: defaultLease, StepLease: defaultStepLease, Log: slog.Default(),
		pool: pool, keys: ring, added: make(bell, 1), published: make(bell, 1),
	}
	for _, check := range []func(context.Context) error{s.checkVersion, s.checkKeys, s.checkLogging} {
		if err := check(ctx); err != nil {
			pool.Close()
			return nil, err
		}
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.begin = sync.OnceFunc(func() {
		s.down.Go(func() { s.tell(background) })
	})
	return s, nil
}

// Close waits for calls that are under way.
func (s *Store) Close() {
	s.stop()
	s.down.Wait()
	s.pool.Close()
}

// Ping says whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	return s.do(ctx, "ping the database", func(*db.Queries) error { return s.pool.Ping(ctx) })
}

func parse(url string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		// The error may quote the URL, and the URL holds the password.
		return nil, errors.New("the database's address is neither a PostgreSQL URL nor key=value pairs")
	}
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = defaultConnections
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "skep-server"
	}
	return config, nil
}

// searchPath is where tables and pgcrypto's functions are: whoever installed
// the extension chose a schema for it.
func searchPath(ctx context.Context, config *pgx.ConnConfig) (string, error) {
	conn, err := pgx.ConnectConfig(ctx, config.Copy())
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	var extension string
	err = conn.QueryRow(ctx, `SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
		WHERE e.extname = 'pgcrypto'`).Scan(&extension)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", errNotMigrated
	}
	if err != nil {
		return "", err
	}
	return schema + ", " + pgx.Identifier{extension}.Sanitize(), nil
}

// do runs f, and once more if the connection that it was given had ended.
func (s *Store) do(ctx context.Context, action string, f func(*db.Queries) error) error {
	s.begin()
	q := db.New(s.pool)
	err := f(q)
	if connectionLost(err) && ctx.Err() == nil {
		s.pool.Reset()
		err = f(q)
	}
	return wrap(action, err)
}

// inTx is do for calls of more than one statement.
func (s *Store) inTx(ctx context.Context, action string, f func(*db.Queries) error) error {
	return s.do(ctx, action, func(*db.Queries) error {
		return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return f(db.New(tx)) })
	})
}

// connectionLost says that the server ended the connection, or did not take the
// query at all. A server that cannot be reached is not worth a second attempt.
func connectionLost(err error) bool {
	var answer *pgconn.PgError
	var connect *pgconn.ConnectError
	var network *net.OpError
	switch {
	case err == nil, errors.As(err, &connect):
		return false
	case errors.As(err, &answer):
		return strings.HasPrefix(answer.Code, "57P") // shut down by the operator
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network) || pgconn.SafeToRetry(err)
}

// SQLSTATE, https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	notNullViolation    = "23502"
	foreignKeyViolation = "23503"
	uniqueViolation     = "23505"
	checkViolation      = "23514"
)

// wrap says what was done and what of the domain's errors it was. Messages of
// PostgreSQL name columns and constraints; its details, which quote rows, stay
// behind.
func wrap(action string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("%s: %w", action, controlplane.ErrNotFound)
	}
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return fmt.Errorf("%s: %w", action, err)
	}
	switch code := answer.Code; {
	case code == uniqueViolation:
		return fmt.Errorf("%s: %w", action, controlplane.ErrConflict)
	case code == foreignKeyViolation && strings.HasPrefix(answer.Message, "insert"):
		return fmt.Errorf("%s: %s: %w", action, referred(answer.ConstraintName), controlplane.ErrNotFound)
	case code == foreignKeyViolation:
		return fmt.Errorf("%s: %w: a %s refers to it", action, controlplane.ErrConflict, answer.TableName)
	case code == checkViolation, code == notNullViolation:
		return fmt.Errorf("%s: %w: %s", action, controlplane.ErrInvalid, answer.ConstraintName+answer.ColumnName)
	case strings.HasPrefix(code, "22"): // data exception
		return fmt.Errorf("%s: %w: SQLSTATE %s", action, controlplane.ErrInvalid, code)
	}
	return fmt.Errorf("%s: %w", action, err)
}

// referred is what a row names that is not there, by the constraint's name:
// PostgreSQL makes it of the columns.
func referred(constraint string) string {
	for _, what := range []string{"integration", "task", "project", "source"} {
		if strings.Contains(constraint, "_"+what) {
			return "the " + what + " that it names"
		}
	}
	return "what it refers to"
}

// one turns a number of rows into ErrNotFound.
func one(rows int64, err error) error {
	if err == nil && rows == 0 {
		return controlplane.ErrNotFound
	}
	return err
}
