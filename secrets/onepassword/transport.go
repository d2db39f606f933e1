package onepassword

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/1Password/connect-sdk-go/onepassword"
	"github.com/cenkalti/backoff/v5"

	"skep/secrets"
)

const (
	maxBody = 64 << 20 // an attachment is the largest thing that is read
	// maxRetryAfter bounds how long a server can make us wait for one retry.
	maxRetryAfter = 10 * time.Second
)

// transport sends requests to Connect. The SDK's own client takes no context
// and no HTTP client: see docs/adr/0030-connect-without-the-sdks-client.md.
type transport struct {
	base   *url.URL
	token  Token
	client *http.Client
	slots  chan struct{} // one for each request under way
	config Config
}

func newTransport(base *url.URL, token Token, config Config) *transport {
	return &transport{
		base:  base,
		token: token,
		client: &http.Client{
			Transport: &http.Transport{
				Proxy:               http.ProxyFromEnvironment,
				MaxIdleConnsPerHost: config.Concurrency,
				IdleConnTimeout:     30 * time.Second,
				TLSHandshakeTimeout: config.RequestTimeout,
			},
			// A redirect would hand the token to somebody else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		slots:  make(chan struct{}, config.Concurrency),
		config: config,
	}
}

// statusError is an answer of Connect that is no success.
type statusError struct {
	status  int
	message string
}

func (e *statusError) Error() string {
	if e.message == "" {
		return fmt.Sprintf("1Password Connect answers %d %s", e.status, http.StatusText(e.status))
	}
	return fmt.Sprintf("1Password Connect answers %d: %s", e.status, e.message)
}

// get reads a path. What passes is tried again, with a growing pause, until
// the tries or the time of ctx are used up. The caller wipes the body.
func (t *transport) get(ctx context.Context, path ...string) ([]byte, error) {
	select {
	case t.slots <- struct{}{}:
		defer func() { <-t.slots }()
	case <-ctx.Done():
		return nil, unreachable(ctx, context.Cause(ctx))
	}
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval = t.config.RetryPause
	pause.MaxInterval = maxRetryAfter
	var last error
	body, err := backoff.Retry(ctx, func() ([]byte, error) {
		body, wait, err := t.once(ctx, path)
		last = err
		switch {
		case err == nil:
			return body, nil
		case !errors.Is(err, secrets.ErrUnavailable):
			return nil, backoff.Permanent(err)
		case wait > 0:
			return nil, &backoff.RetryAfterError{Duration: min(wait, maxRetryAfter)}
		}
		return nil, err
	}, backoff.WithBackOff(pause), backoff.WithMaxTries(t.config.Tries))
	if err != nil {
		return nil, last // what Connect said, not that the retries are used up
	}
	return body, nil
}

// once sends one request. wait is how long the server wants to be left alone.
func (t *transport) once(ctx context.Context, path []string) (body []byte, wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.config.RequestTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, t.base.JoinPath(path...).String(), nil)
	if err != nil {
		return nil, 0, err
	}
	token, err := t.token()
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", secrets.ErrDenied, err)
	}
	defer token.Wipe()
	bearer, err := token.Bytes()
	if err != nil {
		return nil, 0, err
	}
	request.Header.Set("Authorization", "Bearer "+string(bearer))
	request.Header.Set("Accept", "application/json, */*;q=0.5")
	request.Header.Set("User-Agent", t.config.UserAgent)
	response, err := t.client.Do(request)
	if err != nil {
		return nil, 0, unreachable(ctx, err)
	}
	defer response.Body.Close()
	body, err = readBody(response)
	if err != nil {
		return nil, 0, unreachable(ctx, err)
	}
	if response.StatusCode == http.StatusOK {
		return body, 0, nil
	}
	defer clear(body)
	return nil, retryAfter(response.Header), refusal(response.StatusCode, body, bearer)
}

// unreachableError is no answer at all.
type unreachableError struct {
	late bool
	err  error
}

func (e *unreachableError) Error() string {
	if e.late {
		return "1Password Connect did not answer in time"
	}
	return "1Password Connect cannot be reached: " + e.err.Error()
}

func (e *unreachableError) Unwrap() error { return e.err }

// Is makes it an ErrUnavailable.
func (*unreachableError) Is(target error) bool { return target == secrets.ErrUnavailable }

// unreachable leaves the URL out: the caller says what was asked for.
func unreachable(ctx context.Context, err error) error {
	var known *unreachableError
	if errors.As(context.Cause(ctx), &known) {
		return known // another request has found out
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return &unreachableError{late: errors.Is(err, context.DeadlineExceeded), err: err}
}

// readBody reads a body without leaving parts of it in buffers that were
// outgrown, where the length is known.
func readBody(response *http.Response) ([]byte, error) {
	if n := response.ContentLength; n > maxBody {
		return nil, fmt.Errorf("the answer has %d bytes, more than %d", n, maxBody)
	} else if n >= 0 {
		body := make([]byte, n)
		_, err := io.ReadFull(response.Body, body)
		return body, err
	}
	var b bytes.Buffer
	n, err := b.ReadFrom(io.LimitReader(response.Body, maxBody+1))
	if err == nil && n > maxBody {
		err = fmt.Errorf("the answer has more than %d bytes", maxBody)
	}
	return b.Bytes(), err
}

// refusal sorts what Connect answers into the kinds of secrets' errors.
func refusal(status int, body, token []byte) error {
	e := &statusError{status: status, message: message(body, token)}
	switch {
	case status == http.StatusUnauthorized:
		if end, ok := expiry(token); ok && time.Now().After(end) {
			return fmt.Errorf("%w: the Connect token expired on %s, make a new one in 1Password: %w", secrets.ErrDenied, end.UTC().Format(time.DateOnly), e)
		}
		return fmt.Errorf("%w: the Connect token is not accepted: %w", secrets.ErrDenied, e)
	case status == http.StatusForbidden:
		return fmt.Errorf("%w: the Connect token has no access: %w", secrets.ErrDenied, e)
	case status == http.StatusNotFound:
		return fmt.Errorf("%w: %w", secrets.ErrNotFound, e)
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= http.StatusInternalServerError:
		return fmt.Errorf("%w: %w", secrets.ErrUnavailable, e)
	}
	return e
}

// message is the text of an error body, made fit for a terminal and a log. A
// proxy in between may send the request back, and with it the token.
func message(body, token []byte) string {
	var e onepassword.Error
	if json.Unmarshal(body, &e) != nil {
		return ""
	}
	text := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, e.Message)
	if len(token) > 0 {
		text = strings.ReplaceAll(text, string(token), "[redacted]")
	}
	const longest = 200
	return strings.ToValidUTF8(text[:min(len(text), longest)], "")
}

// retryAfter reads the header as seconds (RFC 9110, 10.2.3); Connect's
// rate limit sends no date.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.ParseUint(h.Get("Retry-After"), 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
