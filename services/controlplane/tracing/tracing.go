// Package tracing sends spans to a collector, over HTTP as OTLP says, where the
// OTEL_ variables of the OpenTelemetry specification name one. Packages make
// spans through OpenTelemetry's global API; without a collector that costs next
// to nothing.
//
// What a span holds are names, numbers and outcomes, and of a request's headers
// the User-Agent: no body, no query, no credential and no message of an error,
// which may quote any of them. The log has the messages, under the trace's id.
// Those that libraries put into spans are not sent.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
)

const (
	// flushTime is what is left for spans when the process ends.
	flushTime = 5 * time.Second
	// maxValue bounds an attribute, as some come from strangers, unless
	// OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT does.
	maxValue = 256
)

// Traces are on their way to a collector. The zero value is none.
type Traces struct {
	provider *sdk.TracerProvider
	log      *slog.Logger
}

// Start sends this process's spans to the collector that the environment names,
// if it names one, as those of a service.
//
// A collector that is away slows nothing down: what does not fit into the queue
// is lost, and the log says so once.
func Start(ctx context.Context, service, version string, log *slog.Logger) (Traces, error) {
	if on, err := wanted(os.LookupEnv); err != nil || !on {
		return Traces{}, err
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("tracing", "error", err) }))
	client, err := otlptracehttp.New(ctx)
	if err != nil {
		return Traces{}, fmt.Errorf("trace: %w", err)
	}
	about, err := resource.New(ctx, resource.WithAttributes(semconv.ServiceName(service), semconv.ServiceVersion(version)),
		resource.WithTelemetrySDK(), resource.WithHost(), resource.WithFromEnv())
	if err != nil {
		return Traces{}, fmt.Errorf("trace: read OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	limits := sdk.NewSpanLimits()
	if limits.AttributeValueLengthLimit < 0 {
		limits.AttributeValueLengthLimit = maxValue
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(&exporter{SpanExporter: client, log: log}), sdk.WithResource(about), sdk.WithRawSpanLimits(limits))
	otel.SetTracerProvider(provider)
	return Traces{provider, log}, nil
}

// Stop sends what is left, for a few seconds at most.
func (t Traces) Stop(ctx context.Context) {
	if t.provider == nil {
		return
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
	defer cancel()
	if err := t.provider.Shutdown(late); err != nil {
		t.log.WarnContext(ctx, "the last spans are lost", "error", err)
	}
}

// wanted says whether there is a collector. The SDK would log what it does not
// understand and send spans to a default address.
func wanted(get func(string) (string, bool)) (bool, error) {
	first := func(names ...string) (name, value string) {
		for _, name := range names {
			if v, _ := get(name); v != "" {
				return name, v
			}
		}
		return "", ""
	}
	if _, v := first("OTEL_SDK_DISABLED"); strings.EqualFold(v, "true") {
		return false, nil
	}
	switch _, v := first("OTEL_TRACES_EXPORTER"); v {
	case "", "otlp":
	case "none":
		return false, nil
	default:
		return false, fmt.Errorf("OTEL_TRACES_EXPORTER is %q; there are otlp and none", v)
	}
	name, endpoint := first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	if endpoint == "" {
		return false, nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" { // err quotes the URL, which may hold a password
		return false, errors.New(name + " is no URL like http://collector:4318")
	}
	if name, v := first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); v != "" && v != "http/protobuf" {
		return false, fmt.Errorf("%s is %q; http/protobuf is spoken, to port 4318 of most collectors", name, v)
	}
	if _, v := first("OTEL_TRACES_SAMPLER"); v != "" && !slices.Contains(samplers, v) {
		return false, fmt.Errorf("OTEL_TRACES_SAMPLER is %q; there are %v", v, samplers)
	}
	return true, nil
}

var samplers = []string{"always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"}

// bare is a span without what errors say: exceptions are events.
type bare struct{ sdk.ReadOnlySpan }

func (bare) Events() []sdk.Event  { return nil }
func (b bare) Status() sdk.Status { return sdk.Status{Code: b.ReadOnlySpan.Status().Code} }

// exporter sends bare spans, and tells of trouble once, until there is none.
type exporter struct {
	sdk.SpanExporter
	log  *slog.Logger
	lost int // spans; the batcher calls one at a time
}

func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	sent := make([]sdk.ReadOnlySpan, len(spans))
	for i, s := range spans {
		sent[i] = bare{s}
	}
	err := e.SpanExporter.ExportSpans(ctx, sent)
	switch {
	case err != nil:
		if e.lost == 0 {
			e.log.WarnContext(ctx, "spans are lost: their collector does not take them", "error", err)
		}
		e.lost += len(spans)
	case e.lost > 0:
		e.log.InfoContext(ctx, "the collector takes spans again", "lost", e.lost)
		e.lost = 0
	}
	return nil
}
