package main

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// latencies are collected by many.
type latencies struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, d)
}

// quantile is the nearest-rank one.
func (l *latencies) quantile(q float64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) == 0 {
		return 0
	}
	slices.Sort(l.all)
	return l.all[int(q*float64(len(l.all)-1)+.5)]
}

func median[V int64 | float64 | time.Duration](values []V) V {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// series is a subject's figures, one of each a round.
type series struct{ p50, p99 []time.Duration }

func (s *series) add(l *latencies) {
	s.p50 = append(s.p50, l.quantile(.5))
	s.p99 = append(s.p99, l.quantile(.99))
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }

func ratio[V int64 | float64 | time.Duration](a, b V) string {
	if b == 0 {
		return "-"
	}
	return fmt.Sprintf("**%.2f**", float64(a)/float64(b))
}
