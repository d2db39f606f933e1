package webhook

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"skep/services/controlplane"
)

// metrics have labels of a fixed number: no sender can make more.
type metrics struct {
	deliveries *prometheus.CounterVec
	took       *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "skep_webhook_deliveries_total",
			Help: "Requests to the webhook endpoint by provider and what became of them.",
		}, []string{"provider", "outcome"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "skep_webhook_ack_seconds",
			Help:    "Time until a delivery was stored and answered.",
			Buckets: []float64{.001, .0025, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"provider"}),
	}
	for _, c := range []prometheus.Collector{m.deliveries, m.took} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) count(p controlplane.Provider, o outcome, took time.Duration) {
	if p == "" {
		p = "none"
	}
	m.deliveries.WithLabelValues(string(p), string(o)).Inc()
	if o == stored || o == duplicate {
		m.took.WithLabelValues(string(p)).Observe(took.Seconds())
	}
}
