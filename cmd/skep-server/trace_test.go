package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"skep/internal/porttest"
	"skep/internal/swarmtest"
	"skep/services/controlplane"
	"skep/services/controlplane/tracing/tracingtest"
	"skep/services/controlplane/webhook"
)

// A push is one trace, from the webhook in the server to what the worker asks
// of GitHub, and the log has its id. Who sends a webhook has no say in it. The
// spans come when the processes end, all of them.
func TestAPushIsOneTrace(t *testing.T) {
	t.Parallel()
	collector := tracingtest.Start(t)
	metrics := porttest.Address(t)
	f := newFaulty(t, 2, "SKEP_METRICS_LISTEN="+metrics, "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL, "OTEL_BSP_SCHEDULE_DELAY=3600000", "OTEL_SERVICE_NAME=plane")
	commit := f.push("app", "")
	f.await("the run ends", func() error {
		r, err := f.run("app")
		if err == nil && r.State != controlplane.RunSucceeded {
			err = fmt.Errorf("it is %s: %s", r.State, r.Error)
		}
		return errors.Join(err, f.state("app", commit))
	})
	const stranger = "0af7651916cd43dd8448eb211c80319c"
	body := `{"zen": "planted-body"}`
	f.deliver(controlplane.GitHub, body, func(r *http.Request) {
		mac := hmac.New(sha256.New, []byte(hookSecret))
		mac.Write([]byte(body))
		r.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
		r.Header.Set("X-Github-Event", "ping")
		r.Header.Set("X-Github-Delivery", "5f1a6f0e-0000-4000-8000-000000000001")
		r.Header.Set("Traceparent", "00-"+stranger+"-b7ad6b7169203331-01")
		r.URL.RawQuery = "token=planted-query"
	}, http.StatusOK)
	f.metrics(metrics, "skep_engine_up 1", `skep_runs{state="succeeded"} 1`, `skep_runs{state="failed"} 0`,
		`skep_dispatch_deliveries_total{outcome="dispatched"} 1`, `skep_build_info{version="dev"} 1`)
	f.end()

	spans := collector.Spans()
	const hook = "POST " + webhook.Path + "{provider}/{source}"
	run := only(t, spans, "run", nil)
	// From the last to the first.
	for _, want := range []struct{ service, name string }{
		{"skep-worker", "run"}, {"plane", "hatchet.run_workflow"}, {"plane", "dispatch"}, {"plane", hook},
	} {
		if run.Service != want.service || run.Name != want.name {
			t.Fatalf("%+v is not %v", run, want)
		}
		if run.Name == hook {
			break
		}
		run = only(t, spans, "", func(s tracingtest.Span) bool { return s.ID == run.Parent })
	}
	if run.Parent != "" {
		t.Errorf("the trace begins before %+v", run)
	}
	// Steps and what they do are below the run, in this order of names.
	for _, path := range []string{
		"fetch run", "GET fetch", "check run", "plan run", "deploy run", "report run", "AddDelivery " + hook, "StartRun dispatch", "SettleDelivery dispatch",
	} {
		child, parent, _ := strings.Cut(path, " ")
		if !slices.ContainsFunc(spans, func(s tracingtest.Span) bool {
			up := slices.IndexFunc(spans, func(p tracingtest.Span) bool { return p.ID == s.Parent })
			return s.Trace == run.Trace && strings.HasPrefix(s.Name, child) && up >= 0 && spans[up].Name == parent
		}) {
			t.Errorf("there is no %s below %s: %+v", child, parent, spans)
		}
	}

	if slices.ContainsFunc(spans, func(s tracingtest.Span) bool { return s.Trace == stranger || s.Parent == "b7ad6b7169203331" }) {
		t.Error("a stranger's trace is joined")
	}
	for _, secret := range []string{"planted", hookSecret, "PRIVATE KEY", "ghs_", "Bearer", f.postgres.Password(), strings.TrimPrefix(f.env[4], "SKEP_DATABASE_KEY=")} {
		if collector.Holds(secret) {
			t.Errorf("the spans hold a secret: %.6s...", secret)
		}
	}
	for _, message := range []string{"webhook", "dispatch", "run begins", "run ends"} {
		if !logged(f.log.String(), message, run.Trace) {
			t.Errorf("no line %q has the trace's id", message)
		}
	}
}

// only is the one span that has a name or fits; a test ends without it.
func only(t *testing.T, spans []tracingtest.Span, name string, fits func(tracingtest.Span) bool) tracingtest.Span {
	t.Helper()
	var found []tracingtest.Span
	for _, s := range spans {
		if s.Name == name || fits != nil && fits(s) {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d spans fit %q of %+v", len(found), name, spans)
	}
	return found[0]
}

// logged says whether a line of a trace has a message.
func logged(text, message, id string) bool {
	for line := range strings.SplitSeq(text, "\n") {
		var l struct {
			Msg     string
			TraceID string `json:"trace_id"`
		}
		if json.Unmarshal([]byte(line), &l) == nil && l.Msg == message && l.TraceID == id {
			return true
		}
	}
	return false
}

// A collector that is away changes nothing but a line of the log of each
// process.
func TestWithoutItsCollector(t *testing.T) {
	t.Parallel()
	f := newFaulty(t, 2, "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_BSP_SCHEDULE_DELAY=10")
	commit := f.push("app", "")
	f.await("the run ends", func() error { return f.state("app", commit) })
	if err := swarmtest.Poll(limit, func() error {
		if n := strings.Count(f.log.String(), "spans are lost"); n != 2 {
			return fmt.Errorf("%d lines say that spans are lost", n)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	f.end()
	if n := strings.Count(f.log.String(), "spans are lost"); n != 2 {
		t.Errorf("%d lines say that spans are lost", n)
	}
}
