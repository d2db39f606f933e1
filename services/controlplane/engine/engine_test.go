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
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"skep/internal/postgrestest"
	"skep/services/controlplane"
	"skep/services/controlplane/child"
	"skep/services/controlplane/engine"
	"skep/services/controlplane/engine/hatchet"
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
// those whose name starts with "slow" end when their name is in the table go.
type workerConfig struct {
	Engine   engine.Address
	Database string
	Name     string
}

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
	fmt.Println("{}")
	return e.Work(ctx, c.Name, []controlplane.Priority{controlplane.Critical, controlplane.Normal}, 20, time.Minute, func(ctx context.Context, run controlplane.RunID, _ bool) error {
		if _, err := db.Exec(ctx, "INSERT INTO said VALUES ($1, $2, 'begin')", run, c.Name); err != nil {
			return err
		}
		for free := !strings.HasPrefix(string(run), "slow"); !free; {
			if err := db.QueryRow(ctx, "SELECT EXISTS (SELECT FROM go WHERE run = $1)", run).Scan(&free); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(20 * time.Millisecond):
			}
		}
		_, err := db.Exec(ctx, "INSERT INTO said VALUES ($1, $2, 'end')", run, c.Name)
		return err
	})
}

// bed is a database, an engine over it and a client.
type bed struct {
	*testing.T
	db      *pgxpool.Pool
	url     string
	engine  *part
	address engine.Address
	client  *engine.Engine
}

// part is a child process that is kept running.
type part struct {
	pids chan int // of every start
	pid  int
	stop func()
}

func newBed(t *testing.T) *bed {
	t.Helper()
	server := postgrestest.Start(t)
	b := &bed{T: t, url: server.Database(t)}
	var err error
	if b.db, err = pgxpool.New(t.Context(), b.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.db.Close)
	if _, err := b.db.Exec(t.Context(), "CREATE TABLE said (run text, worker text, what text, at bigserial); CREATE TABLE go (run text)"); err != nil {
		t.Fatal(err)
	}
	keys, err := hatchet.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	addresses := make(chan engine.Address, 10)
	b.engine = b.start("engine", hatchet.Config{DatabaseURL: server.Database(t), Port: port, Keys: keys}, func(line []byte) error {
		var a engine.Address
		if err := json.Unmarshal(line, &a); err != nil {
			return err
		}
		addresses <- a
		return nil
	})
	b.address = <-addresses
	if b.client, err = engine.Open(b.address, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return b
}

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
	ready := make(chan struct{}, 10)
	p := b.start("worker", workerConfig{b.address, b.url, name}, func([]byte) error { ready <- struct{}{}; return nil })
	<-ready
	return p
}

func (b *bed) run(id, queue string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
	defer cancel()
	if err := b.client.Start(ctx, controlplane.Run{ID: controlplane.RunID(id), Queue: queue, Priority: controlplane.Normal}); err != nil {
		b.Error(err)
	}
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

func TestRuns(t *testing.T) {
	b := newBed(t)
	b.run("early", "")
	w := b.worker("w1")
	b.wait(time.Minute, "early", "end")

	// The same run, asked for again, is done once.
	for range 3 {
		b.run("one", "")
	}
	b.run("two", "")
	b.wait(time.Minute, "one", "end")
	b.wait(time.Minute, "two", "end")
	if got := b.said("one"); len(got) != 2 {
		t.Errorf("one said %q", got)
	}

	// One of a queue at a time; other queues go on.
	b.run("slow1", "cluster/main")
	b.wait(time.Minute, "slow1", "begin")
	b.run("after", "cluster/main")
	b.run("beside", "other/main")
	b.wait(time.Minute, "beside", "end")
	if got := b.said("after"); len(got) != 0 {
		t.Errorf("after said %q before slow1 ended", got)
	}
	b.release("slow1")
	b.wait(time.Minute, "after", "end")

	// A worker that is told to end finishes what it has.
	b.run("slow2", "")
	b.wait(time.Minute, "slow2", "begin")
	stopped := make(chan struct{})
	go func() { w.stop(); close(stopped) }()
	b.release("slow2")
	<-stopped
	if got := b.said("slow2"); !slices.Contains(got, "end") {
		t.Errorf("the worker left slow2 at %q", got)
	}
	b.run("none", "")
	b.worker("w2")
	b.wait(2*time.Minute, "none", "end")
	if got := b.said("slow2"); len(got) != 2 {
		t.Errorf("slow2 said %q", got)
	}
}

func TestCrashes(t *testing.T) {
	b := newBed(t)
	w := b.worker("w1")
	b.run("slow1", "")
	b.wait(time.Minute, "slow1", "begin")

	// The engine dies and comes back: what ran ends, what comes is run.
	b.kill(b.engine, true)
	b.release("slow1")
	b.wait(time.Minute, "slow1", "end")
	deadline := time.Now().Add(2 * time.Minute)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := b.client.Start(ctx, controlplane.Run{ID: "later", Priority: controlplane.Normal})
		cancel()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	b.wait(3*time.Minute, "later", "end")

	// A worker dies with a run: it is run again.
	b.run("slow2", "")
	b.wait(2*time.Minute, "slow2", "begin")
	b.kill(w, true)
	b.release("slow2")
	b.wait(3*time.Minute, "slow2", "end")
}

// An engine that is away holds nobody up for longer than they want.
func TestStartGivesUp(t *testing.T) {
	b := newBed(t)
	b.engine.stop()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := b.client.Start(ctx, controlplane.Run{ID: "r", Priority: controlplane.Batch})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := b.client.Start(t.Context(), controlplane.Run{ID: "r", Priority: "soon"}); err == nil || !strings.Contains(err.Error(), `no such priority "soon"`) {
		t.Errorf("got %v", err)
	}
}
