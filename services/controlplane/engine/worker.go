package engine

//lint:file-ignore SA1019 The SDK's middleware is of the package that it deprecates.

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	sdkworker "github.com/hatchet-dev/hatchet/pkg/worker"
	hatchet "github.com/hatchet-dev/hatchet/sdks/go"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"skep/services/controlplane"
	"skep/services/controlplane/tracing"
)

var tracer = otel.Tracer("skep/services/controlplane/engine")

// Handler does a run. It is called at least once for each, now and then twice
// at the same time: the store says who goes on. An error is the machinery's,
// and the run is tried again unless this was the last time; a run that failed
// on its own account is recorded by the handler, which then returns nil. A panic
// is an error. ErrBusy says that somebody else is at the run, or at one of its
// queue that comes first: it comes again, and no time counts.
type Handler func(ctx context.Context, run controlplane.RunID, last bool) error

// Worker takes runs.
type Worker struct {
	Name string
	// Classes are those of the runs that it takes. It does a run of a lower class
	// too where that comes first in the queue of one that it takes, and none of a
	// higher class: a run waits for no worker that is less urgent than itself.
	Classes []controlplane.Priority
	Slots   int           // runs at once
	Grace   time.Duration // for the runs that go on when no more are taken
	Queues  Queues
	Handle  Handler
}

// handler is the runs that are being worked on.
type handler struct {
	mu      sync.Mutex
	do      Handler
	classes []controlplane.Priority
	queues  Queues
	tell    func(context.Context, controlplane.Run) // the engine of a run that it may not have heard of
	drain   chan struct{}                           // closed when no more are taken
	running sync.WaitGroup

	unanswered int           // runs of which the engine does not know yet how they ended
	answered   chan struct{} // closed when there are none; nil: nobody waits
}

// answerTime is how long a worker that ends waits for the engine to hear of the
// runs that it has done: it would give them to somebody else.
const answerTime = 30 * time.Second

var errDraining = errors.New("this worker ends; another one takes the run")

// begin says whether a run may begin, which end then ends.
func (h *handler) begin() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.do == nil {
		return errors.New("this process does not work on runs")
	}
	if err := h.drained(); err != nil {
		return err
	}
	h.running.Add(1)
	return nil
}

// drained is an error once no more runs are taken.
func (h *handler) drained() error {
	select {
	case <-h.drain:
		return errDraining
	default:
		return nil
	}
}

// answer counts a run until the engine has heard what became of it: the SDK tells
// it after the handler has returned, and next does both.
func (h *handler) answer(ctx sdkworker.HatchetContext, next func(sdkworker.HatchetContext) error) error {
	h.mu.Lock()
	h.unanswered++
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.unanswered--
		if h.unanswered == 0 && h.answered != nil {
			close(h.answered)
			h.answered = nil
		}
	}()
	return next(ctx)
}

// waitAnswered waits until no run is unanswered. It says whether that came about
// within the limit.
func (h *handler) waitAnswered(limit time.Duration) bool {
	h.mu.Lock()
	if h.unanswered == 0 {
		h.mu.Unlock()
		return true
	}
	answered := make(chan struct{})
	h.answered = answered
	h.mu.Unlock()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-answered:
		return true
	case <-late.C:
		return false
	}
}

