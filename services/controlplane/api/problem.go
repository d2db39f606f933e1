package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"skep/services/controlplane"
	"skep/services/controlplane/integration"
)

// finish is the last that a problem passes. What the client sent is not sent
// back, as it may be a credential at the wrong place, and the request's id tells
// where in the log to look.
func finish(ctx huma.Context, _ string, body any) (any, error) {
	if p, ok := body.(*huma.ErrorModel); ok {
		complete(ctx.Context(), p)
	}
	return body, nil
}

func complete(ctx context.Context, p *huma.ErrorModel) {
	for _, e := range p.Errors {
		if e != nil {
			e.Value = nil
		}
	}
	if id := RequestID(ctx); id != "" {
		p.Instance = "urn:uuid:" + id
	}
}

// writeProblem is for answers that no operation gives.
func writeProblem(w http.ResponseWriter, r *http.Request, status int, detail string) {
	p := &huma.ErrorModel{Title: http.StatusText(status), Status: status, Detail: detail}
	complete(r.Context(), p)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(p) // the client may be gone
}

// at is a problem of the request at a place in it.
func at(location, format string, args ...any) *huma.ErrorDetail {
	return &huma.ErrorDetail{Location: location, Message: fmt.Sprintf(format, args...)}
}

// refuse is 422 with what is wrong at each place.
func refuse(details ...*huma.ErrorDetail) error {
	errs := make([]error, len(details))
	for i, d := range details {
		errs[i] = d
	}
	return huma.Error422UnprocessableEntity("validation failed", errs...)
}

// retryAfter is how long a client should wait for what is away.
const retryAfter = 10 * time.Second

func unavailable(detail string, after time.Duration) error {
	seconds := max(1, int((after+time.Second-1)/time.Second))
	return huma.ErrorWithHeaders(huma.Error503ServiceUnavailable(detail), http.Header{"Retry-After": {strconv.Itoa(seconds)}})
}

// answer makes a problem of an error. Those of the domain explain themselves;
// what the others say is for the log.
func (a *API) answer(ctx context.Context, err error) error {
	var status huma.StatusError
	var problems integration.Problems
	var patience *controlplane.RetryError
	switch {
	case errors.As(err, &status):
		return err
	case errors.As(err, &problems):
		return refuse(fieldProblems(problems, integration.Driver{})...)
	case errors.As(err, &patience):
		return unavailable(err.Error(), patience.After)
	case errors.Is(err, controlplane.ErrNotFound):
		return huma.Error404NotFound(err.Error())
	case errors.Is(err, controlplane.ErrInvalid):
		return huma.Error422UnprocessableEntity(err.Error())
	case errors.Is(err, controlplane.ErrConflict), errors.Is(err, controlplane.ErrOver), errors.Is(err, controlplane.ErrBusy):
		return huma.Error409Conflict(err.Error())
	}
	a.log.ErrorContext(ctx, "request failed", "error", err)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return unavailable("It took too long.", retryAfter)
	}
	return huma.Error500InternalServerError("Something went wrong. The server's log has it under this problem's instance.")
}
