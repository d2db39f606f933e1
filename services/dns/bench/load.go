// Package bench asks DNS servers as fast as they answer.
package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
)

// Load is what a run measured.
type Load struct {
	Queries  int
	Duration time.Duration
	P50, P99 time.Duration
}

// Rate is queries a second.
func (l Load) Rate() float64 { return float64(l.Queries) / l.Duration.Seconds() }

// Run asks a server for names, again and again, from so many clients at once,
// each waiting for its answer. An answer that is not a record ends the run.
func Run(ctx context.Context, server string, names []string, clients int, duration time.Duration) (Load, error) {
	ctx, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	var (
		mu      sync.Mutex
		all     []time.Duration
		failure error
		workers sync.WaitGroup
	)
	start := time.Now()
	for i := range clients {
		workers.Go(func() {
			times, err := ask(ctx, server, names, i)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, times...)
			failure = errors.Join(failure, err)
		})
	}
	workers.Wait()
	took := time.Since(start)
	if failure != nil || len(all) == 0 {
		return Load{}, fmt.Errorf("ask %s: %w", server, failure)
	}
	slices.Sort(all)
	return Load{Queries: len(all), Duration: took, P50: all[len(all)/2], P99: all[len(all)*99/100]}, nil
}

func ask(ctx context.Context, server string, names []string, first int) ([]time.Duration, error) {
	conn, err := net.Dial("udp", server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// Packed once: the servers are measured, not this.
	packets := make([][]byte, len(names))
	for i, name := range names {
		m := new(mdns.Msg)
		m.SetQuestion(name, mdns.TypeA)
		m.SetEdns0(1232, false)
		if packets[i], err = m.Pack(); err != nil {
			return nil, err
		}
	}
	var times []time.Duration
	answer := make([]byte, mdns.MaxMsgSize)
	for i := first * 7; ctx.Err() == nil; i++ {
		start := time.Now()
		conn.SetDeadline(start.Add(2 * time.Second))
		packet := packets[i%len(packets)]
		if _, err := conn.Write(packet); err != nil {
			return nil, err
		}
		n, err := conn.Read(answer)
		switch {
		case err != nil:
			return nil, err
		// The identifier, no error, and at least one record.
		case n < 12 || answer[0] != packet[0] || answer[1] != packet[1] || answer[3]&0xf != 0 || answer[7] == 0:
			return nil, fmt.Errorf("%s: no record in the answer", names[i%len(names)])
		}
		times = append(times, time.Since(start))
	}
	return times, nil
}
