// Package reconcile keeps zones true to a stream of wanted records.
package reconcile

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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
	boxes  map[string]chan dns.Zone
	status map[string]Status
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

// Want hands over what zones should hold. The newest wins.
func (r *Reconciler) Want(zones []dns.Zone) {
	for _, z := range zones {
		if _, ok := r.Providers[z.Name]; !ok {
			continue
		}
		box := r.box(z.Name)
		select {
		case <-box:
		default:
		}
		box <- z
	}
}

func (r *Reconciler) box(name string) chan dns.Zone {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.boxes == nil {
		r.boxes = map[string]chan dns.Zone{}
	}
	if r.boxes[name] == nil {
		r.boxes[name] = make(chan dns.Zone, 1)
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
		workers.Go(func() { r.zone(ctx, p, r.box(name)) })
	}
	workers.Wait()
	return nil
}

func (r *Reconciler) zone(ctx context.Context, p dns.Provider, box <-chan dns.Zone) {
	var zone dns.Zone
	backoff := minBackoff
	timer := time.NewTimer(0)
	if !timer.Stop() {
		<-timer.C // nothing is wanted yet
	}
	defer timer.Stop()
	for {
		select {
		case zone = <-box:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		next, err := r.once(ctx, p, zone)
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
func (r *Reconciler) once(ctx context.Context, p dns.Provider, zone dns.Zone) (time.Duration, error) {
	log := r.Log.With("zone", zone.Name)
	now := time.Now()
	plan, err := dns.Read(ctx, p, zone, dns.Options{Cluster: r.Cluster, Now: now, Grace: r.Grace, Share: r.Share})
	if err == nil && !r.DryRun {
		err = dns.Apply(ctx, p, plan, func(c dns.Change, err error) {
			r.Metrics.change(zone.Name, c.Action, err)
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
	if due := plan.Next(); !due.IsZero() {
		return max(settle, min(r.Resync, due.Sub(now))), nil
	}
	return r.Resync, nil
}

func (r *Reconciler) note(zone string, s Status, err error) {
	if err != nil {
		s.Error = err.Error()
	}
	r.Metrics.sync(zone, s, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.status == nil {
		r.status = map[string]Status{}
	}
	r.status[zone] = s
}

// Metrics of a reconciler.
type Metrics struct {
	syncs     *prometheus.CounterVec
	changes   *prometheus.CounterVec
	conflicts *prometheus.GaugeVec
	held      *prometheus.GaugeVec
	last      *prometheus.GaugeVec
}

// NewMetrics registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		syncs:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "skep_dns_syncs_total", Help: "Runs by zone and result."}, []string{"zone", "result"}),
		changes:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "skep_dns_changes_total", Help: "Changes made, by zone, action and result."}, []string{"zone", "action", "result"}),
		conflicts: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "skep_dns_conflicts", Help: "Wanted records that are refused."}, []string{"zone"}),
		held:      prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "skep_dns_held", Help: "Records that stay because too many would go at once."}, []string{"zone"}),
		last:      prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "skep_dns_last_sync_timestamp_seconds", Help: "When the zone was last in sync."}, []string{"zone"}),
	}
	r.MustRegister(m.syncs, m.changes, m.conflicts, m.held, m.last)
	return m
}

func result(err error) string {
	if err != nil {
		return "failure"
	}
	return "success"
}

func (m *Metrics) change(zone string, a dns.Action, err error) {
	if m != nil {
		m.changes.WithLabelValues(zone, string(a), result(err)).Inc()
	}
}

func (m *Metrics) sync(zone string, s Status, err error) {
	if m == nil {
		return
	}
	m.syncs.WithLabelValues(zone, result(err)).Inc()
	if err == nil {
		m.conflicts.WithLabelValues(zone).Set(float64(len(s.Plan.Conflicts)))
		m.held.WithLabelValues(zone).Set(float64(len(s.Plan.Held)))
		m.last.WithLabelValues(zone).Set(float64(s.At.Unix()))
	}
}
