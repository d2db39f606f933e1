package main

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"skep/internal/polltest"
	"skep/networks"
	"skep/services/dns/authority"
	"skep/services/dns/labels"
	"skep/services/dns/providers"
)

// A name whose time is over stays for as long as the list of services is stale.
func TestStaleList(t *testing.T) {
	const domain = "in.example.com"
	log := slog.New(slog.DiscardHandler)
	server, err := authority.New(authority.Config{Allow: authority.Private, Log: log, Metrics: authority.NewMetrics(prometheus.NewRegistry()), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	h := &holder{
		program: &program{log: log, stdout: io.Discard}, server: server, grace: time.Nanosecond,
		zones: []networks.Zone{{Name: "internal", Domain: domain, Provider: providers.Own, Target: "10.0.0.11"}},
	}
	if err := h.start(); err != nil {
		t.Fatal(err)
	}
	serial := func() uint32 {
		n, _ := server.Serial(domain)
		return n
	}
	changes := func(from uint32) {
		t.Helper()
		polltest.Until(t, func() error {
			if serial() == from {
				return context.DeadlineExceeded
			}
			return nil
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	lists, ended := make(chan seen), make(chan error)
	go func() { ended <- h.run(ctx, lists) }()
	fresh := func() bool { return false }
	empty := serial()
	app := []labels.Service{{Name: "app", Labels: map[string]string{"caddy": "app.in.example.com"}}}
	lists <- seen{app, fresh}
	changes(empty)
	// The service goes, then the API: run asks when the name's time is over.
	asked := make(chan struct{})
	served := serial()
	lists <- seen{nil, func() bool { asked <- struct{}{}; return true }}
	select {
	case <-asked:
	case <-time.After(3 * time.Minute):
		t.Fatal("the name's time is over, and nobody asks whether the list is stale")
	}
	lists <- seen{app, fresh} // received, so that all before is done
	if serial() != served {
		t.Error("a name went while the list was stale")
	}
	lists <- seen{nil, fresh}
	changes(served)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
