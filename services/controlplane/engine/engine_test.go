package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"skep/services/controlplane"
)

// The same holds for every engine: nothing above Open knows which it is.
func TestRuns(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) *bed{"child": newBed, "external": newExternalBed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conform(start(t))
		})
	}
}

func conform(b *bed) {
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
		b.Errorf("one said %q", got)
	}

	// One of a queue at a time; other queues go on.
	b.run("slow1", "cluster/main")
	b.wait(time.Minute, "slow1", "begin")
	b.run("after", "cluster/main")
	b.run("beside", "other/main")
	b.wait(time.Minute, "beside", "end")
	if got := b.said("after"); len(got) != 0 {
		b.Errorf("after said %q before slow1 ended", got)
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
		b.Errorf("the worker left slow2 at %q", got)
	}
	b.run("none", "")
	b.worker("w2")
	b.wait(2*time.Minute, "none", "end")
	if got := b.said("slow2"); len(got) != 2 {
		b.Errorf("slow2 said %q", got)
	}
}

// Runs that come at once are done one at a time if they are of one queue, by
// whichever worker, and each of them once.
func TestQueues(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.worker("w1")
	b.worker("w2")
	const queues, each = 3, 6
	var all sync.WaitGroup
	for i := range queues * each {
		all.Go(func() { b.run(fmt.Sprintf("crowd-%d-%d", i%queues, i/queues), fmt.Sprintf("queue-%d", i%queues)) })
	}
	all.Wait()
	for i := range queues * each {
		b.wait(2*time.Minute, fmt.Sprintf("crowd-%d-%d", i%queues, i/queues), "end")
	}
	for q := range queues {
		rows, err := b.db.Query(t.Context(), "SELECT run || ' ' || what FROM said WHERE run LIKE $1 ORDER BY at", fmt.Sprintf("crowd-%d-%%", q))
		if err != nil {
			t.Fatal(err)
		}
		said, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		if len(said) != 2*each {
			t.Errorf("queue %d: %q, want %d runs, each once", q, said, each)
		}
		for pair := range slices.Chunk(said, 2) {
			if run, ok := strings.CutSuffix(pair[0], " begin"); !ok || len(pair) < 2 || pair[1] != run+" end" {
				t.Errorf("queue %d: runs overlap: %q", q, said)
				break
			}
		}
	}

	// A run that finds another one before it, which nobody works on now, comes
	// again and again, and lets that one through.
	b.run("behind", "line")
	b.wait(time.Minute, "behind", "busy")
	b.run("before", "line")
	b.wait(time.Minute, "before", "end")
	b.release("behind")
	b.wait(time.Minute, "behind", "end")
}

// The engine dies and comes back: what ran ends, what comes is run. Hatchet
// would take a minute to find that the one before is gone, and is told so.
func TestEngineCrash(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.worker("w1")
	b.run("slow1", "")
	b.wait(time.Minute, "slow1", "begin")
	before := b.engines()
	b.kill(b.engine, true)
	<-b.ready
	for _, id := range b.engines() {
		if slices.Contains(before, id) {
			t.Errorf("Hatchet believes in the engine that was killed: %q after %q", id, before)
		}
	}
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
}

// engines are those that Hatchet takes for alive.
func (b *bed) engines() []string {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), b.hatchet)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(b.Context())
	rows, err := conn.Query(b.Context(), `SELECT id FROM "SchedulerPartition" WHERE "lastHeartbeat" > now() - interval '1 minute'`)
	if err != nil {
		b.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		b.Fatal(err)
	}
	return ids
}

// A worker dies with a run and with its queue: the run is begun again, and the
// queue goes on. Hatchet waits half a minute for a sign of life.
func TestWorkerCrash(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	w := b.worker("w1")
	b.run("slow1", "line")
	b.wait(2*time.Minute, "slow1", "begin")
	b.run("next", "line")
	b.kill(w, true)
	b.release("slow1")
	b.wait(3*time.Minute, "slow1", "end")
	b.wait(3*time.Minute, "next", "end")
	if got := b.said("next"); len(got) != 2 {
		t.Errorf("next said %q", got)
	}
}

// An engine that is away holds nobody up for longer than they want.
func TestStartGivesUp(t *testing.T) {
	t.Parallel()
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
