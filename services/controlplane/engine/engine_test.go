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
	w := b.workerAt("w1", newLink(b.T, b.address))
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

	// A worker that is told to end finishes what it has, and the engine hears of it.
	slow2 := b.run("slow2", "")
	b.wait(time.Minute, "slow2", "begin")
	stopped := make(chan struct{})
	go func() { w.stop(); close(stopped) }()
	b.release("slow2")
	<-stopped
	if got := b.said("slow2"); !slices.Contains(got, "end") {
		b.Errorf("the worker left slow2 at %q", got)
	}
	for deadline := time.Now().Add(20 * time.Second); !b.completed(slow2); {
		if time.Now().After(deadline) { // what was not heard never is: there is no worker
			b.Fatal("the worker ended, and the engine does not know that slow2 is done")
		}
		time.Sleep(20 * time.Millisecond) // a poll
	}
	b.run("none", "")
	b.worker("w2")
	b.wait(2*time.Minute, "none", "end")
	if got := b.said("slow2"); len(got) != 2 {
		b.Errorf("slow2 said %q", got)
	}
}

// completed says whether the engine knows that a run is done.
func (b *bed) completed(run controlplane.RunID) bool {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), b.hatchet)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(b.Context())
	var done bool
	err = conn.QueryRow(b.Context(), `SELECT EXISTS (SELECT FROM v1_task_event e
		JOIN v1_payload p ON p.id = e.task_id AND p.inserted_at = e.task_inserted_at AND p.type = 'TASK_INPUT'
		WHERE e.event_type = 'COMPLETED' AND p.inline_content #>> '{input,run}' = $1)`, run).Scan(&done)
	if err != nil {
		b.Fatal(err)
	}
	return done
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
		b.inOrder(fmt.Sprintf("queue-%d", q), each)
	}

	// A run that the engine never heard of holds up nobody: who comes after it
	// does it first.
	b.store("forgotten", "line")
	b.run("behind", "line")
	b.wait(time.Minute, "behind", "end")
	b.inOrder("line", 2)
}

// inOrder checks that the runs of a queue were done one after the other, in the
// order in which they were stored, each once.
func (b *bed) inOrder(queue string, n int) {
	b.Helper()
	rows, err := b.db.Query(b.Context(), "SELECT run || ' ' || what FROM said JOIN skep.run r ON r.key = run WHERE r.queue = $1 ORDER BY at", queue)
	if err != nil {
		b.Fatal(err)
	}
	said, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		b.Fatal(err)
	}
	if rows, err = b.db.Query(b.Context(), "SELECT key FROM skep.run WHERE queue = $1 ORDER BY seq", queue); err != nil {
		b.Fatal(err)
	}
	runs, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		b.Fatal(err)
	}
	var want []string
	for _, r := range runs {
		want = append(want, r+" begin", r+" end")
	}
	said = slices.Compact(said) // a run that lost its worker has begun twice
	if len(runs) != n || !slices.Equal(said, want) {
		b.Errorf("queue %s: %q, want %q", queue, said, want)
	}
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
	later := b.store("later", "")
	deadline := time.Now().Add(2 * time.Minute)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := b.client.Start(ctx, later)
		cancel()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-tick.C
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
// queue goes on in its order, also when the database is restarted on the way.
func TestQueueOfTheDead(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	w := b.worker("w1")
	b.run("slow1", "line")
	b.wait(2*time.Minute, "slow1", "begin")
	b.worker("w2")
	const n = 4
	for i := 2; i <= n; i++ {
		b.run(fmt.Sprintf("slow%d", i), "line")
	}
	b.kill(w, true)
	b.release("slow1")
	b.wait(3*time.Minute, "slow2", "begin")
	b.server.Crash(t)
	b.server.Resume(t)
	b.db.Reset() // its connections are dead
	for i := 2; i <= n; i++ {
		b.release(fmt.Sprintf("slow%d", i))
	}
	b.wait(4*time.Minute, fmt.Sprintf("slow%d", n), "end")
	b.inOrder("line", n)
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
