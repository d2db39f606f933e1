package engine

import (
	"context"
	"io"
	"log/slog"

	"github.com/rs/zerolog"
)

// quiet is the SDK's log: its warnings and errors, in ours.
func quiet(log *slog.Logger) zerolog.Logger {
	return zerolog.New(io.Discard).Level(zerolog.WarnLevel).Hook(zerolog.HookFunc(func(_ *zerolog.Event, level zerolog.Level, message string) {
		to := slog.LevelWarn
		if level >= zerolog.ErrorLevel {
			to = slog.LevelError
		}
		log.Log(context.Background(), to, message, "from", "hatchet")
	}))
}
