// Package dispatch turns stored deliveries into runs, outside of the request
// that brought them. The outbox is the table of deliveries: what is claimed and
// not settled is claimed again, by this dispatcher or by another, so everything
// here happens at least once, and the key of a run makes it happen once.
package dispatch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"skep/services/controlplane"
	"skep/services/controlplane/event"
	"skep/services/controlplane/tracing"
)

var tracer = otel.Tracer("skep/services/controlplane/dispatch")

// Store is the outbox.
type Store interface {
	// Claim hands out deliveries that are due, the oldest of each source first and
	// at most limit in all. Nobody else gets a delivery of these sources until
	// those that were claimed are settled, or the lease of the claim is over.
	Claim(ctx context.Context, limit int) ([]controlplane.Delivery, error)
	// Dispatched, Ignored and Failed settle a delivery; Later puts it back, and
	// with it all of its source; Release gives back what was not tried.
	Dispatched(ctx context.Context, id int64, run controlplane.RunID) error
	Ignored(ctx context.Context, id int64, reason string) error
	Failed(ctx context.Context, id int64, reason string) error
	Later(ctx context.Context, id int64, delay time.Duration, reason string) error
	Release(ctx context.Context, ids []int64) error

	// Backlog is how many deliveries wait, and since when the oldest does.
	Backlog(context.Context) (n int64, oldest time.Time, err error)
	SourceByID(ctx context.Context, id int64) (controlplane.Source, error)
	Task(context.Context, controlplane.Name) (controlplane.Task, error)
	Project(context.Context, controlplane.Name) (controlplane.Project, error)
	ProjectsOf(context.Context, controlplane.Provider, controlplane.Repository) ([]controlplane.Project, error)
}

// Starter hands a run to the engine. The same key twice is one run and no
// error. ErrInvalid says that the run will never be taken; with any other error
// it is tried again. It may ignore the context: it is waited for no longer than
// StartTimeout.
type Starter interface {
	Start(context.Context, controlplane.Run) error
}

const (
	// StartTimeout is how long the starts of a delivery may take before its source
	// is left for later.
	StartTimeout = 10 * time.Second

	firstPause   = time.Second
	longestPause = 30 * time.Second
	storeTimeout = 5 * time.Second
	// longestDelivery is one look-up, the starts, and storing the outcome.
	longestDelivery = StartTimeout + 2*storeTimeout

	// parallel is how many sources are worked on at once.
	parallel = 8
	// maxCalls bounds the starts that go on after they were given up: the
	// engine's client takes 31 s to find that the engine is away.
	maxCalls = 4 * parallel
	// maxReason is what is kept of an error: it may quote what a stranger sent.
	maxReason = 500
)

// Options are all needed.
type Options struct {
	Store   Store
	Starter Starter
	Metrics prometheus.Registerer
	Log     *slog.Logger

	Wake <-chan struct{} // something may have come in
	Poll time.Duration   // a few seconds: for what nobody told of, and for retries
	// Lease is that of the store's claims.
	Lease time.Duration
}

// Dispatcher is one of any number that share an outbox.
type Dispatcher struct {
	options Options
	metrics *metrics
	calls   *calls
	said    string // the last trouble with the store that was logged
}

// New is an error if the metrics are registered already, or a lease ends before
// a start does.
func New(o Options) (*Dispatcher, error) {
	if o.Lease <= longestDelivery {
		return nil, fmt.Errorf("a lease of %s: a delivery may take %s", o.Lease, longestDelivery)
	}
	m, err := newMetrics(o.Metrics)
	if err != nil {
		return nil, err
	}
	return &Dispatcher{options: o, metrics: m, calls: newCalls(o.Starter)}, nil
}

// Run dispatches until ctx ends. It then finishes what it is at, gives back
// what it has not begun, and waits for starts that were given up; what is left
// of them after StartTimeout is an error.
func (d *Dispatcher) Run(ctx context.Context) error {
	poll := time.NewTicker(d.options.Poll)
	defer poll.Stop()
	done := make(chan struct{}, parallel)
	busy, away := 0, false
	wake := d.options.Wake
	d.measure(ctx)
	for ctx.Err() == nil {
		if busy < parallel && !away {
			claimed, err := d.options.Store.Claim(ctx, parallel-busy)
			d.complain(ctx, "claim", err)
			away = err != nil
			sources := bySource(claimed)
			for _, s := range sources {
				busy++
				go func() {
					d.source(ctx, s, time.Now())
					done <- struct{}{}
				}()
			}
			if len(sources) > 0 {
				continue
			}
		}
		select {
		case _, open := <-wake:
			if !open { // it would wake for ever
				wake = nil
			}
		case <-done:
			busy--
		case <-poll.C:
			away = false
			d.measure(ctx)
		case <-ctx.Done():
		}
	}
	for ; busy > 0; busy-- {
		<-done
	}
	return d.calls.wait(StartTimeout)
}

