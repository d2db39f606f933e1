package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"skep/internal/porttest"
	"skep/internal/postgrestest"
	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/child"
	"skep/services/controlplane/engine"
	"skep/services/controlplane/engine/hatchet"
	"skep/services/controlplane/store"
)

// role makes the test binary a child: an engine, or a worker.
const role = "SKEP_ENGINE_TEST_ROLE"

func TestMain(m *testing.M) {
	var err error
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	switch os.Getenv(role) {
	case "engine":
		err = runEngine(ctx)
	case "worker":
		err = runWorker(ctx)
	case "prepare":
		err = runPrepare(ctx)
	default:
		os.Exit(m.Run())
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func runEngine(ctx context.Context) error {
	var c hatchet.Config
	ctx, err := child.Config(ctx, os.Stdin, &c)
	if err != nil {
		return err
	}
	parent := json.NewEncoder(os.Stdout)
	return hatchet.Run(ctx, c, func(a engine.Address) error { return parent.Encode(a) })
}

// workerConfig is a worker's. Its runs note in a table that they begin and end;
// those whose name starts with "slow" end when their name is in the table go, and
// those whose name ends with "panic" panic the first time.
type workerConfig struct {
	Engine   engine.Address
	Database string
	Name     string
	Classes  []controlplane.Priority
}

// planted is what a handler panics with: nobody may read it.
const planted = "planted-password"

func runWorker(ctx context.Context) error {
	var c workerConfig
	ctx, err := child.Config(ctx, os.Stdin, &c)
	if err != nil {
		return err
	}
	db, err := pgxpool.New(ctx, c.Database)
	if err != nil {
		return err
	}
	defer db.Close()
	e, err := engine.Open(c.Engine, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	queues, err := store.OpenQueues(ctx, c.Database, 20)
	if err != nil {
		return err
	}
	defer queues.Close()
	runs, err := store.Open(ctx, c.Database, testKeys())
	if err != nil {
		return err
	}
	defer runs.Close()
	fmt.Println("{}")
	handle := func(ctx context.Context, id controlplane.RunID, _ bool) error {
		run, err := runs.Run(ctx, id)
		if err != nil {
			return err
		}
		note := func(what string) error {
			_, err := db.Exec(ctx, "INSERT INTO said VALUES ($1, $2, $3)", run.Key, c.Name, what)
			return err
		}
		if run.State.Over() {
			if run.Queue == "" { // nobody does it for another run
				return note("again")
			}
			return nil
		}
		if err := errors.Join(runs.Begin(ctx, id), note("begin")); err != nil {
			return err
		}
		for free := !strings.HasPrefix(run.Key, "slow"); !free; {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(20 * time.Millisecond): // a poll; the database may be away
				_ = db.QueryRow(ctx, "SELECT EXISTS (SELECT FROM go WHERE run = $1)", run.Key).Scan(&free)
			}
		}
		if strings.HasSuffix(run.Key, "panic") {
			var before int
			if err := db.QueryRow(ctx, "SELECT count(*) FROM said WHERE run = $1", run.Key).Scan(&before); err != nil {
				return err
			}
			if before == 1 {
				panic(planted)
			}
		}
		if strings.HasPrefix(run.Key, "crowd") {
			if _, err := db.Exec(ctx, "SELECT pg_sleep(0.02)"); err != nil {
				return err
			}
		}
		return errors.Join(note("end"), runs.Finish(ctx, id, controlplane.RunSucceeded, nil, ""))
	}
	return e.Work(ctx, engine.Worker{
		Name: c.Name, Classes: c.Classes, Slots: 20, Grace: time.Minute,
		Queues: queues, Handle: handle,
	})
}

func testKeys() store.Keys {
	return store.Keys{Current: "k", All: map[store.KeyID]secrets.Value{"k": secrets.NewValue([]byte(strings.Repeat("0f", 32)))}}
}

// bed is a database, an engine over it and a client.
type bed struct {
	*testing.T
	server  *postgrestest.Server
	db      *pgxpool.Pool
	runs    *store.Store
	url     string
	engine  *part // these two are newBed's
	ready   chan engine.Address
	hatchet string // the engine's database
	address engine.Address
	client  *engine.Engine
}

// part is a child process that is kept running.
type part struct {
	pids chan int // of every start
	pid  int
	stop func()
}

// emptyBed has no engine yet.
func emptyBed(t *testing.T) *bed {
	t.Helper()
	server := postgrestest.Start(t)
	b := &bed{T: t, server: server, url: server.Database(t)}
	var err error
	if b.db, err = pgxpool.New(t.Context(), b.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.db.Close)
	if err := store.Migrate(t.Context(), b.url); err != nil {
		t.Fatal(err)
	}
	if b.runs, err = store.Open(t.Context(), b.url, testKeys()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.runs.Close)
	b.runs.Log = slog.New(slog.DiscardHandler)
	if _, err := b.db.Exec(t.Context(), "CREATE TABLE said (run text, worker text, what text, at bigserial); CREATE TABLE go (run text)"); err != nil {
		t.Fatal(err)
	}
	return b
}

// newBed has an engine as skep-server runs it.
func newBed(t *testing.T) *bed {
	t.Helper()
	b := emptyBed(t)
	keys, err := hatchet.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	b.hatchet, b.ready = b.server.Database(t), make(chan engine.Address, 10)
	b.engine = b.start("engine", hatchet.Config{DatabaseURL: b.hatchet, Port: freePort(t), Keys: keys}, func(line []byte) error {
		var a engine.Address
		if err := json.Unmarshal(line, &a); err != nil {
			return err
		}
		b.ready <- a
		return nil
	})
	b.address = <-b.ready
	b.open()
	return b
}

func (b *bed) open() {
	b.Helper()
	var err error
	if b.client, err = engine.Open(b.address, slog.New(slog.DiscardHandler)); err != nil {
		b.Fatal(err)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	_, text, err := net.SplitHostPort(porttest.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func encode(to io.Writer, v any) error { return json.NewEncoder(to).Encode(v) }

func (b *bed) start(kind string, config any, ready func([]byte) error) *part {
	b.Helper()
	p := &part{pids: make(chan int, 10)}
	log := b.Output()
	process := &child.Process{
		Name: kind, Env: append(os.Environ(), role+"="+kind), Config: config, Grace: time.Minute, Stderr: prefixed{log, kind},
		Log: slog.New(slog.NewTextHandler(log, nil)), Ready: ready,
		Started: func(pid int) {
			select {
			case p.pids <- pid:
			default: // nobody looks
			}
		},
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	done := make(chan error, 1)
	go func() { done <- process.Run(ctx) }()
	p.stop = func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
		done <- nil
	}
	b.Cleanup(p.stop)
	select {
	case p.pid = <-p.pids:
	case err := <-done:
		b.Fatalf("%s: %v", kind, err)
	}
	return p
}

type prefixed struct {
	io.Writer
	name string
}

func (p prefixed) Write(b []byte) (int, error) {
	_, err := fmt.Fprintf(p.Writer, "%s: %s", p.name, b)
	return len(b), err
}

// kill ends the process as if it had crashed.
func (b *bed) kill(p *part, again bool) {
	b.Helper()
	if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil {
		b.Fatal(err)
	}
	if again {
		p.pid = <-p.pids
	}
}

func (b *bed) worker(name string) *part {
	b.Helper()
	return b.workerAt(name, b.address)
}

func (b *bed) workerAt(name string, to engine.Address) *part {
	b.Helper()
	return b.workerOf(name, to, controlplane.Critical, controlplane.Normal)
}

func (b *bed) workerOf(name string, to engine.Address, classes ...controlplane.Priority) *part {
	b.Helper()
	ready := make(chan struct{}, 10)
	p := b.start("worker", workerConfig{to, b.url, name, classes}, func([]byte) error { ready <- struct{}{}; return nil })
	<-ready
	return p
}

// run stores a run and gives it to the engine.
func (b *bed) run(name, queue string) controlplane.RunID {
	b.Helper()
	return b.runAs(controlplane.Normal, name, queue)
}

func (b *bed) runAs(class controlplane.Priority, name, queue string) controlplane.RunID {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
	defer cancel()
	run := b.store(class, name, queue)
	if err := b.client.Start(ctx, run); err != nil {
		b.Error(err)
	}
	return run.ID
}

// store keeps a run of which the engine does not hear.
func (b *bed) store(class controlplane.Priority, name, queue string) controlplane.Run {
	b.Helper()
	run := controlplane.Run{Key: name, Kind: controlplane.RunTask, Queue: queue, Priority: class}
	var err error
	if run.ID, _, err = b.runs.Start(b.Context(), run); err != nil {
		b.Error(err)
	}
	return run
}

func (b *bed) release(run string) {
	b.Helper()
	if _, err := b.db.Exec(b.Context(), "INSERT INTO go VALUES ($1)", run); err != nil {
		b.Fatal(err)
	}
}

func (b *bed) said(run string) []string {
	b.Helper()
	rows, err := b.db.Query(b.Context(), "SELECT what FROM said WHERE run = $1 ORDER BY at", run)
	if err != nil {
		b.Fatal(err)
	}
	var out []string
	var what string
	for rows.Next() {
		if err := rows.Scan(&what); err != nil {
			b.Fatal(err)
		}
		out = append(out, what)
	}
	if err := rows.Err(); err != nil {
		b.Fatal(err)
	}
	return out
}

// by is the worker that ended a run.
func (b *bed) by(run string) (worker string) {
	b.Helper()
	if err := b.db.QueryRow(b.Context(), "SELECT worker FROM said WHERE run = $1 AND what = 'end'", run).Scan(&worker); err != nil {
		b.Errorf("who ended %s: %v", run, err)
	}
	return worker
}

// wait polls until a run has said something.
func (b *bed) wait(limit time.Duration, run, what string) {
	b.Helper()
	deadline := time.Now().Add(limit)
	for !slices.Contains(b.said(run), what) {
		if time.Now().After(deadline) {
			b.Fatalf("after %v run %s has said %q", limit, run, b.said(run))
		}
		time.Sleep(20 * time.Millisecond) // a poll
	}
}
