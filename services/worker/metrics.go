package worker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"skep/services/controlplane"
)

// Metrics are what a worker counts; nil counts nothing.
type Metrics struct {
	runs     *prometheus.CounterVec
	retries  *prometheus.CounterVec
	active   *prometheus.GaugeVec
	waits    *prometheus.HistogramVec
	seconds  *prometheus.HistogramVec
	jobs     *prometheus.CounterVec
	jobTime  *prometheus.HistogramVec
	lines    prometheus.Counter
	redacted prometheus.Counter
	dropped  prometheus.Counter
	swept    *prometheus.CounterVec
	sweep    prometheus.Gauge
}

// What became of a job.
const (
	jobEnded     = "ended"     // whatever its exit code
	jobKilled    = "killed"    // at a limit or its deadline
	jobCancelled = "cancelled" // with its run
	jobLost      = "lost"      // it did not begin, or nobody knows how it ended
)

// NewMetrics registers them.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	seconds := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: []float64{.1, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600},
		}, labels)
	}
	m := &Metrics{
		runs:    counters("skep_worker_runs_total", "Runs that ended here.", "kind", "priority", "state"),
		retries: counters("skep_worker_retries_total", "Tries at a run after which another is due: a store, a provider or a launcher was away.", "kind"),
		active: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "skep_worker_active_runs", Help: "Runs that are under way here.",
		}, []string{"priority"}),
		waits:    seconds("skep_worker_wait_seconds", "Time from the creation of a run until its first try.", "priority"),
		seconds:  seconds("skep_worker_run_seconds", "Time of the try at a run that ended it.", "kind"),
		jobs:     counters("skep_worker_jobs_total", "Jobs, by what became of them: ended with any exit code, killed at a limit or a deadline, cancelled, or lost.", "step", "outcome"),
		jobTime:  seconds("skep_worker_job_seconds", "Time of a job, with its making and its removal.", "step"),
		lines:    counter("skep_worker_log_lines_total", "Lines that jobs wrote."),
		redacted: counter("skep_worker_redacted_lines_total", "Lines in which a secret was masked."),
		dropped:  counter("skep_worker_dropped_lines_total", "Lines that are not kept, as their run said more than it may."),
		swept:    counters("skep_worker_swept_total", "Things of jobs that the sweeper removed in the place of a launcher that died.", "kind"),
		sweep: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "skep_worker_last_sweep_timestamp_seconds", Help: "When a sweep last found the Swarm in order or put it so; 0 where jobs are processes.",
		}),
	}
	// So that a first one is an increase.
	for _, p := range []controlplane.Priority{controlplane.Critical, controlplane.Normal, controlplane.Batch} {
		m.active.WithLabelValues(string(p))
		for _, kind := range []controlplane.RunKind{
			controlplane.RunCheck, controlplane.RunPlan, controlplane.RunDeploy, controlplane.RunPreview, controlplane.RunDestroy,
			controlplane.RunRotate, controlplane.RunTask, controlplane.RunCommand,
		} {
			m.runs.WithLabelValues(string(kind), string(p), string(controlplane.RunFailed))
		}
	}
	for _, c := range []prometheus.Collector{
		m.runs, m.retries, m.active, m.waits, m.seconds, m.jobs, m.jobTime, m.lines, m.redacted, m.dropped, m.swept, m.sweep,
	} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// begin counts a try at a run, and end what became of it: the state that it
// ended in, or none.
func (m *Metrics) begin(run controlplane.Run) (end func(controlplane.RunState)) {
	if m == nil {
		return func(controlplane.RunState) {}
	}
	begun := time.Now()
	if run.State == controlplane.RunQueued && !run.Created.IsZero() {
		m.waits.WithLabelValues(string(run.Priority)).Observe(begun.Sub(run.Created).Seconds())
	}
	active := m.active.WithLabelValues(string(run.Priority))
	active.Inc()
	return func(state controlplane.RunState) {
		active.Dec()
		if state == "" {
			m.retries.WithLabelValues(string(run.Kind)).Inc()
			return
		}
		m.runs.WithLabelValues(string(run.Kind), string(run.Priority), string(state)).Inc()
		m.seconds.WithLabelValues(string(run.Kind)).Observe(time.Since(begun).Seconds())
	}
}

// job counts one.
func (m *Metrics) job(step, outcome string, took time.Duration) {
	if m != nil {
		m.jobs.WithLabelValues(step, outcome).Inc()
		m.jobTime.WithLabelValues(step).Observe(took.Seconds())
	}
}

// line counts one that a job wrote.
func (m *Metrics) line(masked, kept bool) {
	if m == nil {
		return
	}
	m.lines.Inc()
	if masked {
		m.redacted.Inc()
	}
	if !kept {
		m.dropped.Inc()
	}
}

// Swept counts a thing that a sweeper removed.
func (m *Metrics) Swept(kind string) {
	if m != nil {
		m.swept.WithLabelValues(kind).Inc()
	}
}

// SweepDone says that a sweep left nothing behind.
func (m *Metrics) SweepDone() {
	if m != nil {
		m.sweep.SetToCurrentTime()
	}
}
