package reconcile

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of reconcilers, by zone; a tunnel is the zone "tunnel/<id>".
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

func (m *Metrics) change(zone string, action string, err error) {
	if m != nil {
		m.changes.WithLabelValues(zone, action, result(err)).Inc()
	}
}

func (m *Metrics) sync(zone string, at time.Time, conflicts, held int, err error) {
	if m == nil {
		return
	}
	m.syncs.WithLabelValues(zone, result(err)).Inc()
	if err == nil {
		m.conflicts.WithLabelValues(zone).Set(float64(conflicts))
		m.held.WithLabelValues(zone).Set(float64(held))
		m.last.WithLabelValues(zone).Set(float64(at.Unix()))
	}
}
