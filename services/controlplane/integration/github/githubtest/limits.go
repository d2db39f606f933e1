package githubtest

import (
	"net/http"
	"strconv"
	"time"
)

// limits are the ways in which GitHub asks for patience.
type limits struct {
	limit, used int
	reset       time.Time // of the primary limit

	secondary time.Time // turned down before
	status    int       // 403 or 429
	silent    bool      // without Retry-After

	skip, outages int
	lost          bool
}

// LimitPrimary uses up the hour's requests: they are turned down until so much
// time has passed.
func (s *Server) LimitPrimary(after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limits.used, s.limits.reset = s.limits.limit, s.now().Add(after)
}

// Secondary is how the secondary limit turns requests down.
type Secondary struct {
	Status int  // 403 or 429
	Silent bool // without Retry-After
}

// LimitSecondary turns requests down until so much time has passed.
func (s *Server) LimitSecondary(after time.Duration, how Secondary) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limits.secondary, s.limits.status, s.limits.silent = s.now().Add(after), how.Status, how.Silent
}

// Leave says how many requests are left of the hour's, and when it is over.
func (s *Server) Leave(requests int, reset time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limits.used, s.limits.reset = s.limits.limit-requests, s.now().Add(reset)
}

// Outage answers the next requests with a 502.
func (s *Server) Outage(requests int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limits.skip, s.limits.outages, s.limits.lost = 0, requests, false
}

// Break answers one request with a 502, after as many as skip. If lost, it did
// what was asked all the same, and its answer is what was lost.
func (s *Server) Break(skip int, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limits.skip, s.limits.outages, s.limits.lost = skip, 1, lost
}

// down is asked once a request.
func (l *limits) down() bool {
	if l.outages == 0 {
		return false
	}
	if l.skip > 0 {
		l.skip--
		return false
	}
	l.outages--
	return true
}

func badGateway() answer {
	return answer{
		status: http.StatusBadGateway, body: "<html><body><h1>502 Bad Gateway</h1></body></html>",
		header: map[string]string{"Content-Type": "text/html"},
	}
}

func (l *limits) turnDown(now time.Time) (answer, bool) {
	if now.Before(l.secondary) {
		a := problem(l.status, "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.")
		a.body.(object)["documentation_url"] = "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits"
		a.header = map[string]string{}
		if !l.silent {
			a.header["Retry-After"] = strconv.Itoa(int((l.secondary.Sub(now) + time.Second - 1) / time.Second))
		}
		return a, true
	}
	if !now.Before(l.reset) {
		l.used, l.reset = 0, now.Add(time.Hour)
	}
	if l.used >= l.limit {
		return problem(http.StatusForbidden, "API rate limit exceeded for installation ID 1."), true
	}
	l.used++
	return answer{}, false
}

func (l *limits) describe(header map[string]string, now time.Time) {
	header["X-RateLimit-Limit"] = strconv.Itoa(l.limit)
	header["X-RateLimit-Remaining"] = strconv.Itoa(l.limit - l.used)
	header["X-RateLimit-Used"] = strconv.Itoa(l.used)
	header["X-RateLimit-Reset"] = strconv.FormatInt(l.reset.Unix(), 10)
	header["X-RateLimit-Resource"] = "core"
}
