package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"

	"skep/services/controlplane/webhook"
)

// exchange is what is learnt of a request on its way, for the log.
type exchange struct {
	id    string
	actor string
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	if e, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return e
	}
	return &exchange{}
}

// RequestID is what the server calls the request that ctx is of, a UUID; empty
// outside of one.
func RequestID(ctx context.Context) string { return exchangeOf(ctx).id }

const headerRequest = "X-Request-Id"

// answerTime is for requests that set no deadline of their own.
const answerTime = time.Minute

// ServeHTTP answers one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	e := &exchange{id: newRequestID()}
	r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, e))
	out := &recorder{ResponseWriter: w}
	secure(out.Header(), e.id)
	// A deadline lasts as long as the connection, so each request sets its own.
	_ = http.NewResponseController(w).SetWriteDeadline(start.Add(answerTime))

	isWebhook := strings.HasPrefix(r.URL.EscapedPath(), webhook.Path)
	defer func() {
		problem := recover()
		if problem == http.ErrAbortHandler {
			panic(problem)
		}
		if problem != nil {
			a.crashed(r.Context(), problem)
			if out.status == 0 {
				writeProblem(out, r, http.StatusInternalServerError, "Something went wrong. The server's log has it under this problem's instance.")
			}
		}
		took := time.Since(start)
		a.metrics.request(r.Pattern, out.status, took)
		nameSpan(r, isWebhook)
		if !isWebhook { // it has a line of its own
			a.log.LogAttrs(r.Context(), level(out.status), "request",
				slog.String("method", method(r)), slog.String("route", r.Pattern), slog.Int("status", out.status),
				slog.Int64("bytes", out.bytes), slog.Duration("took", took), slog.String("actor", e.actor),
				slog.String("remote", a.remote(r).String()))
		}
		if problem != nil && out.status != http.StatusInternalServerError {
			panic(http.ErrAbortHandler) // the client must not take a part for the whole
		}
	}()
	if isWebhook {
		a.options.Webhooks.ServeHTTP(out, r)
		return
	}
	a.route(out, r)
}

// nameSpan gives the request's span, if it has one, the route that the router
// found: whoever made it did not know.
func nameSpan(r *http.Request, isWebhook bool) {
	span := trace.SpanFromContext(r.Context())
	if !span.IsRecording() {
		return
	}
	_, path, found := strings.Cut(r.Pattern, " ")
	if isWebhook {
		path, found = webhook.Path+"{provider}/{source}", true
	}
	if found {
		span.SetName(method(r) + " " + path)
		span.SetAttributes(semconv.HTTPRoute(path))
	}
}

// newRequestID is in order of time, as logs are.
func newRequestID() string {
	id, err := uuid.NewV7()
	if err != nil {
		id = uuid.New()
	}
	return id.String()
}

// secure sets what every answer has. All that is answered is data: nothing may
// run, frame or keep it.
func secure(h http.Header, id string) {
	h.Set(headerRequest, id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// route finds the operation. The router would redirect what has to be cleaned,
// and answer in plain text what it does not know.
func (a *API) route(w http.ResponseWriter, r *http.Request) {
	escaped := r.URL.EscapedPath()
	if !strings.HasPrefix(escaped, "/") || path.Clean(escaped) != escaped {
		writeProblem(w, r, http.StatusNotFound, "There is nothing here.")
		return
	}
	handler, pattern := a.mux.Handler(r)
	if pattern != "" {
		a.mux.ServeHTTP(w, r)
		return
	}
	said := &silent{header: http.Header{}}
	handler.ServeHTTP(said, r)
	if said.status != http.StatusMethodNotAllowed {
		writeProblem(w, r, http.StatusNotFound, "There is nothing here.")
		return
	}
	allow := said.header.Get("Allow")
	w.Header().Set("Allow", allow)
	writeProblem(w, r, http.StatusMethodNotAllowed, "Use one of "+allow+".")
}

// crashed logs a panic. Its value may be anything, and so hold a secret.
func (a *API) crashed(ctx context.Context, problem any) {
	what := fmt.Sprintf("%T", problem)
	if e, ok := problem.(runtime.Error); ok {
		what = e.Error()
	}
	a.log.ErrorContext(ctx, "panic", "error", what, "stack", string(debug.Stack()))
}

func level(status int) slog.Level {
	switch {
	case status >= 500:
		return slog.LevelError
	case status >= 400:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// method is a word of the client's, unless it is known.
func method(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodOptions, http.MethodPatch:
		return r.Method
	}
	return "other"
}

// recorder sees what is answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 || r.status == http.StatusContinue {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// silent keeps an answer from the client.
type silent struct {
	header http.Header
	status int
}

func (s *silent) Header() http.Header         { return s.header }
func (s *silent) Write(p []byte) (int, error) { return len(p), nil }
func (s *silent) WriteHeader(status int)      { s.status = status }
