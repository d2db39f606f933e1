package store_test

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"skep/services/controlplane"
)

// BenchmarkAdd is the hot path, beside an insert by pgx alone: 16 callers at
// once, and the 99th percentile of what one of them waits.
func BenchmarkAdd(b *testing.B) {
	s, dsn := newStore(b)
	source := newSource(b, s, "main")
	pool, err := pgxpool.New(b.Context(), dsn)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	var n atomic.Int64
	for _, size := range []int{1 << 10, 8 << 10, 64 << 10} {
		body := bytes.Repeat([]byte(`{"ref": "refs/heads/main"}`), size/26)
		b.Run(fmt.Sprintf("store/body=%d", size), func(b *testing.B) {
			measure(b, func() error {
				d := push(source, fmt.Sprint(n.Add(1)))
				d.Body = body
				_, _, err := s.Add(b.Context(), d)
				return err
			})
		})
		b.Run(fmt.Sprintf("bare/body=%d", size), func(b *testing.B) {
			measure(b, func() error {
				_, err := pool.Exec(b.Context(), `INSERT INTO skep.delivery (source_id, delivery_id, event, headers, body) VALUES ($1, $2, $3, $4, $5)`,
					source, fmt.Sprint(n.Add(1)), "push", []byte(`{"X-Github-Event": "push"}`), body)
				return err
			})
		})
	}
}

func measure(b *testing.B, f func() error) {
	var mu sync.Mutex
	var all []time.Duration
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		var mine []time.Duration
		for pb.Next() {
			began := time.Now()
			if err := f(); err != nil {
				b.Error(err)
				return
			}
			mine = append(mine, time.Since(began))
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, mine...)
	})
	slices.Sort(all)
	if len(all) > 0 {
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
		b.ReportMetric(float64(len(all))/b.Elapsed().Seconds(), "deliveries/s")
	}
}

// BenchmarkAddAtRate is what a provider waits for, from the moment that its
// delivery was due.
func BenchmarkAddAtRate(b *testing.B) {
	const rate = 500
	s, _ := newStore(b)
	source := newSource(b, s, "main")
	body := bytes.Repeat([]byte("x"), 8<<10)
	var n atomic.Int64
	b.Run(fmt.Sprintf("rate=%d/body=%d", rate, len(body)), func(b *testing.B) {
		waited := make([]time.Duration, b.N)
		tick := time.NewTicker(time.Second / rate)
		defer tick.Stop()
		var all sync.WaitGroup
		began := time.Now()
		for i := range b.N {
			due := began.Add(time.Duration(i) * time.Second / rate)
			for time.Now().Before(due) {
				<-tick.C
			}
			all.Go(func() {
				d := push(source, fmt.Sprint(n.Add(1)))
				d.Body = body
				if _, _, err := s.Add(b.Context(), d); err != nil {
					b.Error(err)
				}
				waited[i] = time.Since(due)
			})
		}
		all.Wait()
		slices.Sort(waited)
		b.ReportMetric(float64(waited[b.N/2].Microseconds()), "p50-µs")
		b.ReportMetric(float64(waited[b.N*99/100].Microseconds()), "p99-µs")
	})
}

func BenchmarkClaim(b *testing.B) {
	s, dsn := newStore(b)
	const kept = 5000 // deliveries that are dispatched already
	source := newSource(b, s, "main")
	shared.Server(b).Exec(b, dsn, fmt.Sprintf(`INSERT INTO skep.delivery (source_id, delivery_id, event, body, state)
		SELECT %d, 'old ' || n, 'push', '', 'dispatched' FROM generate_series(1, %d) n`, source, kept))
	run := newRun(b, s, "key", "")
	b.Run(fmt.Sprintf("kept=%d", kept), func(b *testing.B) {
		for i := range b.N {
			b.StopTimer()
			add(b, s, push(source, fmt.Sprint(b.N, "/", i)))
			b.StartTimer()
			claimed, err := s.Claim(b.Context(), 10)
			if err != nil || len(claimed) != 1 {
				b.Fatalf("%d claimed, %v", len(claimed), err)
			}
			if err := s.Dispatched(b.Context(), claimed[0].ID, controlplane.RunID(run)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
