// Package reconcile keeps zones true to a stream of wanted records.
package reconcile

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"skep/services/dns"
)

// Reconciler syncs each zone on its own: a provider that is slow or away holds
// up no other.
type Reconciler struct {
	Providers map[string]dns.Provider // by zone name
	Cluster   dns.Cluster
	Grace     time.Duration
	Share     float64
	// Resync reads the live records again when nothing else has, to correct what
	// changed there.
	Resync time.Duration
	DryRun bool
	Log    *slog.Logger
	// Metrics may be nil.
	Metrics *Metrics

	mu     sync.Mutex
	boxes  map[string]chan want
	status map[string]Status
}

// want is what a zone should hold.
type want struct {
	zone  dns.Zone
	stale func() bool
}

// Status is how the last run of a zone went.
type Status struct {
	At    time.Time `json:"at"`
	Plan  dns.Plan  `json:"plan"`
	Error string    `json:"error,omitempty"`
}

const (
	minBackoff = 2 * time.Second
	maxBackoff = 5 * time.Minute
	// settle is the shortest time from one run to a planned next.
	settle = time.Second
)

// Want hands over what zones should hold. The newest wins. While it is stale no
// record goes.
func (r *Reconciler) Want(zones []dns.Zone, stale func() bool) {
	for _, z := range zones {
		if _, ok := r.Providers[z.Name]; !ok {
			continue
		}
		put(r.box(z.Name), want{z, stale})
	}
}

func (r *Reconciler) box(name string) chan want {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.boxes == nil {
		r.boxes = map[string]chan want{}
	}
	if r.boxes[name] == nil {
		r.boxes[name] = make(chan want, 1)
	}
	return r.boxes[name]
}

// Status of every zone that has been synced, by name.
func (r *Reconciler) Status() map[string]Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]Status{}
	for name, s := range r.status {
		out[name] = s
	}
	return out
}

// Run syncs until the context ends. Want may be called before and during it,
// by one goroutine.
func (r *Reconciler) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	for name, p := range r.Providers {
		workers.Go(func() {
			loop(ctx, r.box(name), func(ctx context.Context, w want) (time.Duration, error) { return r.once(ctx, p, w) })
		})
	}
	workers.Wait()
	return nil
}

// put leaves the newest alone in the box.
func put[T any](box chan T, newest T) {
	select {
	case <-box:
	default:
	}
	box <- newest
}

// loop runs once for the newest in the box, and again when it says so or has
// failed, until the context ends.
func loop[T any](ctx context.Context, box <-chan T, once func(context.Context, T) (time.Duration, error)) {
	var newest T
	backoff := minBackoff
	timer := time.NewTimer(0)
	if !timer.Stop() {
		<-timer.C // nothing is wanted yet
	}
	defer timer.Stop()
	for {
		select {
		case newest = <-box:
		case <-timer.C:
			select {
			case newest = <-box:
			default:
			}
		case <-ctx.Done():
			return
		}
		next, err := once(ctx, newest)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			next, backoff = backoff, min(2*backoff, maxBackoff)
		default:
			backoff = minBackoff
		}
		timer.Reset(next)
	}
}

// once syncs a zone and says when to look again.
func (r *Reconciler) once(ctx context.Context, p dns.Provider, w want) (time.Duration, error) {
	zone, stale := w.zone, w.stale()
	log := r.Log.With("zone", zone.Name)
	now := time.Now()
	plan, err := dns.Read(ctx, p, zone, dns.Options{Cluster: r.Cluster, Now: now, Grace: r.Grace, Share: r.Share, Stale: stale})
	if err == nil && !r.DryRun {
		err = dns.Apply(ctx, p, plan, func(c dns.Change, err error) {
			r.Metrics.change(zone.Name, string(c.Action), err)
			level, args := slog.LevelInfo, []any{"action", c.Action, "type", c.Record.Type, "name", c.Record.Name, "content", c.Record.Content, "owner", c.Record.Owner}
			if err != nil {
				level, args = slog.LevelError, append(args, "error", err)
			}
			log.Log(ctx, level, "record", args...)
		})
	}
	r.note(zone.Name, Status{At: now, Plan: plan}, err)
	if err != nil {
		log.Error("sync", "error", err)
		return 0, err
	}
	for _, c := range plan.Conflicts {
		log.Warn("refused", "type", c.Record.Type, "name", c.Record.Name, "reason", c.Reason)
	}
	if len(plan.Held) > 0 {
		log.Warn("too many records would go at once, all of them stay: `skep dns sync --force` lets them go", "records", len(plan.Held))
	}
	if r.DryRun {
		for _, c := range plan.Changes {
			log.Info("would change", "action", c.Action, "type", c.Record.Type, "name", c.Record.Name, "content", c.Record.Content)
		}
		return r.Resync, nil
	}
	if stale {
		return r.Resync, nil // the next list comes
	}
	return until(plan.Next(), now, r.Resync), nil
}

// until is the time to what is due, if anything is, and resync at most.
func until(due, now time.Time, resync time.Duration) time.Duration {
	if due.IsZero() {
		return resync
	}
	return max(settle, min(resync, due.Sub(now)))
}

func (r *Reconciler) note(zone string, s Status, err error) {
	if err != nil {
		s.Error = err.Error()
	}
	r.Metrics.sync(zone, s.At, len(s.Plan.Conflicts), len(s.Plan.Held), err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.status == nil {
		r.status = map[string]Status{}
	}
	r.status[zone] = s
}
