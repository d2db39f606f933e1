package controller

import (
	"context"
	"log/slog"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap/exp/zapslog"
)

// caddyLog writes to the logger that Caddy has at that moment: configurations
// change it.
type caddyLog struct{ attributes []slog.Attr }

func (h caddyLog) now() slog.Handler {
	return zapslog.NewHandler(caddy.Log().Core(), zapslog.WithName("skep"), zapslog.AddStacktraceAt(slog.Level(127))).WithAttrs(h.attributes)
}

func (h caddyLog) Enabled(ctx context.Context, level slog.Level) bool {
	return h.now().Enabled(ctx, level)
}

func (h caddyLog) Handle(ctx context.Context, r slog.Record) error { return h.now().Handle(ctx, r) }

func (h caddyLog) WithAttrs(more []slog.Attr) slog.Handler {
	return caddyLog{append(append([]slog.Attr(nil), h.attributes...), more...)}
}

// WithGroup is not used here.
func (h caddyLog) WithGroup(string) slog.Handler { return h }
