package integration

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/textproto"
	"time"

	"skep/services/controlplane"
)

// transport returns an error instead of an answer where the provider asks for
// patience: a step that http.RoundTripper's contract does not foresee, so that
// libraries on top of it need not know all the ways in which providers ask.
type transport struct {
	Config
	options Options
	next    http.RoundTripper
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer r.Body.Close()
	}
	ctx, start := r.Context(), t.options.Time()
	renewed := false
	for try := 1; ; try++ {
		response, err := t.try(r)
		t.log(r, response, err, try, start)
		if err == nil && response.StatusCode == http.StatusUnauthorized && !renewed && t.Renew != nil && repeatable(r) && t.Renew(response) {
			drain(response)
			renewed = true
			continue
		}
		if err == nil {
			response.Request = r // the one that was sent has credentials
			return response, nil
		}
		var later *controlplane.RetryError
		var unsigned *authorizeError
		if !errors.As(err, &later) || errors.As(err, &unsigned) || ctx.Err() != nil {
			return nil, err
		}
		var refused *limitError
		turnedDown := errors.As(err, &refused) // nothing was done, whatever the method
		wait := later.After
		if !turnedDown {
			wait = backoff(try)
		}
		if try == maxTries || wait > patience || !repeatable(r) || !turnedDown && !t.Idempotent && !idempotent(r.Method) {
			return nil, err
		}
		if waitErr := t.options.wait(ctx, wait); waitErr != nil {
			return nil, errors.Join(err, waitErr)
		}
	}
}

// authorizeError marks that there were no credentials to send. Where getting
// them takes a request, that one was repeated already.
type authorizeError struct{ error }

func (e *authorizeError) Unwrap() error { return e.error }

// limitError marks what a rate limit turned down.
type limitError struct{ error }

func (e *limitError) Unwrap() error { return e.error }

// try makes one request. The response's request is the one that was sent.
func (t *transport) try(r *http.Request) (*http.Response, error) {
	own := below(t.Base, r.URL)
	if own {
		if err := t.Gate.check(t.options.Time()); err != nil {
			return nil, err
		}
	} else if t.Base.Scheme == "https" && r.URL.Scheme != "https" {
		return nil, fmt.Errorf("%w: it leads away from https", ErrRefused)
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), t.Timeout, errors.New("no whole answer after "+t.Timeout.String()))
	sent, held, err := t.prepare(r.WithContext(ctx), own)
	if err != nil {
		cancel()
		return nil, err
	}
	response, err := traced(sent, t.next)
	if err != nil {
		defer cancel()
		return nil, t.broken(r, ctx, err)
	}
	response.Request = sent.WithContext(r.Context()) // which outlives the try
	response.Body = &body{ReadCloser: response.Body, left: t.Limit, limit: t.Limit, ctx: ctx, cancel: cancel}
	if response.StatusCode < 300 {
		if own {
			t.spent(response.Header)
		}
		return response, nil
	}
	return t.failed(response, append(held, masked(ctx)...), own)
}

// prepare is a copy of a request with credentials, and these, to be masked.
func (t *transport) prepare(r *http.Request, own bool) (*http.Request, []string, error) {
	sent := r.Clone(r.Context())
	if r.GetBody != nil {
		content, err := r.GetBody()
		if err != nil {
			return nil, nil, err
		}
		sent.Body = content
	}
	sent.Header.Set("User-Agent", "skep")
	// net/http says where a redirect came from, with its query.
	sent.Header.Del("Referer")
	if !own || t.Authorize == nil {
		return sent, nil, nil
	}
	if err := t.Authorize(sent); err != nil {
		return nil, nil, &authorizeError{err}
	}
	return sent, added(r.Header, sent.Header), nil
}

// failed reads an answer that is no success.
func (t *transport) failed(response *http.Response, held []string, own bool) (*http.Response, error) {
	content, _ := io.ReadAll(io.LimitReader(response.Body, maxErrorBody)) // what could be read is better than nothing
	response.Body.Close()
	content = mask(content, held)
	wait, limited := t.wants(response, content)
	response.Body, response.ContentLength = newBody(content), int64(len(content))
	if _, err := response.Request.URL.Parse(response.Header.Get("Location")); err != nil {
		// net/http would repeat it in an error, with the token that it may hold.
		response.Header.Del("Location")
	}
	switch {
	case limited:
		err := &limitError{CheckResponse(response)}
		if own {
			t.Gate.close(t.options.Time().Add(wait), err)
		}
		return nil, retry(wait, err)
	case response.StatusCode >= 500 && response.StatusCode != http.StatusNotImplemented:
		return nil, retry(outage, CheckResponse(response))
	}
	return response, nil
}

// broken says what became of a request without an answer.
func (t *transport) broken(r *http.Request, ctx context.Context, err error) error {
	if r.Context().Err() != nil {
		return r.Context().Err()
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	var malformed textproto.ProtocolError
	if errors.As(err, &malformed) {
		err = errors.New("the answer is no HTTP") // the line that is not may hold a token
	}
	err = fmt.Errorf("%s %s: %w", r.Method, r.URL.Host, err)
	var certificate *tls.CertificateVerificationError
	if errors.Is(err, ErrRefused) || errors.As(err, &certificate) {
		return err
	}
	return retry(outage, err)
}

func (t *transport) log(r *http.Request, response *http.Response, err error, try int, start time.Time) {
	attributes := []slog.Attr{
		slog.String("method", r.Method), slog.String("host", r.URL.Host), slog.String("path", r.URL.Path),
		slog.Int("try", try), slog.Duration("took", t.options.Time().Sub(start)),
	}
	level := slog.LevelDebug
	if err != nil {
		level = slog.LevelWarn
		attributes = append(attributes, slog.Any("error", err))
	} else {
		attributes = append(attributes, slog.Int("status", response.StatusCode))
	}
	t.options.Log.LogAttrs(r.Context(), level, "provider request", attributes...)
}

func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

func repeatable(r *http.Request) bool {
	return r.Body == nil || r.Body == http.NoBody || r.GetBody != nil
}

// backoff doubles, with up to half of it by chance, so that replicas part.
func backoff(try int) time.Duration {
	wait := 250 * time.Millisecond << try
	return wait/2 + rand.N(wait/2+1)
}

func drain(r *http.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxErrorBody)) // for the connection's sake alone
	r.Body.Close()
}
