package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	hatchet "github.com/hatchet-dev/hatchet/sdks/go"

	"skep/services/controlplane"
)

// Handler does a run. It is called at least once for each, now and then twice
// at the same time: the store says who goes on. An error is the machinery's,
// and the run is tried again unless this was the last time; a run that failed
// on its own account is recorded by the handler, which then returns nil.
type Handler func(ctx context.Context, run controlplane.RunID, last bool) error

// handler is the runs that are being worked on.
type handler struct {
	mu       sync.Mutex
	do       Handler
	draining bool
	running  sync.WaitGroup
}

var errDraining = errors.New("this worker ends; another one takes the run")

// begin says whether a run may begin, which end then ends.
func (h *handler) begin() (Handler, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.do == nil:
		return nil, errors.New("this process does not work on runs")
	case h.draining:
		return nil, errDraining
	}
	h.running.Add(1)
	return h.do, nil
}

// Work takes runs of the classes, as many at once as there are slots, until ctx
// ends; then it takes no more, and returns when those it has are done, or have
// been cancelled after grace.
//
// The SDK panics when an engine stays away for half a minute, on a goroutine of
// its own: a worker belongs in a process that something starts again.
func (e *Engine) Work(ctx context.Context, name string, classes []controlplane.Priority, slots int, grace time.Duration, do Handler) error {
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	e.work.mu.Lock()
	e.work.do = func(ctx context.Context, run controlplane.RunID, last bool) error {
		ctx, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		defer context.AfterFunc(base, func() { stop(context.Cause(base)) })()
		return do(ctx, run, last)
	}
	e.work.mu.Unlock()

	w, err := e.worker(name, slots, classes)
	if err != nil {
		return err
	}
	stop, err := w.Start()
	if err != nil {
		return fmt.Errorf("start worker %s: %w", name, err)
	}
	e.log.InfoContext(ctx, "worker takes runs", "worker", name, "classes", classes, "slots", slots)
	<-ctx.Done()

	// Still registered, so that completions go through: what the engine assigns
	// now is handed back at once.
	e.work.mu.Lock()
	e.work.draining = true
	e.work.mu.Unlock()
	done := make(chan struct{})
	go func() {
		e.work.running.Wait()
		close(done)
	}()
	late := time.NewTimer(grace)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
		cancel(errDraining)
		<-done
	}
	if err := stop(); err != nil {
		return fmt.Errorf("stop worker %s: %w", name, err)
	}
	return nil
}

// run is what Hatchet calls.
func (e *Engine) run(ctx hatchet.Context, in input) (struct{}, error) {
	do, err := e.work.begin()
	if err != nil {
		return struct{}{}, err
	}
	defer e.work.running.Done()
	alive, stop := context.WithCancel(ctx)
	var signs sync.WaitGroup
	signs.Go(func() { e.live(alive, ctx, in.Run) })
	defer signs.Wait()
	defer stop()
	return struct{}{}, do(ctx, controlplane.RunID(in.Run), ctx.RetryCount() >= attempts)
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
