package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"skep/services/worker"
)

// metrics are served at /metrics of an address, if there is one, until stop.
func (get settings) metrics(ctx context.Context) (m *worker.Metrics, stop func() error, err error) {
	address, _ := get("SKEP_WORKER_METRICS_LISTEN")
	if address == "" {
		return nil, func() error { return nil }, nil
	}
	registry := prometheus.NewRegistry()
	if m, err = worker.NewMetrics(registry); err != nil {
		return nil, nil, err
	}
	about := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "skep_build_info", Help: "Always 1; the label says which version this is.", ConstLabels: prometheus.Labels{"version": version},
	})
	about.Set(1)
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), about)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, nil, fmt.Errorf("serve metrics at SKEP_WORKER_METRICS_LISTEN: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	return m, func() error {
		err := server.Close()
		if e := <-done; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
		return err
	}, nil
}
