package dockerproxy

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
)

// outcome is what became of a request.
type outcome int

const (
	passed outcome = iota
	refused
	outside // of the selector
	failed  // Docker did not answer
	outcomes
)

func (o outcome) String() string { return [...]string{"passed", "refused", "outside", "failed"}[o] }

// metrics are counted for each section of the API, of which the number is
// fixed: a client cannot make more.
type metrics struct {
	requests map[string]*[outcomes]atomic.Int64
	open     atomic.Int64
	redacted atomic.Int64
}

// other is the section of what the API does not have.
const other = "other"

func newMetrics() *metrics {
	m := &metrics{requests: map[string]*[outcomes]atomic.Int64{other: {}}}
	for section := range routes {
		m.requests[section] = new([outcomes]atomic.Int64)
	}
	return m
}

func (m *metrics) count(c call, o outcome) {
	section := other
	if c.route != nil {
		section = c.route.kind()
	}
	m.requests[section][o].Add(1)
}

// ServeHTTP writes them in Prometheus' text format.
func (m *metrics) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	var b strings.Builder
	b.WriteString("# HELP skep_dockerproxy_requests_total Requests by section of the Docker API and what became of them.\n" +
		"# TYPE skep_dockerproxy_requests_total counter\n")
	for _, section := range slices.Sorted(maps.Keys(m.requests)) {
		for o := range outcomes {
			fmt.Fprintf(&b, "skep_dockerproxy_requests_total{section=%q,outcome=%q} %d\n", section, o, m.requests[section][o].Load())
		}
	}
	fmt.Fprintf(&b, "# HELP skep_dockerproxy_open_requests Requests under way, streams among them.\n"+
		"# TYPE skep_dockerproxy_open_requests gauge\nskep_dockerproxy_open_requests %d\n", m.open.Load())
	fmt.Fprintf(&b, "# HELP skep_dockerproxy_redacted_values_total Values that were hidden in answers.\n"+
		"# TYPE skep_dockerproxy_redacted_values_total counter\nskep_dockerproxy_redacted_values_total %d\n", m.redacted.Load())
	io.WriteString(w, b.String()) // whoever asked may be gone
}