// bySource keeps the order within each source.
func bySource(in []controlplane.Delivery) [][]controlplane.Delivery {
	var out [][]controlplane.Delivery
	at := map[int64]int{}
	for _, d := range in {
		i, ok := at[d.Source]
		if !ok {
			i = len(out)
			at[d.Source] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], d)
	}
	return out
}

// source takes the deliveries of one source in turn. It stops at the first that
// has to wait, at the end of ctx, and before the lease might end.
func (d *Dispatcher) source(ctx context.Context, claimed []controlplane.Delivery, start time.Time) {
	working := context.WithoutCancel(ctx) // what is begun is ended
	for i, next := range claimed {
		late := time.Since(start) > d.options.Lease-longestDelivery
		if ctx.Err() != nil || late {
			d.release(working, claimed[i:])
			return
		}
		if !d.deliver(working, next) {
			d.release(working, claimed[i+1:])
			return
		}
	}
}

func (d *Dispatcher) release(ctx context.Context, rest []controlplane.Delivery) {
	if len(rest) == 0 {
		return
	}
	var ids []int64
	for _, r := range rest {
		ids = append(ids, r.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := d.options.Store.Release(ctx, ids); err != nil {
		d.options.Log.Warn("deliveries wait for the end of their lease", "count", len(ids), "error", err)
	}
}

// deliver settles a delivery, or says that its source has to wait.
func (d *Dispatcher) deliver(ctx context.Context, in controlplane.Delivery) (settled bool) {
	ctx, span := tracer.Start(tracing.Resume(ctx, in.Trace), "dispatch", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		attribute.Int64("skep.delivery", in.ID), attribute.Int("skep.attempt", in.Attempts),
		attribute.String("skep.provider", string(in.Provider)), attribute.String("skep.event", in.Event)))
	defer span.End()
	r := d.decide(ctx, in)
	span.SetAttributes(attribute.String("skep.outcome", string(r.outcome)), attribute.String("skep.run", string(r.run)))
	if r.outcome == failed || r.outcome == later {
		span.SetStatus(codes.Error, "")
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	var err error
	switch r.outcome {
	case dispatched:
		err = d.options.Store.Dispatched(ctx, in.ID, r.run)
	case ignored:
		err = d.options.Store.Ignored(ctx, in.ID, r.reason)
	case failed:
		err = d.options.Store.Failed(ctx, in.ID, r.reason)
	case later:
		err = d.options.Store.Later(ctx, in.ID, pause(in.Attempts), r.reason)
	}
	log := d.options.Log.With("id", in.ID, "provider", in.Provider, "source", in.Source, "event", in.Event, "delivery", in.Delivery,
		"outcome", r.outcome, "run", r.run, "reason", r.reason, "attempt", in.Attempts)
	if err != nil && !errors.Is(err, controlplane.ErrConflict) { // somebody else has settled it
		log.ErrorContext(ctx, "the outcome of a delivery was not stored, it comes again", "error", err)
		return false
	}
	d.metrics.outcomes.WithLabelValues(string(r.outcome)).Inc()
	switch r.outcome {
	case dispatched:
		d.metrics.latency.Observe(time.Since(in.Received).Seconds())
		log.InfoContext(ctx, "dispatch")
	case ignored:
		log.InfoContext(ctx, "dispatch")
	default:
		log.WarnContext(ctx, "dispatch")
	}
	return r.outcome != later
}

// pause doubles with each attempt.
func pause(attempts int) time.Duration {
	p := firstPause
	for i := 1; i < attempts && p < longestPause; i++ {
		p *= 2
	}
	return min(p, longestPause)
}

type outcome string

const (
	dispatched outcome = "dispatched"
	ignored    outcome = "ignored"
	failed     outcome = "failed"
	later      outcome = "later"
)

type result struct {
	outcome outcome
	run     controlplane.RunID // the first of them
	reason  string
}

func because(o outcome, err error) result {
	reason := err.Error()
	if len(reason) > maxReason {
		reason = reason[:maxReason] + "..."
	}
	return result{outcome: o, reason: reason}
}

// decide finds out what a delivery starts, and starts it. One that makes it panic
// has failed: tried again, it would end every server in turn.
func (d *Dispatcher) decide(ctx context.Context, in controlplane.Delivery) (r result) {
	defer func() {
		if value := recover(); value != nil {
			p := controlplane.Recovered(value)
			d.options.Log.ErrorContext(ctx, "a delivery made the dispatcher panic", "id", in.ID, "panic", p.Kind, "stack", p.Stack)
			r = because(failed, p)
		}
	}()
	runs, reason, err := d.runs(ctx, in)
	switch {
	case errors.Is(err, controlplane.ErrInvalid):
		return because(failed, err)
	case err != nil:
		return because(later, err)
	case len(runs) == 0:
		return result{outcome: ignored, reason: reason}
	}
	ctx, cancel := context.WithTimeout(ctx, StartTimeout)
	defer cancel()
	for _, r := range runs {
		switch err := d.calls.start(ctx, r); {
		case errors.Is(err, controlplane.ErrInvalid):
			return because(failed, fmt.Errorf("start %s: %w", r.Kind, err))
		case err != nil:
			return because(later, fmt.Errorf("start %s: %w", r.Kind, err))
		}
	}
	return result{outcome: dispatched, run: runs[0].ID}
}

// runs are what a delivery starts: the task that its source names, or what it
// says of a repository.
func (d *Dispatcher) runs(ctx context.Context, in controlplane.Delivery) (runs []controlplane.Run, reason string, err error) {
	changes, err := event.Parse(in.Provider, in.Event, in.Body)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", controlplane.ErrInvalid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	source, err := d.options.Store.SourceByID(ctx, in.Source)
	switch {
	case err != nil:
		return nil, "", err
	case source.Task != "":
		return d.task(ctx, in, source.Task)
	case len(changes) == 0:
		return nil, "nothing that Skep acts on", nil
	case source.Integration == "":
		return nil, "the source has no integration", nil
	}
	return d.changes(ctx, in, source, changes)
}

// task is a run of the source's task. The run knows which delivery it is for:
// the body goes from there to a file of the task's, and nowhere else.
func (d *Dispatcher) task(ctx context.Context, in controlplane.Delivery, name controlplane.Name) ([]controlplane.Run, string, error) {
	task, err := d.options.Store.Task(ctx, name)
	var project controlplane.Project
	if err == nil && task.Builtin != nil {
		project, err = d.options.Store.Project(ctx, task.Builtin.Project)
	}
	if errors.Is(err, controlplane.ErrNotFound) {
		return nil, "", fmt.Errorf("%w: task %s: %w", controlplane.ErrInvalid, name, err)
	}
	if err != nil {
		return nil, "", err
	}
	run, err := task.Run(controlplane.TaskInput{Delivery: in.ID}, project)
	if err != nil {
		return nil, "", err
	}
	run.Key = fmt.Sprintf("delivery/%d/task/%s/%s", in.Source, name, in.Delivery)
	run.ID, run.Delivery = runID(run.Key), in.ID
	return []controlplane.Run{run}, "", nil
}

// changes are runs of all projects that the source's integration serves:
// another integration's projects are none of its business, whatever the body
// says.
func (d *Dispatcher) changes(ctx context.Context, in controlplane.Delivery, source controlplane.Source, changes []controlplane.Change) (runs []controlplane.Run, reason string, err error) {
	reason = "no project of the integration has the repository"
	for i, c := range changes {
		projects, err := d.options.Store.ProjectsOf(ctx, in.Provider, c.Repository)
		if err != nil {
			return nil, "", err
		}
		for _, p := range projects {
			if p.Integration != source.Integration {
				continue
			}
			reason = "nothing that the project acts on"
			for _, r := range Plan(c, p) {
				r.Key = fmt.Sprintf("delivery/%d/%d/%s/%s/%s", in.Source, i, p.Name, r.Kind, in.Delivery)
				r.ID, r.Delivery = runID(r.Key), in.ID
				runs = append(runs, r)
			}
		}
	}
	return runs, reason, nil
}

// runID is the same for the same key, whoever asks and however often.
func runID(key string) controlplane.RunID {
	return controlplane.RunID(uuid.NewHash(sha256.New(), uuid.NameSpaceURL, []byte("skep:"+key), 8).String())
}

// measure reads the backlog for the metrics.
func (d *Dispatcher) measure(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	n, oldest, err := d.options.Store.Backlog(ctx)
	if err != nil {
		return // claim says so
	}
	age := time.Duration(0)
	if n > 0 {
		age = time.Since(oldest)
	}
	d.metrics.depth.Set(float64(n))
	d.metrics.age.Set(max(age, 0).Seconds())
	d.metrics.calls.Set(float64(d.calls.count()))
}

// complain logs a trouble once, not at every turn.
func (d *Dispatcher) complain(ctx context.Context, what string, err error) {
	switch {
	case err == nil:
		d.said = ""
	case ctx.Err() == nil && d.said != err.Error():
		d.said = err.Error()
		d.options.Log.Error("the outbox does not answer", "action", what, "error", err)
	}
}
