package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"skep/services/controlplane"
	"skep/services/controlplane/store"
	"skep/services/controlplane/webhook"
)

const (
	pushRate = 10 // a second, of one source, which is served in order
	slots    = 20
	starters = 16
	settled  = time.Minute // the most that is waited for what was asked for
)

// measureRuns is about the way from a stored delivery to a worker, and about how
// many runs that do nothing fit into a second.
func measureRuns(ctx context.Context, b *bed, p plan, out io.Writer) (err error) {
	s, _, database, err := b.store(ctx, "runs")
	if err != nil {
		return err
	}
	defer s.Close()
	line, err := startLine(ctx, b, s, database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, line.stop(ctx)) }()
	bare, err := startBare(b)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bare.stop(ctx)) }()

	// A round has too few for a 99th percentile: all of them together have it.
	var skepLatency, engineLatency, bareLatency latencies
	var skepRate, bareRate []float64
	err = p.inTurn("deliveries to runs",
		func(keep bool) error {
			return keepLatency(keep, &bareLatency, func(l *latencies) error { return startAtRate(ctx, p.length, l, bare.seen, bare.start) })
		},
		func(keep bool) error {
			return keepLatency(keep, &engineLatency, func(l *latencies) error { return startAtRate(ctx, p.length, l, line.seen, line.run) })
		},
		func(keep bool) error {
			return keepLatency(keep, &skepLatency, func(l *latencies) error { return line.pushes(ctx, p.length, l) })
		})
	if err != nil {
		return err
	}
	err = p.inTurn("runs that do nothing",
		func(keep bool) error {
			return keepRate(keep, &bareRate, func() (float64, error) { return startFast(ctx, p.length, bare.seen, bare.start) })
		},
		func(keep bool) error {
			return keepRate(keep, &skepRate, func() (float64, error) { return startFast(ctx, p.length, line.seen, line.run) })
		})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, `
### A delivery starts a run

%d pushes a second of one source to a project, each to a branch of its own: from the row in the database, by NOTIFY, dispatcher and
workflow engine, until a worker calls its handler. The yardstick is Hatchet's own way, from *RunNoWait* to the handler; *engine.Start*
is that of the control plane's tasks, without delivery, database and dispatcher. Of the %d of all rounds together:

| | p50 | p99 |
|---|--:|--:|
| bare Hatchet | %s | %s |
| engine.Start | %s | %s |
| delivery to run | %s | %s |
| ratio to bare Hatchet | %s | %s |

### Runs that do nothing

%d at once start runs, a worker with %d slots takes them; the clock stops when the last one is done.

| | runs/s |
|---|--:|
| bare Hatchet | %.0f |
| engine.Start and Work | %.0f |
| ratio | %s |

- A run of the control plane has a key that makes it one however often it is started, and one of a delivery a queue too, in which it runs
  alone ([ADR 0052](adr/0052-queues-are-locks-of-postgresql.md)). A bare task has neither.
`, pushRate, len(skepLatency.all), ms(bareLatency.quantile(.5)), ms(bareLatency.quantile(.99)), ms(engineLatency.quantile(.5)), ms(engineLatency.quantile(.99)), ms(skepLatency.quantile(.5)), ms(skepLatency.quantile(.99)),
		ratio(skepLatency.quantile(.5), bareLatency.quantile(.5)), ratio(skepLatency.quantile(.99), bareLatency.quantile(.99)),
		starters, slots, median(bareRate), median(skepRate), ratio(median(skepRate), median(bareRate)))
	return nil
}

func keepLatency(keep bool, to *latencies, measured func(*latencies) error) error {
	if !keep {
		to = &latencies{}
	}
	return measured(to)
}

func keepRate(keep bool, to *[]float64, measured func() (float64, error)) error {
	perSecond, err := measured()
	if keep {
		*to = append(*to, perSecond)
	}
	return err
}

// arrivals is when runs reached their handler for the first time.
type arrivals struct {
	mu      sync.Mutex
	at      map[string]time.Time
	wanted  int
	reached chan struct{} // closed when wanted have
}

func newArrivals() *arrivals {
	a := &arrivals{}
	a.reset()
	return a
}

func (a *arrivals) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at, a.wanted, a.reached = map[string]time.Time{}, -1, make(chan struct{})
}

