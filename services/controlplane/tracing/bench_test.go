package tracing_test

import (
	"net/http"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"skep/services/controlplane/tracing"
)

// BenchmarkDelivery is what tracing adds to a delivery: a span for the request,
// its parent kept, and resumed by the dispatch. Nothing reads the spans.
func BenchmarkDelivery(b *testing.B) {
	for name, provider := range map[string]trace.TracerProvider{"off": noop.NewTracerProvider(), "on": sdk.NewTracerProvider()} {
		b.Run(name, func(b *testing.B) {
			otel.SetTracerProvider(provider)
			defer otel.SetTracerProvider(noop.NewTracerProvider())
			tracer := otel.GetTracerProvider().Tracer("bench")
			b.ReportAllocs()
			for b.Loop() {
				ctx, span := tracer.Start(b.Context(), http.MethodPost)
				kept := tracing.Parent(ctx)
				span.End()
				_, span = tracer.Start(tracing.Resume(b.Context(), kept), "dispatch", trace.WithAttributes(attribute.Int64("skep.delivery", 1)))
				span.End()
			}
		})
	}
}
