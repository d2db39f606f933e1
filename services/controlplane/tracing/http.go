package tracing

import (
	"net/http"
	"slices"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"
)

// Handler makes a span of each request but those to the paths in but: probes,
// and streams that last for hours. A traceparent that comes with a request is
// not looked at: whoever sends it is a stranger until the handler knows better,
// and strangers neither join traces nor choose which are kept.
func (t Traces) Handler(h http.Handler, but ...string) http.Handler {
	if t.provider == nil {
		return h
	}
	return otelhttp.NewHandler(h, "",
		otelhttp.WithPropagators(propagation.NewCompositeTextMapPropagator()),
		otelhttp.WithFilter(func(r *http.Request) bool { return !slices.Contains(but, r.URL.Path) }))
}
