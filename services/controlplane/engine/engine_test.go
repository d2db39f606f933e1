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

	// A worker that is told to end finishes what it has, and the engine hears of it,
	// also of what panicked.
	slow2 := b.run("slow2", "")
	b.wait(time.Minute, "slow2", "begin")
	broken := b.run("slow-panic", "")
	b.wait(time.Minute, "slow-panic", "begin")
	stopped := make(chan struct{})
	go func() { w.stop(); close(stopped) }()
	b.release("slow2")
	b.wait(time.Minute, "slow2", "end")
	b.release("slow-panic")
	<-stopped
	if got := b.said("slow2"); !slices.Contains(got, "end") {
		b.Errorf("the worker left slow2 at %q", got)
	}
	for deadline := time.Now().Add(20 * time.Second); !b.completed(slow2) || b.failure(broken) == ""; {
		if time.Now().After(deadline) { // what was not heard never is: there is no worker
			b.Fatalf("the worker ended; the engine knows that slow2 is done: %v, and why a run failed: %q", b.completed(slow2), b.failure(broken))
		}
		time.Sleep(20 * time.Millisecond) // a poll
	}
	if why := b.failure(broken); strings.Contains(why, planted) || !strings.Contains(why, "it panicked (string)") {
		b.Errorf("the engine hears that a run failed: %q", why)
	}
	b.run("none", "")
	b.worker("w2")
	b.wait(2*time.Minute, "none", "end")
	b.wait(2*time.Minute, "slow-panic", "end")
	if got := b.said("slow2"); len(got) != 2 {
		b.Errorf("slow2 said %q", got)
	}
}

// completed says whether the engine knows that a run is done.
func (b *bed) completed(run controlplane.RunID) (done bool) {
	b.Helper()
	b.ask(&done, `SELECT EXISTS (SELECT FROM v1_task_event e
		JOIN v1_payload p ON p.id = e.task_id AND p.inserted_at = e.task_inserted_at AND p.type = 'TASK_INPUT'
		WHERE e.event_type = 'COMPLETED' AND p.inline_content #>> '{input,run}' = $1)`, run)
	return done
}

// failure is why a run failed, as the engine heard it.
func (b *bed) failure(run controlplane.RunID) (why string) {
	b.Helper()
	b.ask(&why, `SELECT coalesce(string_agg(e.error_message, ' '), '') FROM v1_task_events_olap e
		JOIN v1_payload p ON p.id = e.task_id AND p.inserted_at = e.task_inserted_at AND p.type = 'TASK_INPUT'
		WHERE e.event_type = 'FAILED' AND p.inline_content #>> '{input,run}' = $1`, run)
	return why
}

// ask asks the engine's database.
func (b *bed) ask(answer any, query string, arguments ...any) {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), b.hatchet)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(b.Context())
	if err := conn.QueryRow(b.Context(), query, arguments...).Scan(answer); err != nil {
		b.Fatal(err)
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
		b.inOrder(fmt.Sprintf("queue-%d", q), each)
	}

	// A run that the engine never heard of holds up nobody: who comes after it
	// does it first.
	b.store(controlplane.Normal, "forgotten", "line")
	b.run("behind", "line")
	b.wait(time.Minute, "behind", "end")
	b.inOrder("line", 2)

	// A worker leaves runs of a higher class to those who take them, and has the
	// engine hear of them. What holds up a run of a higher class is done for it.
	b.workerOf("w3", b.address, controlplane.Batch)
	b.store(controlplane.Critical, "above", "mixed")
	b.runAs(controlplane.Batch, "below", "mixed")
	b.wait(2*time.Minute, "below", "end")
	b.inOrder("mixed", 2)
	if above, below := b.by("above"), b.by("below"); above == "w3" || below != "w3" {
		t.Errorf("%s did the critical run, and %s the one of the batch", above, below)
	}
	b.store(controlplane.Batch, "lifted", "held")
	b.runAs(controlplane.Critical, "urgent", "held")
	b.wait(2*time.Minute, "urgent", "end")
	b.inOrder("held", 2)
	if lifted := b.by("lifted"); lifted == "w3" {
		t.Error("a critical run waited for a worker of the batch")
	}
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
	later := b.store(controlplane.Normal, "later", "")
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
