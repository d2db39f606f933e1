package api

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"skep/services/controlplane"
)

// BenchmarkFanOut measures how long an event takes from the store to the last
// of so many WebSocket clients, all in this process, one event after another.
func BenchmarkFanOut(b *testing.B) {
	for _, clients := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			f := newFakeStore()
			s := serve(b, f)
			token := f.token("reader", controlplane.ScopeRead)
			var arrived, ended sync.WaitGroup
			defer ended.Wait()
			defer cancel()
			for range clients {
				conn, _, err := dial(ctx, s, token, "?topics="+someRun)
				if err != nil {
					b.Fatal(err)
				}
				if _, _, err := conn.Read(ctx); err != nil { // where it begins
					b.Fatal(err)
				}
				ended.Go(func() {
					defer conn.CloseNow()
					for {
						if _, _, err := conn.Read(ctx); err != nil {
							if ctx.Err() == nil {
								b.Error(err)
							}
							return
						}
						arrived.Done()
					}
				})
			}
			s.followed(b, clients)
			b.ResetTimer()
			start := time.Now()
			for range b.N {
				arrived.Add(clients)
				f.publish(someRun, "run.started")
				arrived.Wait()
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N*clients)/time.Since(start).Seconds(), "messages/s")
		})
	}
}
