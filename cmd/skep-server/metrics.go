package main

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"skep/services/controlplane/engine"
	"skep/services/controlplane/store"
)

// measure registers the metrics that are no part's of the server alone.
func (s *server) measure(ctx context.Context, db *store.Store, at engine.Address) {
	about := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "skep_build_info", Help: "Always 1; the label says which version this is.", ConstLabels: prometheus.Labels{"version": version},
	})
	about.Set(1)
	up := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "skep_engine_up", Help: "Whether the workflow engine takes connections. Deliveries wait while it does not.",
	}, func() float64 {
		if reaches(ctx, at) != nil {
			return 0
		}
		return 1
	})
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), db.Collector(ctx), about, up)
}
