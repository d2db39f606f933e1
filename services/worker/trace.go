package worker

import (
	"context"
	"maps"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"skep/services/controlplane"
)

var tracer = otel.Tracer("skep/services/worker")

// about says in the run's span which it is.
func about(ctx context.Context, run controlplane.Run) {
	trace.SpanFromContext(ctx).SetAttributes(attribute.String("skep.kind", string(run.Kind)),
		attribute.String("skep.project", string(run.Project)), attribute.String("skep.task", string(run.Task)))
}

// ended says how the run ended.
func ended(ctx context.Context, state controlplane.RunState) {
	span := trace.SpanFromContext(ctx)
	span.SetAttributes(attribute.String("skep.state", string(state)))
	if state == controlplane.RunFailed {
		span.SetStatus(codes.Error, "")
	}
}

// step begins a span, and end ends it with what came of it. The message of an
// error is the log's: it may quote what a job wrote.
func step(ctx context.Context, name string, about ...attribute.KeyValue) (_ context.Context, end func(error)) {
	ctx, span := tracer.Start(ctx, name, trace.WithAttributes(about...))
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// traceparent is how a task's code goes on with the trace; empty if there is none.
func traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier.Get("traceparent")
}

// outcome is what became of a job, for metrics.
func outcome(ctx context.Context, exit Exit, err error) string {
	switch {
	case ctx.Err() != nil:
		return jobCancelled
	case err != nil:
		return jobLost
	case exit.Killed != "":
		return jobKilled
	}
	return jobEnded
}

// launch runs a job in a span of its step, and stores what it says meanwhile.
func (w *Worker) launch(ctx context.Context, j Job, said *lines) (exit Exit, err error) {
	ctx, span := tracer.Start(ctx, j.Step, trace.WithAttributes(attribute.String("skep.run", string(j.Run))))
	defer span.End()
	if parent := traceparent(ctx); parent != "" && j.Step == taskStep {
		j.Env = maps.Clone(j.Env)
		if j.Env == nil {
			j.Env = map[string]string{}
		}
		j.Env["TRACEPARENT"] = parent // https://opentelemetry.io/docs/specs/otel/context/env-carriers/
	}
	j.Output = said.add
	begun := time.Now()
	said.during(ctx, w.Log, func() { exit, err = w.Launcher.Launch(ctx, j) })
	w.Metrics.job(j.Step, outcome(ctx, exit, err), time.Since(begun))
	span.SetAttributes(attribute.Int("process.exit.code", exit.Code))
	if err != nil || exit.Killed != "" {
		span.SetStatus(codes.Error, "")
	}
	return exit, err
}
