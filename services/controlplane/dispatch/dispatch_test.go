package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"skep/services/controlplane"
)

func ids(from, to int) (out []string) {
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("%0*d", idLength, i))
	}
	return out
}

func TestDispatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, e := newOutbox(2), newEngine()
		o.projects = append(o.projects,
			controlplane.Project{Name: "second", Integration: "main", Provider: controlplane.GitHub, Repository: "acme/cluster", Cluster: "two"},
			controlplane.Project{Name: "foreign", Integration: "other", Provider: controlplane.GitHub, Repository: "acme/cluster", Cluster: "three", Deploy: controlplane.DeployAlways})
		stop := run(t, o, e, o.wake)
		o.push(t, 1, "000001")
		for _, d := range []controlplane.Delivery{
			{Source: 1, Provider: controlplane.GitHub, Event: "push", Delivery: "2", Body: []byte(pushBody("acme/other"))},
			{Source: 1, Provider: controlplane.GitHub, Event: "ping", Delivery: "3", Body: []byte(`{}`)},
			{Source: 1, Provider: controlplane.GitHub, Event: "push", Delivery: "4", Body: []byte(`{"ref":`)},
		} {
			if _, _, err := o.Add(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		var got []string
		for _, r := range e.runs() {
			got = append(got, fmt.Sprintf("%s %s %s", r.Project, r.Kind, r.Key))
			if _, err := controlplane.ParseRunID(string(r.ID)); err != nil {
				t.Error(err)
			}
			if r.Delivery != o.row(0).ID {
				t.Errorf("%s follows delivery %d", r.Key, r.Delivery)
			}
		}
		want := []string{"home deploy delivery/1/0/home/deploy/000001", "second plan delivery/1/0/second/plan/000001"}
		if !slices.Equal(got, want) {
			t.Errorf("started %q, want %q", got, want)
		}
		if r := o.row(0); r.State != controlplane.DeliveryDispatched || r.Run != e.runs()[0].ID {
			t.Errorf("%+v", r)
		}
		for i, state := range []controlplane.DeliveryState{controlplane.DeliveryIgnored, controlplane.DeliveryIgnored, controlplane.DeliveryFailed} {
			if r := o.row(i + 1); r.State != state || r.Error == "" {
				t.Errorf("delivery %d is %s: %s", i+2, r.State, r.Error)
			}
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// panicking is an outbox in which one repository's projects cannot be looked up.
type panicking struct{ *outbox }

func (p panicking) ProjectsOf(ctx context.Context, provider controlplane.Provider, r controlplane.Repository) ([]controlplane.Project, error) {
	if r == "acme/broken" {
		panic("planted")
	}
	return p.outbox.ProjectsOf(ctx, provider, r)
}

// A delivery that makes the dispatcher panic has failed, and those after it go on.
func TestDispatchPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, e := newOutbox(1), newEngine()
		stop := run(t, panicking{o}, e, o.wake)
		if _, _, err := o.Add(t.Context(), controlplane.Delivery{
			Source: 1, Provider: controlplane.GitHub, Event: "push", Delivery: "1", Body: []byte(pushBody("acme/broken")),
		}); err != nil {
			t.Fatal(err)
		}
		o.push(t, 1, "000001")
		synctest.Wait()
		if r := o.row(0); r.State != controlplane.DeliveryFailed || !strings.Contains(r.Error, "it panicked (string)") {
			t.Errorf("the delivery is %s: %s", r.State, r.Error)
		}
		if len(e.runs()) != 1 || o.row(1).State != controlplane.DeliveryDispatched {
			t.Errorf("the next one started %+v", e.runs())
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestRunIDs(t *testing.T) {
	if a, b := runID("a"), runID("b"); a == b || a != runID("a") || a[14] != '8' {
		t.Errorf("%s, %s", a, b)
	}
}

// A source with no integration starts nothing of anybody's.
func TestSourceWithoutIntegration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, e := newOutbox(1), newEngine()
		o.sources[1] = controlplane.Source{ID: 1}
		o.projects[0].Integration = ""
		stop := run(t, o, e, o.wake)
		o.push(t, 1, "000001")
		synctest.Wait()
		if r := o.row(0); r.State != controlplane.DeliveryIgnored || len(e.runs()) != 0 {
			t.Errorf("%s, %d runs", r.State, len(e.runs()))
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// Nobody wakes the dispatcher: it looks by itself.
func TestPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, e := newOutbox(1), newEngine()
		stop := run(t, o, e, nil)
		synctest.Wait()
		o.push(t, 1, "000001")
		synctest.Wait()
		if len(e.runs()) != 0 {
			t.Fatal("woken by nobody")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(e.runs()) != 1 {
			t.Error("the poll found nothing")
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestPause(t *testing.T) {
	want := []time.Duration{1, 1, 2, 4, 8, 16, 30, 30}
	for attempts, w := range want {
		if got := pause(attempts); got != w*time.Second {
			t.Errorf("%d: %s", attempts, got)
		}
	}
	if pause(1<<30) != longestPause {
		t.Error("many")
	}
}

func TestLeaseMustOutlastADelivery(t *testing.T) {
	_, err := New(Options{Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler), Lease: longestDelivery})
	if err == nil {
		t.Error("a lease that is too short is taken")
	}
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, e := newOutbox(1), newEngine()
		registry := prometheus.NewRegistry()
		d, err := New(Options{Store: o, Starter: e, Metrics: registry, Log: slog.New(slog.DiscardHandler), Wake: nil, Poll: time.Second, Lease: lease})
		if err != nil {
			t.Fatal(err)
		}
		e.set(func(controlplane.Run) error { return errEngine })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- d.Run(ctx) }()
		o.push(t, 1, "000000")
		time.Sleep(5500 * time.Millisecond)
		o.push(t, 1, "000001")
		time.Sleep(time.Second)
		want := map[string]float64{"skep_dispatch_queue_depth": 2, "skep_dispatch_oldest_seconds": 6, "skep_dispatch_open_starts": 0}
		check := func(want map[string]float64) {
			t.Helper()
			families, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				if w, ok := want[f.GetName()]; ok {
					if got := f.Metric[0].Gauge.GetValue(); got != w {
						t.Errorf("%s is %v, want %v", f.GetName(), got, w)
					}
					delete(want, f.GetName())
				}
				if f.GetName() == "skep_dispatch_latency_seconds" && f.Metric[0].Histogram.GetSampleCount() != uint64(o.count(controlplane.DeliveryDispatched)) {
					t.Errorf("%d latencies", f.Metric[0].Histogram.GetSampleCount())
				}
			}
			if len(want) > 0 {
				t.Errorf("not there: %v", want)
			}
		}
		check(want)
		e.set(nil)
		time.Sleep(time.Minute)
		check(map[string]float64{"skep_dispatch_queue_depth": 0, "skep_dispatch_oldest_seconds": 0})
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
