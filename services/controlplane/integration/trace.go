package integration

import (
	"net/http"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"
)

var tracer = otel.Tracer("skep/services/controlplane/integration")

// traced sends a request within a span, until the answer's header. It is not
// otelhttp's, which records the query: providers put tokens there. Providers are
// not told of the trace.
func traced(r *http.Request, next http.RoundTripper) (*http.Response, error) {
	if !trace.SpanFromContext(r.Context()).IsRecording() {
		return next.RoundTrip(r)
	}
	ctx, span := tracer.Start(r.Context(), r.Method+" "+r.URL.Hostname(), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		semconv.HTTPRequestMethodKey.String(r.Method), semconv.ServerAddress(r.URL.Hostname()), semconv.URLPath(r.URL.Path)))
	defer span.End()
	response, err := next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		span.SetStatus(codes.Error, "")
		return nil, err
	}
	span.SetAttributes(semconv.HTTPResponseStatusCode(response.StatusCode))
	if response.StatusCode >= 400 {
		span.SetStatus(codes.Error, "")
	}
	return response, nil
}
