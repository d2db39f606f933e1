package api

import (
	"container/list"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// Ten guesses at once, and one each six seconds from then on.
	guesses  = 10
	recovery = 6 * time.Second
	// maxAddresses bounds what guessers can make the limiter keep; the one that
	// was quiet for the longest is forgotten first.
	maxAddresses = 4096
)

// limiter counts failed authentications by address.
type limiter struct {
	now func() time.Time

	mu      sync.Mutex
	order   *list.List // of *failures, the latest first
	entries map[netip.Addr]*list.Element
}

type failures struct {
	from netip.Addr
	// full is when nothing is left of the failures: each adds a recovery.
	full time.Time
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, order: list.New(), entries: map[netip.Addr]*list.Element{}}
}

// wait is how long nothing is taken from an address; 0: it is.
func (l *limiter) wait(from netip.Addr) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.entries[from]
	if !ok {
		return 0
	}
	return max(0, e.Value.(*failures).full.Sub(l.now())-(guesses-1)*recovery)
}

func (l *limiter) fail(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	e, ok := l.entries[from]
	if !ok {
		if len(l.entries) >= maxAddresses {
			oldest := l.order.Back()
			delete(l.entries, oldest.Value.(*failures).from)
			l.order.Remove(oldest)
		}
		e = l.order.PushFront(&failures{from: from, full: now})
		l.entries[from] = e
	}
	f := e.Value.(*failures)
	if f.full.Before(now) {
		f.full = now
	}
	f.full = f.full.Add(recovery)
	l.order.MoveToFront(e)
}

// remote is who calls: the last address that no trusted proxy has. Of IPv6 it
// is the network, as a caller has 2^64 addresses there.
func (a *API) remote(r *http.Request) netip.Addr {
	trusted := func(ip netip.Addr) bool {
		return slices.ContainsFunc(a.options.Proxies, func(p netip.Prefix) bool { return p.Contains(ip) })
	}
	address, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // all such callers are one
	}
	from := address.Addr().Unmap()
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && trusted(from); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		from = hop.Unmap()
	}
	if from.Is6() {
		network, err := from.WithZone("").Prefix(64)
		if err == nil {
			return network.Addr()
		}
	}
	return from
}