// Work takes runs until ctx ends; then it takes no more, and returns when those
// it has are done, or have been cancelled after the grace.
//
// The SDK panics, on a goroutine of its own, when it cannot register the worker or
// the engine refuses it later; one that is away it waits for. A worker belongs in
// a process that something starts again.
func (e *Engine) Work(ctx context.Context, o Worker) error {
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	h := &e.work
	h.mu.Lock()
	h.classes, h.queues, h.tell, h.drain = o.Classes, o.Queues, e.tell, make(chan struct{})
	h.do = func(ctx context.Context, run controlplane.RunID, last bool) error {
		ctx, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		defer context.AfterFunc(base, func() { stop(context.Cause(base)) })()
		return o.Handle(ctx, run, last)
	}
	h.mu.Unlock()

	w, err := e.worker(o.Name, o.Slots, o.Classes)
	if err != nil {
		return err
	}
	w.Use(h.answer)
	stop, err := w.Start()
	if err != nil {
		return fmt.Errorf("start worker %s: %w", o.Name, err)
	}
	e.log.InfoContext(ctx, "worker takes runs", "worker", o.Name, "classes", o.Classes, "slots", o.Slots)
	<-ctx.Done()

	// Still registered, so that completions go through: what the engine assigns
	// now is handed back at once.
	h.mu.Lock()
	close(h.drain)
	h.mu.Unlock()
	done := make(chan struct{})
	go func() {
		h.running.Wait()
		close(done)
	}()
	late := time.NewTimer(o.Grace)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
		cancel(errDraining)
		<-done
	}
	if !h.waitAnswered(answerTime) {
		e.log.WarnContext(ctx, "the engine did not hear how the last runs of a worker ended, and starts them again", "worker", o.Name)
	}
	if err := stop(); err != nil {
		return fmt.Errorf("stop worker %s: %w", o.Name, err)
	}
	return nil
}

// run is what Hatchet calls; in turn, when it lets no other run of the queue
// through before this one has ended.
func (e *Engine) run(ctx hatchet.Context, class controlplane.Priority, in input, inTurn bool) (err error) {
	// The SDK would tell the engine of a panic when nobody waits for its answer any
	// more, and quote it.
	defer func() {
		if value := recover(); value != nil {
			p := controlplane.Recovered(value)
			e.log.ErrorContext(ctx, "a run made the worker panic", "run", in.Run, "panic", p.Kind, "stack", p.Stack)
			err = p
		}
	}()
	if err := e.work.begin(); err != nil {
		return err
	}
	defer e.work.running.Done()
	// The SDK sends the trace of whoever started the run along with it.
	traced, span := tracer.Start(tracing.Resume(ctx.GetContext(), ctx.AdditionalMetadata()["traceparent"]), "run", trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(attribute.String("skep.run", in.Run), attribute.Int("skep.attempt", ctx.RetryCount()+1)))
	defer span.End()
	ctx.SetContext(traced)
	alive, stop := context.WithCancel(ctx)
	var signs sync.WaitGroup
	signs.Go(func() { e.live(alive, ctx, in.Run) })
	defer signs.Wait()
	defer stop()
	err = e.work.queued(ctx, class, in, inTurn, ctx.RetryCount() >= attempts)
	if errors.Is(err, controlplane.ErrBusy) {
		// Waiting is no attempt, and takes a slot from nobody else's queue. The SDK
		// makes a child of what is started with its own context.
		err = e.enqueue(traced, e.tasks[class].inTurn, input{Run: in.Run, Queue: in.Queue, Turn: in.Turn + 1})
	}
	if err != nil {
		span.SetStatus(codes.Error, "")
	}
	return err
}

// tell has the engine start a run that others wait for, which it may never have
// heard of: whoever stored it may have died. One that it knows changes nothing.
func (e *Engine) tell(ctx context.Context, run controlplane.Run) {
	bounded, cancel := context.WithTimeout(ctx, tellTime)
	defer cancel()
	if err := e.Start(bounded, run); err != nil && ctx.Err() == nil {
		e.log.WarnContext(ctx, "the engine did not hear of a run that others wait for", "run", run.ID, "error", err)
	}
}

// live gives the engine a sign of life until ctx ends.
func (e *Engine) live(ctx context.Context, step hatchet.Context, run string) {
	every := lifeSign / 3
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := step.RefreshTimeout(every.String()); err != nil && ctx.Err() == nil {
				e.log.WarnContext(ctx, "the engine did not hear that a run goes on", "run", run, "error", err)
			}
		}
	}
}
