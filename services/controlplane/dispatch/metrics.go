package dispatch

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	depth    prometheus.Gauge
	age      prometheus.Gauge
	calls    prometheus.Gauge
	latency  prometheus.Histogram
	outcomes *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		depth: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "skep_dispatch_queue_depth", Help: "Deliveries that wait to be dispatched.",
		}),
		age: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "skep_dispatch_oldest_seconds", Help: "Age of the oldest delivery that waits to be dispatched.",
		}),
		calls: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "skep_dispatch_open_starts", Help: "Starts that the engine has not answered.",
		}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "skep_dispatch_latency_seconds", Help: "Time from the arrival of a delivery until its runs were started.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800},
		}),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "skep_dispatch_deliveries_total", Help: "Attempts to dispatch a delivery by what became of them.",
		}, []string{"outcome"}),
	}
	for _, o := range []outcome{dispatched, ignored, failed, later} { // so that a first one is an increase
		m.outcomes.WithLabelValues(string(o))
	}
	for _, c := range []prometheus.Collector{m.depth, m.age, m.calls, m.latency, m.outcomes} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
