package api

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"skep/services/controlplane"
)

// LogLine is a line that a run wrote, with secrets masked.
type LogLine struct {
	N      int       `json:"n" doc:"The line's number, from 1"`
	At     time.Time `json:"at"`
	Stream string    `json:"stream" doc:"stdout, stderr or skep"`
	Text   string    `json:"text"`
}

// LogPage is a part of a log.
type LogPage struct {
	Items []LogLine `json:"items" nullable:"false"`
	Next  int       `json:"next" doc:"What to ask after for the lines that follow; there may be none yet"`
	Over  bool      `json:"over" doc:"The run has ended and there are no more lines"`
}

const (
	// pollLog is how often a log that is followed is looked at: lines are no
	// events, as there are too many.
	pollLog  = 500 * time.Millisecond
	logBatch = 1000
)

func (a *API) logRoutes() {
	register(a, operation{
		id: "log.get", method: http.MethodGet, path: "/runs/{id}/log", summary: "Read a run's log", scope: controlplane.ScopeRead,
	}, func(ctx context.Context, in *struct {
		ByRun
		After int `query:"after" minimum:"0" doc:"The number of the last line that was read"`
		Limit int `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}) (*Reply[LogPage], error) {
		// The state comes first: lines that are written later belong to a run that
		// was not over.
		run, err := a.options.Store.Run(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		lines, err := a.options.Store.ReadLog(ctx, in.ID, in.After, in.Limit)
		if err != nil {
			return nil, err
		}
		page := LogPage{Items: make([]LogLine, 0, len(lines)), Next: in.After, Over: run.State.Over() && len(lines) < in.Limit}
		for _, l := range lines {
			page.Items = append(page.Items, LogLine{N: l.N, At: l.At.UTC(), Stream: l.Stream, Text: l.Text})
			page.Next = l.N
		}
		return &Reply[LogPage]{Body: page}, nil
	})
	register(a, operation{
		id: "log.text", method: http.MethodGet, path: "/runs/{id}/log/text", summary: "Read a run's log as text, and follow it until the run ends",
		scope: controlplane.ScopeRead, timeout: forever, content: stream("text/plain", "The lines, without numbers and times"),
	}, a.logText)
}

func stream(media, description string) map[string]*huma.Response {
	return map[string]*huma.Response{"200": {
		Description: description, Content: map[string]*huma.MediaType{media: {Schema: &huma.Schema{Type: huma.TypeString}}},
	}}
}

func (a *API) logText(ctx context.Context, in *struct {
	ByRun
	After  int  `query:"after" minimum:"0" doc:"The number of the last line that was read"`
	Follow bool `query:"follow" doc:"Wait for more until the run ends"`
}) (*huma.StreamResponse, error) {
	if _, err := a.options.Store.Run(ctx, in.ID); err != nil {
		return nil, err
	}
	leave, err := a.enter(streamLog)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(c huma.Context) {
		defer leave()
		c.SetHeader("Content-Type", "text/plain; charset=utf-8")
		c.SetHeader("X-Accel-Buffering", "no")
		_, w := humago.Unwrap(c)
		if err := a.writeLog(c.Context(), newStream(w), in.ID, in.After, in.Follow); err != nil && c.Context().Err() == nil {
			a.log.WarnContext(c.Context(), "a log that was followed ended", "error", err)
			panic(http.ErrAbortHandler) // the client must not take it for the end
		}
	}}, nil
}

func (a *API) writeLog(ctx context.Context, w *streamWriter, id controlplane.RunID, after int, follow bool) error {
	poll := time.NewTicker(pollLog)
	defer poll.Stop()
	check := time.NewTicker(a.options.Heartbeat)
	defer check.Stop()
	for {
		run, err := a.options.Store.Run(ctx, id)
		if err != nil {
			return err
		}
		lines, err := a.options.Store.ReadLog(ctx, id, after, logBatch)
		if err != nil {
			return err
		}
		var text bytes.Buffer
		for _, l := range lines {
			text.WriteString(l.Text)
			text.WriteByte('\n')
			after = l.N
		}
		if err := w.write(text.Bytes()); err != nil {
			return err
		}
		if len(lines) == logBatch {
			continue
		}
		if !follow || run.State.Over() {
			return nil
		}
		select {
		case <-poll.C:
		case <-check.C:
			if err := a.stillGood(ctx); err != nil {
				return err
			}
		case <-a.hub.ended:
			return errDraining
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stillGood looks at the caller's token again: it may have been revoked since
// the stream began. A store that is away for a moment ends no stream.
func (a *API) stillGood(ctx context.Context) error {
	_, err := a.options.Store.Authenticate(ctx, callerOf(ctx).shown)
	if errors.Is(err, controlplane.ErrDenied) {
		return err
	}
	return nil
}
