package tracing

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
)

const traceparent = "traceparent" // https://www.w3.org/TR/trace-context/

// Parent is the traceparent of what goes on in ctx, to be kept with what is
// done about it later; empty if nothing is traced.
func Parent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[traceparent]
}

// Resume makes spans of ctx children of one that Parent named, in whatever
// process. What is no traceparent changes nothing.
func Resume(ctx context.Context, parent string) context.Context {
	if parent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{traceparent: parent})
}
