package swarmjob

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"

	"skep/services/worker/postscript"
)

// tracer is of whoever traces the run: nobody, mostly.
func tracer(ctx context.Context) trace.Tracer {
	return trace.SpanFromContext(ctx).TracerProvider().Tracer("skep/services/worker/swarmjob")
}

// phase is a span of what the launcher does itself. What fails is said by the
// job's own.
func phase(ctx context.Context, name string, o ...trace.SpanStartOption) (_ context.Context, end func(...trace.SpanEndOption)) {
	ctx, span := tracer(ctx).Start(ctx, name, o...)
	return ctx, span.End
}

// phases are those in the container, which reaches no collector. A node whose
// clock is wrong has them at another time.
func phases(ctx context.Context, n postscript.Note) {
	for name, times := range map[string][2]time.Time{"unpack tree": {n.Begun, n.Ready}, "command": {n.Ready, n.Ended}} {
		from, to := times[0], times[1]
		if from.IsZero() || to.Before(from) {
			continue
		}
		_, end := phase(ctx, name, trace.WithTimestamp(from))
		end(trace.WithTimestamp(to))
	}
}
