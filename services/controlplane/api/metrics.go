package api

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics have labels of a fixed number: no caller can make more.
type metrics struct {
	requests  *prometheus.HistogramVec
	refused   *prometheus.CounterVec
	unaudited prometheus.Counter
	streams   *prometheus.GaugeVec
	slow      prometheus.Counter
}

// Values of labels.
const (
	refusedNone    = "none"
	refusedToken   = "token"
	refusedLimited = "limited"

	streamEvents = "event"
	streamLog    = "log"
)

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "skep_api_request_seconds", Help: "Time until a request was answered, by route, class of status; streams count when they end.",
			Buckets: []float64{.0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"route", "status"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "skep_api_unauthenticated_total", Help: "Requests without a token, with a wrong one, and such that were not looked at any more.",
		}, []string{"reason"}),
		unaudited: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "skep_api_unaudited_total", Help: "Calls whose audit row could not be written.",
		}),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "skep_api_streams", Help: "Clients that follow something now.",
		}, []string{"kind"}),
		slow: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "skep_api_slow_streams_total", Help: "Streams that were ended because the client did not keep up.",
		}),
	}
	// There from the start, so that a first one is an increase.
	for _, reason := range []string{refusedNone, refusedToken, refusedLimited} {
		m.refused.WithLabelValues(reason)
	}
	for _, kind := range []string{streamEvents, streamLog} {
		m.streams.WithLabelValues(kind)
	}
	for _, c := range []prometheus.Collector{m.requests, m.refused, m.unaudited, m.streams, m.slow} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) request(route string, status int, took time.Duration) {
	if route == "" {
		route = "none"
	}
	m.requests.WithLabelValues(route, strconv.Itoa(status/100)+"xx").Observe(took.Seconds())
}
