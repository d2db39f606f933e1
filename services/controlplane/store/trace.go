package store

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"
)

var tracer = otel.Tracer("skep/services/controlplane/store")

// queryTracer makes a span of a query, where its caller is traced: what the
// server asks for by itself, every other second, is none. It has the query's
// name and, of an error, its SQLSTATE: the message may quote a value.
type queryTracer struct{}

var _ pgx.QueryTracer = queryTracer{}

func (queryTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, query pgx.TraceQueryStartData) context.Context {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx
	}
	ctx, _ = tracer.Start(ctx, queryName(query.SQL), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(semconv.DBSystemNamePostgreSQL))
	return context.WithValue(ctx, queryKey{}, true)
}

func (queryTracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, query pgx.TraceQueryEndData) {
	if ctx.Value(queryKey{}) == nil {
		return
	}
	span := trace.SpanFromContext(ctx)
	if query.Err != nil && !errors.Is(query.Err, pgx.ErrNoRows) {
		span.SetStatus(codes.Error, "")
		var answer *pgconn.PgError
		if errors.As(query.Err, &answer) {
			span.SetAttributes(attribute.String(string(semconv.DBResponseStatusCodeKey), answer.Code))
		}
	}
	span.End()
}

// queryKey marks the context of a query that has a span of its own.
type queryKey struct{}

// queryName is what sqlc wrote above a query, or the first word of another.
func queryName(sql string) string {
	if rest, ok := strings.CutPrefix(sql, "-- name: "); ok {
		sql = rest
	}
	name, _, _ := strings.Cut(strings.TrimSpace(sql), " ")
	return name
}
