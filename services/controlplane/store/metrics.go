package store

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"skep/services/controlplane"
	"skep/services/controlplane/store/internal/db"
)

// countTimeout is what a scrape waits for the database.
const countTimeout = 5 * time.Second

// Collector has metrics of the pool of connections, and of the runs that are
// kept; of these none while the database is away. Scrapes end with ctx.
func (s *Store) Collector(ctx context.Context) prometheus.Collector {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("skep_"+name, help, labels, nil)
	}
	return collector{
		ctx: ctx, store: s,
		runs:        describe("runs", "Runs that are kept, by state.", "state"),
		connections: describe("database_connections", "Connections to PostgreSQL, by what they are at.", "state"),
		most:        describe("database_connections_max", "Connections that there may be."),
		waits:       describe("database_waits_total", "Calls that waited for a connection."),
		waited:      describe("database_wait_seconds_total", "Time that calls waited for a connection."),
	}
}

type collector struct {
	ctx                                    context.Context // Prometheus hands none over
	store                                  *Store
	runs, connections, most, waits, waited *prometheus.Desc
}

func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.runs, c.connections, c.most, c.waits, c.waited} {
		to <- d
	}
}

func (c collector) Collect(to chan<- prometheus.Metric) {
	pool := c.store.pool.Stat()
	gauge := func(d *prometheus.Desc, n int64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	gauge(c.connections, int64(pool.AcquiredConns()), "acquired")
	gauge(c.connections, int64(pool.IdleConns()), "idle")
	gauge(c.connections, int64(pool.ConstructingConns()), "constructing")
	gauge(c.most, int64(pool.MaxConns()))
	to <- prometheus.MustNewConstMetric(c.waits, prometheus.CounterValue, float64(pool.EmptyAcquireCount()))
	to <- prometheus.MustNewConstMetric(c.waited, prometheus.CounterValue, pool.EmptyAcquireWaitTime().Seconds())

	ctx, cancel := context.WithTimeout(c.ctx, countTimeout)
	defer cancel()
	counts, err := c.store.CountRuns(ctx)
	if err != nil {
		return // what is not there is an alert's to see
	}
	for _, state := range controlplane.RunStates {
		gauge(c.runs, counts[state], string(state))
	}
}

// CountRuns says how many runs are kept in each state.
func (s *Store) CountRuns(ctx context.Context) (map[controlplane.RunState]int64, error) {
	counts := map[controlplane.RunState]int64{}
	err := s.do(ctx, "count runs", func(q *db.Queries) error {
		rows, err := q.CountRuns(ctx)
		for _, r := range rows {
			counts[controlplane.RunState(r.State)] = r.Count
		}
		return err
	})
	return counts, err
}
