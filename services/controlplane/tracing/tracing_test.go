package tracing_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"skep/internal/logtest"
	"skep/internal/polltest"
	"skep/services/controlplane/tracing"
	"skep/services/controlplane/tracing/tracingtest"
)

// start traces, as an environment says.
func start(t *testing.T, said *logtest.Buffer, environment map[string]string) tracing.Traces {
	t.Helper()
	for name, value := range environment {
		t.Setenv(name, value)
	}
	t.Cleanup(func() { otel.SetTracerProvider(noop.NewTracerProvider()) })
	traces, err := tracing.Start(t.Context(), "service", "1.2.3", slog.New(slog.NewTextHandler(said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return traces
}

// begin starts a span. Tracers that were made before tests keep their provider.
func begin(ctx context.Context, name string, about ...attribute.KeyValue) (context.Context, trace.Span) {
	return otel.GetTracerProvider().Tracer("test").Start(ctx, name, trace.WithAttributes(about...))
}

// never is a delay after which no test waits.
const never = "3600000"

func TestATraceCrossesProcesses(t *testing.T) {
	collector := tracingtest.Start(t)
	var said logtest.Buffer
	traces := start(t, &said, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_BSP_SCHEDULE_DELAY": never})
	var kept string
	h := traces.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { kept = tracing.Parent(r.Context()) }), "/probe")
	for _, path := range []string{"/probe", "/work?token=planted-query"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader("planted-body"))
		r.Header.Set("Authorization", "Bearer planted-token")
		r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		h.ServeHTTP(httptest.NewRecorder(), r)
		if path == "/probe" && kept != "" {
			t.Error("a probe is traced")
		}
	}
	_, span := begin(tracing.Resume(t.Context(), kept), "later", attribute.String("long", strings.Repeat("x", 10_000)))
	span.RecordError(errors.New("planted-error"))
	span.SetStatus(codes.Error, "planted-status")
	span.End()
	if n := len(collector.Spans()); n != 0 {
		t.Errorf("%d spans came before their time", n)
	}
	traces.Stop(t.Context())

	spans := map[string]tracingtest.Span{}
	for _, s := range collector.Spans() {
		spans[s.Name] = s
	}
	request, later := spans["POST"], spans["later"]
	if len(spans) != 2 || request.Service != "service" || request.Parent != "" || later.Trace != request.Trace || later.Parent != request.ID || !later.Failed {
		t.Errorf("the spans are %+v", spans)
	}
	if request.Trace == "0af7651916cd43dd8448eb211c80319c" || collector.Holds("\x0a\xf7\x65\x19\x16\xcd") {
		t.Error("a stranger's trace is joined")
	}
	if n := len(later.Attributes["long"]); n != 256 {
		t.Errorf("an attribute has %d bytes", n)
	}
	if collector.Holds("planted") {
		t.Error("the spans hold what the request did")
	}
}

func TestAStrangerDoesNotChooseWhatIsKept(t *testing.T) {
	collector := tracingtest.Start(t)
	var said logtest.Buffer
	traces := start(t, &said, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_TRACES_SAMPLER": "parentbased_always_off"})
	h := traces.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, span := begin(tracing.Resume(r.Context(), tracing.Parent(r.Context())), "inner")
		span.End()
	}))
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
	r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	h.ServeHTTP(httptest.NewRecorder(), r)
	traces.Stop(t.Context())
	if spans := collector.Spans(); len(spans) != 0 {
		t.Errorf("spans %+v", spans)
	}
}

func TestWithoutACollector(t *testing.T) {
	for name, environment := range map[string]map[string]string{
		"nothing set": {},
		"disabled":    {"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
		"no exporter": {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
	} {
		t.Run(name, func(t *testing.T) {
			var said logtest.Buffer
			traces := start(t, &said, environment)
			mux := http.NewServeMux()
			if h := traces.Handler(mux); h != http.Handler(mux) {
				t.Error("requests are traced")
			}
			ctx, span := begin(t.Context(), "x")
			if span.IsRecording() || tracing.Parent(ctx) != "" || tracing.Resume(ctx, "") != ctx {
				t.Error("there are spans")
			}
			traces.Stop(t.Context())
			if said.String() != "" {
				t.Errorf("the log says %s", &said)
			}
		})
	}
}

func TestMistakesStopTheStart(t *testing.T) {
	for name, test := range map[string]struct {
		environment map[string]string
		want        string
	}{
		"no URL":    {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "planted:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT is no URL"},
		"no host":   {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http:///v1/traces"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is no URL"},
		"gRPC":      {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf is spoken"},
		"sampler":   {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_SAMPLER": "parent"}, "parentbased_traceidratio"},
		"Zipkin":    {map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}, "there are otlp and none"},
		"a control": {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://planted\x7f@c"}, "is no URL"},
	} {
		t.Run(name, func(t *testing.T) {
			for name, value := range test.environment {
				t.Setenv(name, value)
			}
			_, err := tracing.Start(t.Context(), "service", "1", slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "planted") {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// A collector that is away costs one line of the log, and one more when it is
// back.
func TestACollectorThatIsAway(t *testing.T) {
	collector := tracingtest.Start(t)
	collector.Refuse(http.StatusForbidden)
	var said logtest.Buffer
	traces := start(t, &said, map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_BSP_SCHEDULE_DELAY": "1", "OTEL_BSP_MAX_QUEUE_SIZE": "64", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "16",
	})
	for range 10_000 {
		_, span := begin(t.Context(), "lost")
		span.End()
	}
	says := func(want string) error {
		if text := said.String(); !strings.Contains(text, want) {
			return fmt.Errorf("the log says %q, not %q", text, want)
		}
		return nil
	}
	polltest.Until(t, func() error { return says("spans are lost") })
	collector.Refuse(0)
	polltest.Until(t, func() error {
		_, span := begin(t.Context(), "kept")
		span.End()
		return says("takes spans again")
	})
	traces.Stop(t.Context())
	if n := strings.Count(said.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, &said)
	}
	for _, s := range collector.Spans() {
		if s.Name == "kept" {
			return
		}
	}
	t.Error("no span came after the collector did")
}

// One that takes connections and never answers does not keep the process.
func TestACollectorThatHangs(t *testing.T) {
	free := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-free:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(free)
	var said logtest.Buffer
	traces := start(t, &said, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": server.URL, "OTEL_BSP_SCHEDULE_DELAY": never})
	_, span := begin(t.Context(), "lost")
	span.End()
	traces.Stop(t.Context())
	if !strings.Contains(said.String(), "lost") {
		t.Errorf("the log says %q", &said)
	}
}

func TestLogHandler(t *testing.T) {
	collector := tracingtest.Start(t)
	var said logtest.Buffer
	traces := start(t, &said, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL})
	defer traces.Stop(t.Context())
	var out bytes.Buffer
	log := slog.New(tracing.LogHandler(slog.NewTextHandler(&out, nil))).With("a", "b")
	log.InfoContext(t.Context(), "outside")
	if strings.Contains(out.String(), "trace_id") {
		t.Errorf("outside of a trace: %s", &out)
	}
	ctx, span := begin(t.Context(), "x")
	defer span.End()
	log.InfoContext(ctx, "inside")
	at := span.SpanContext()
	if want := "a=b trace_id=" + at.TraceID().String() + " span_id=" + at.SpanID().String(); !strings.Contains(out.String(), want) {
		t.Errorf("got %s, want %s", &out, want)
	}
}
