// Package engine runs durable work on Hatchet: what was started is run at least
// once, on some worker, whatever dies in between. What a run does and what came
// of it is in the store; Hatchet knows its name, its class and its queue.
//
// The engine itself is a process of its own: a child of the server
// (engine/hatchet), or a service somewhere. This package does not know which.
package engine

//lint:file-ignore SA1019 The SDK takes its options from the package that it deprecates.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hatchet-dev/hatchet/pkg/client"
	"github.com/hatchet-dev/hatchet/pkg/client/types"
	hatchet "github.com/hatchet-dev/hatchet/sdks/go"

	"skep/services/controlplane"
)

// Address is where an engine answers, and the token that it wants to see.
type Address struct {
	Host  string `json:"host"`
	Port  int    `json:"port"`
	Token string `json:"token"`
	// TLS is nil for plain text: on loopback, or in a network of the stack's own.
	TLS *tls.Config `json:"-"`
}

// Engine starts runs, and works on them.
type Engine struct {
	client *hatchet.Client
	tasks  map[controlplane.Priority]tasks
	work   handler
	log    *slog.Logger
	// calls bounds the calls that wait for an engine that is away: the SDK gives
	// up after half a minute, whatever the context says.
	calls chan struct{}

	registering sync.Mutex
	registered  bool
}

// tasks are Hatchet's, for the runs of a class. A run is given to a worker
// directly: Hatchet assigns it as it takes it. One whose queue turns out to be
// busy waits in turn, where Hatchet lets one of each queue through; to find that
// it may go takes Hatchet several messages (docs/adr/0052).
type tasks struct{ direct, inTurn *hatchet.StandaloneTask }

const (
	// A run is begun again this long after its worker's last sign of life. A
	// completion that got lost on the way to the engine costs as much.
	lifeSign = time.Minute
	// Runs wait for a worker: a weekend without one fails none.
	patience = 72 * time.Hour
	// A worker that dies is no fault of the run, but a run that kills workers is.
	attempts = 10
	// Asking for the same run twice starts one. The store knows for longer.
	remembered = 24 * time.Hour

	waitingCalls = 64
)

// classes are all of them, the most urgent first.
var classes = []controlplane.Priority{controlplane.Critical, controlplane.Normal, controlplane.Batch}

// input is what Hatchet keeps of a run.
type input struct {
	Run   string `json:"run"`
	Queue string `json:"queue"` // one run of a queue at a time, if it is set
	Turn  int    `json:"turn"`  // how often it has waited
}

// Open makes a client. It connects when it is used.
func Open(a Address, log *slog.Logger) (*Engine, error) {
	if a.Host == "" || a.Port == 0 || a.Token == "" { // the SDK panics
		return nil, errors.New("open the workflow engine: it takes a host, a port and a token")
	}
	zero := quiet(log)
	c, err := hatchet.NewClient(client.WithToken(a.Token), client.WithHostPort(a.Host, a.Port), client.WithTLSConfig(a.TLS), client.WithLogger(&zero))
	if err != nil {
		return nil, fmt.Errorf("open the workflow engine at %s:%d: %w", a.Host, a.Port, err)
	}
	e := &Engine{client: c, tasks: map[controlplane.Priority]tasks{}, log: log, calls: make(chan struct{}, waitingCalls)}
	one, strategy := int32(1), types.GroupRoundRobin
	for _, class := range classes {
		common := []hatchet.StandaloneTaskOption{
			hatchet.WithRetries(attempts), hatchet.WithRetryBackoff(2, 60),
			hatchet.WithExecutionTimeout(lifeSign), hatchet.WithScheduleTimeout(patience),
		}
		e.tasks[class] = tasks{
			direct: c.NewStandaloneTask("skep-"+string(class), func(ctx hatchet.Context, in input) (struct{}, error) {
				return struct{}{}, e.run(ctx, class, in, false)
			}, append(common[:len(common):len(common)],
				hatchet.WithWorkflowIdempotency(hatchet.IdempotencyConfig{Expression: "input.run", TTL: remembered}))...),
			// Hatchet knows its keys by tenant, not by task. A group of the task is
			// cheaper than one of the workflow. A run without a queue waits for nobody
			// else's: two workers have it.
			inTurn: c.NewStandaloneTask("skep-"+string(class)+"-in-turn", func(ctx hatchet.Context, in input) (struct{}, error) {
				return struct{}{}, e.run(ctx, class, in, true)
			}, append(common[:len(common):len(common)],
				hatchet.WithWorkflowIdempotency(hatchet.IdempotencyConfig{Expression: `input.run + "/" + string(input.turn)`, TTL: remembered}),
				hatchet.WithConcurrency(&types.Concurrency{Expression: `input.queue == "" ? input.run : input.queue`, MaxRuns: &one, LimitStrategy: &strategy}))...),
		}
	}
	return e, nil
}

// Start queues a run. A second call for the same run does nothing. It returns
// when ctx ends, even if the engine does not answer.
func (e *Engine) Start(ctx context.Context, run controlplane.Run) error {
	class, ok := e.tasks[run.Priority]
	if !ok {
		return fmt.Errorf("start run %s: no such priority %q", run.ID, run.Priority)
	}
	return e.enqueue(ctx, class.direct, input{Run: string(run.ID), Queue: run.Queue})
}

func (e *Engine) enqueue(ctx context.Context, task *hatchet.StandaloneTask, in input) error {
	select {
	case e.calls <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("start run %s: %w", in.Run, ctx.Err())
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-e.calls }()
		if err := e.register(); err != nil {
			done <- err
			return
		}
		_, err := task.RunNoWait(ctx, in)
		if _, again := hatchet.IsIdempotencyCollisionError(err); again {
			err = nil
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("start run %s: %w", in.Run, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("start run %s: %w", in.Run, ctx.Err())
	}
}

// register tells the engine which tasks there are, once: it refuses runs of
// those that it has not heard of, and there may be no worker yet.
func (e *Engine) register() error {
	e.registering.Lock()
	defer e.registering.Unlock()
	if e.registered {
		return nil
	}
	if _, err := e.worker("skep", 1, classes); err != nil {
		return err
	}
	e.registered = true
	return nil
}

// worker makes one, which does nothing until it is started, and registers its
// tasks.
func (e *Engine) worker(name string, slots int, take []controlplane.Priority) (*hatchet.Worker, error) {
	var all []hatchet.WorkflowBase
	for _, c := range take {
		all = append(all, e.tasks[c].direct, e.tasks[c].inTurn)
	}
	zero := quiet(e.log)
	w, err := e.client.NewWorker(name, hatchet.WithSlots(slots), hatchet.WithWorkflows(all...), hatchet.WithLogger(&zero))
	if err != nil {
		return nil, fmt.Errorf("register worker %s: %w", name, err)
	}
	return w, nil
}

// Close releases what the client holds.
func (e *Engine) Close(ctx context.Context) error { return e.client.Close(ctx) }