func (a *arrivals) note(run string) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, again := a.at[run]; again {
		return
	}
	a.at[run] = now
	if len(a.at) == a.wanted {
		close(a.reached)
	}
}

func (a *arrivals) wait(ctx context.Context, n int) error {
	a.mu.Lock()
	a.wanted = n
	if len(a.at) == n {
		close(a.reached)
	}
	a.mu.Unlock()
	timer := time.NewTimer(settled)
	defer timer.Stop()
	select {
	case <-a.reached:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		a.mu.Lock()
		defer a.mu.Unlock()
		return fmt.Errorf("%d of %d runs reached a worker", len(a.at), n)
	}
}

func (a *arrivals) of(run string) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.at[run]
}

// startFast starts runs for some time, at least one each, and waits for all of them.
func startFast(ctx context.Context, length time.Duration, seen *arrivals, start func(context.Context, string) error) (float64, error) {
	seen.reset()
	var all sync.WaitGroup
	errs, counts := make([]error, starters), make([]int, starters)
	began := time.Now()
	for i := range starters {
		all.Go(func() {
			for {
				errs[i] = start(ctx, uuid.NewString())
				counts[i]++
				if errs[i] != nil || time.Since(began) >= length {
					return
				}
			}
		})
	}
	all.Wait()
	total := 0
	for _, n := range counts {
		total += n
	}
	err := errors.Join(errs...)
	if err == nil {
		err = seen.wait(ctx, total)
	}
	return float64(total) / time.Since(began).Seconds(), err
}

// startAtRate starts runs at the pace of line.pushes.
func startAtRate(ctx context.Context, length time.Duration, to *latencies, seen *arrivals, start func(context.Context, string) error) error {
	seen.reset()
	asked := map[string]time.Time{}
	n, err := atRate(ctx, pushRate, length, func() error {
		id := uuid.NewString()
		asked[id] = time.Now()
		return start(ctx, id)
	})
	if err != nil {
		return err
	}
	if err := seen.wait(ctx, n); err != nil {
		return err
	}
	for id, at := range asked {
		to.add(seen.of(id).Sub(at))
	}
	return nil
}

// atRate calls f a number of times a second.
func atRate(ctx context.Context, rate int, length time.Duration, f func() error) (n int, err error) {
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for n = range max(1, int(length.Seconds()*float64(rate))) {
		if err := f(); err != nil {
			return n, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return n, ctx.Err()
		}
	}
	return n + 1, nil
}

// pushes sends deliveries and looks up when each was stored.
func (l *line) pushes(ctx context.Context, length time.Duration, to *latencies) error {
	l.seen.reset()
	n, err := atRate(ctx, pushRate, length, func() error { return l.push(ctx) })
	if err != nil {
		return err
	}
	if err := l.seen.wait(ctx, n); err != nil {
		return err
	}
	found, err := l.dispatched(ctx, n)
	for _, d := range found {
		to.add(l.seen.of(string(d.Run)).Sub(d.Received))
	}
	return err
}

func (l *line) push(ctx context.Context) error {
	id := serial.Add(1)
	body := fmt.Appendf(nil, `{"ref":"refs/heads/branch-%d","before":"%040d","after":"%040d","repository":{"id":1,"full_name":%q,"default_branch":"main"},"sender":{"login":"mona"}}`,
		id, id, id+1, repository)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+l.site.address+webhook.Path+"github", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-GitHub-Event", "push")
	r.Header.Set("X-GitHub-Delivery", fmt.Sprint(id))
	r.Header.Set("X-Hub-Signature-256", signature(body))
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("a push was answered %s", answer.Status)
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

// dispatched is the last n deliveries, once all say which run they became: that
// is written after the run was started.
func (l *line) dispatched(ctx context.Context, n int) ([]controlplane.Delivery, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var found []controlplane.Delivery
		for before := int64(0); len(found) < n; {
			some, next, err := l.store.ListDeliveries(ctx, store.DeliveryFilter{State: controlplane.DeliveryDispatched}, store.Page{Before: before, Limit: n - len(found)})
			if err != nil {
				return nil, err
			}
			found = append(found, some...)
			if before = next; next == 0 {
				break
			}
		}
		ready := len(found) == n
		for _, d := range found {
			ready = ready && !l.seen.of(string(d.Run)).IsZero()
		}
		if ready {
			return found, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
