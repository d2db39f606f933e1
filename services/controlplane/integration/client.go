package integration

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// Options are what a binary gives to all clients.
type Options struct {
	// Log gets a line a request, without query and headers. Nil: none.
	Log *slog.Logger
	// Loopback takes http:// and addresses of this machine: for tests and the
	// demonstration.
	Loopback bool
	// Now and Wait are the clock; nil is the machine's. Wait returns earlier with
	// the context's error.
	Now  func() time.Time
	Wait func(context.Context, time.Duration) error
}

// Time is now by the options' clock.
func (o Options) Time() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}

func (o Options) wait(ctx context.Context, d time.Duration) error {
	if o.Wait != nil {
		return o.Wait(ctx, d)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Config is one use of one API.
type Config struct {
	Base *url.URL // of ParseBase; credentials go below it alone
	// Authorize puts credentials on a request, anew for each try. Nil: none.
	Authorize func(*http.Request) error
	// Renew is asked after a 401, once a request: it forgets what the request
	// had, and says whether there may be something better. The answer's Request
	// is the one that was sent. Nil: no.
	Renew func(rejected *http.Response) bool
	// Idempotent says that every request is safe to repeat, whatever its method.
	Idempotent bool
	// Limited reads a provider's own way to ask for patience, where the common
	// ones, see wants, do not see it. The body may be read. Nil: none.
	Limited func(answer *http.Response, body []byte) (time.Duration, bool)

	// Gate is shared by clients whose requests count together. Nil: its own.
	Gate *Gate

	Limit   int64         // bytes of an answer; 0: 16 MiB
	Timeout time.Duration // of one try, with the answer's body; 0: 30 s
}

const (
	// maxErrorBody bounds the answer that says what is wrong.
	maxErrorBody = 64 << 10
	// maxTries of one request.
	maxTries = 4
	// patience is how long a request waits by itself. What takes longer is the
	// caller's to wait for, who need not keep a worker for it.
	patience = 10 * time.Second
	// outage is when to come back to a server that is down.
	outage = 30 * time.Second
	// maxGate is the longest that one answer can keep us from asking again.
	maxGate = 2 * time.Hour
)

// NewHTTP is a client for an API. It
//   - repeats what is safe to repeat, and what a rate limit turned down,
//   - returns a *controlplane.RetryError for a limit that is far off and for an
//     outage, and asks nothing before the limit is over,
//   - follows redirects of reads below the base alone: every other one is the
//     answer,
//   - sends credentials below the base alone,
//   - bounds time and size, and keeps credentials out of error texts and logs.
//
// It uses no proxy: the guard looks at the address that is connected to.
func NewHTTP(c Config, o Options) *http.Client {
	c.Limit, c.Timeout = cmp.Or(c.Limit, 16<<20), cmp.Or(c.Timeout, 30*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if c.Gate == nil {
		c.Gate = &Gate{}
	}
	return &http.Client{
		Transport: &transport{Config: c, options: o, next: &http.Transport{
			DialContext:           dial(c.Base, o),
			ForceAttemptHTTP2:     true,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: 30 * time.Second,
			IdleConnTimeout:       time.Minute,
			MaxIdleConnsPerHost:   4,
			// An archive is passed on as it is.
			DisableCompression: true,
		}},
		CheckRedirect: func(next *http.Request, before []*http.Request) error {
			read := next.Method == before[0].Method && (next.Method == http.MethodGet || next.Method == http.MethodHead)
			if !read || !below(c.Base, next.URL) || len(before) > 3 {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
}

type maskKey struct{}

// WithMask says which credentials stand in the body of a request. An answer that
// is no success is rid of them, as of those that Authorize puts into the header.
func WithMask(ctx context.Context, held ...string) context.Context {
	return context.WithValue(ctx, maskKey{}, held)
}

func masked(ctx context.Context) []string {
	held, _ := ctx.Value(maskKey{}).([]string)
	return held
}
