package integration

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Gate keeps requests back while a provider wants none. The zero Gate is open.
type Gate struct {
	mu   sync.Mutex
	open time.Time // no request before
	why  error
}

func (g *Gate) check(now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if wait := g.open.Sub(now); wait > 0 {
		return retry(wait, g.why)
	}
	return nil
}

func (g *Gate) close(until time.Time, why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if until.After(g.open) {
		g.open, g.why = until, why
	}
}

// spent closes the gate after the last request that a limit allows.
func (t *transport) spent(h http.Header) {
	if wait, none := t.exhausted(h); none {
		t.Gate.close(t.options.Time().Add(wait), &limitError{errors.New("the rate limit of " + t.Base.Host + " is used up")})
	}
}

// wants says whether an answer turned a request down for a rate limit, and for
// how long: 429, or 403 and 503 with a header that says so.
func (t *transport) wants(r *http.Response, content []byte) (time.Duration, bool) {
	if t.Limited != nil {
		if wait, ok := t.Limited(r, content); ok {
			return bound(wait), true
		}
	}
	after, asked := retryAfter(r.Header, t.served(r.Header))
	reset, none := t.exhausted(r.Header)
	switch r.StatusCode {
	case http.StatusTooManyRequests:
		switch {
		case asked:
			return after, true
		case none:
			return reset, true
		}
		return outage, true
	case http.StatusForbidden:
		switch {
		case asked:
			return after, true
		case none:
			return reset, true
		}
	case http.StatusServiceUnavailable:
		return after, asked
	}
	return 0, false
}

// retryAfter is RFC 9110, 10.2.3: seconds, or a date by the server's clock.
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	value := h.Get("Retry-After")
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil && seconds >= 0 {
		return bound(time.Duration(min(seconds, int64(maxGate/time.Second))) * time.Second), true
	}
	if at, err := http.ParseTime(value); err == nil {
		return bound(at.Sub(now)), true
	}
	return 0, false
}

// exhausted says that no request is left, and for how long. Providers call the
// headers X-RateLimit or RateLimit, and the reset is a Unix time at GitHub,
// GitLab and Azure DevOps, and seconds from now in the IETF's draft.
func (t *transport) exhausted(h http.Header) (time.Duration, bool) {
	for _, prefix := range []string{"X-RateLimit-", "RateLimit-"} {
		if h.Get(prefix+"Remaining") != "0" {
			continue
		}
		reset, err := strconv.ParseInt(h.Get(prefix+"Reset"), 10, 64)
		if err != nil || reset < 0 {
			continue
		}
		if reset < 1e9 {
			return bound(time.Duration(min(reset, int64(maxGate/time.Second))) * time.Second), true
		}
		return bound(time.Unix(reset, 0).Sub(t.served(h))), true
	}
	return 0, false
}

// served is now by the server's clock, which is what its dates go by.
func (t *transport) served(h http.Header) time.Time {
	if at, err := http.ParseTime(h.Get("Date")); err == nil {
		return at
	}
	return t.options.Time()
}

func bound(d time.Duration) time.Duration { return min(max(d, time.Second), maxGate) }

// added are the credentials that stand in after and not in before.
func added(before, after http.Header) []string {
	var held []string
	for name, values := range after {
		if name == "User-Agent" {
			continue
		}
		for i, value := range values {
			if i < len(before[name]) && before[name][i] == value {
				continue
			}
			held = append(held, value)
			if _, token, ok := strings.Cut(value, " "); ok { // Bearer, Basic
				held = append(held, token)
			}
		}
	}
	return held
}
