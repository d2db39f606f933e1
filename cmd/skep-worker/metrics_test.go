package main

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"skep/internal/porttest"
)

func TestMetrics(t *testing.T) {
	address := porttest.Address(t)
	get := settings(func(name string) (string, bool) {
		v, ok := map[string]string{"SKEP_WORKER_METRICS_LISTEN": address}[name]
		return v, ok
	})
	counts, stop, err := get.metrics(t.Context())
	if err != nil || counts == nil {
		t.Fatal(err)
	}
	if _, _, err := get.metrics(t.Context()); err == nil {
		t.Error("two serve at one address")
	}
	counts.SweepDone()
	answer, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	for _, want := range []string{"skep_worker_active_runs{priority=\"critical\"} 0\n", "skep_build_info{version=", "\ngo_goroutines ", "\nprocess_"} {
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("no %q in %v\n%s", want, err, text)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := http.Get("http://" + address + "/metrics"); err == nil {
		t.Error("it serves on")
	}
	none := settings(func(string) (string, bool) { return "", false })
	if counts, stop, err := none.metrics(t.Context()); counts != nil || err != nil || stop() != nil {
		t.Errorf("nobody asked for metrics: %v, %v", counts, err)
	}
}
