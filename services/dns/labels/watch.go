package labels

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
)

// Docker is the part of Docker's API that a Watcher reads: GET /services and
// GET /events.
type Docker interface {
	ServiceList(ctx context.Context, options swarm.ServiceListOptions) ([]swarm.Service, error)
	Events(ctx context.Context, options events.ListOptions) (<-chan events.Message, <-chan error)
}

var _ Docker = (*client.Client)(nil)

// Watcher follows the services of a Swarm.
type Watcher struct {
	Docker Docker
	Log    *slog.Logger
	// Resync lists the services again when no event came for so long.
	Resync time.Duration
	// Settle waits for more events after one, so that a deploy is one change.
	Settle time.Duration

	listed atomic.Int64 // Unix time of the last list; 0 before the first
}

// Listed is when the services were last seen; zero before the first list.
func (w *Watcher) Listed() time.Time {
	if at := w.listed.Load(); at != 0 {
		return time.Unix(at, 0)
	}
	return time.Time{}
}

const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// Changed takes a list of the services. It is stale once the API has been away
// since: changes may have gone unheard.
type Changed func(list []Service, stale func() bool)

// Run tells changed of the services at once and after every event, until the
// context ends. While the API is away nothing is told: no list is not an empty
// list.
func (w *Watcher) Run(ctx context.Context, changed Changed) error {
	backoff := minBackoff
	for {
		listed, err := w.follow(ctx, changed)
		if ctx.Err() != nil {
			return nil
		}
		if listed {
			backoff = minBackoff
		}
		w.Log.Warn("lost the Docker API, connecting again", "error", err, "after", backoff)
		timer := time.NewTimer(backoff)
		select {
		case <-timer.C:
			backoff = min(2*backoff, maxBackoff)
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// follow lists and listens until either fails. It reports whether a list came.
func (w *Watcher) follow(ctx context.Context, changed Changed) (listed bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The events first: what happens during the list is then heard of.
	messages, failures := w.Docker.Events(ctx, events.ListOptions{Filters: filters.NewArgs(filters.Arg("type", string(events.ServiceEventType)))})
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			services, err := w.List(ctx)
			if err != nil {
				return listed, err
			}
			listed = true
			w.listed.Store(time.Now().Unix())
			changed(services, func() bool { return ctx.Err() != nil })
			timer.Reset(w.Resync)
		case <-messages:
			timer.Reset(w.Settle)
		case err := <-failures:
			return listed, err
		case <-ctx.Done():
			return listed, ctx.Err()
		}
	}
}

// List asks once. It has a limit of its own: a connection that hangs must not hide that the
// API is away.
func (w *Watcher) List(ctx context.Context) ([]Service, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	list, err := w.Docker.ServiceList(ctx, swarm.ServiceListOptions{})
	if err != nil {
		return nil, err
	}
	out := make([]Service, len(list))
	for i, s := range list {
		out[i] = Service{Name: s.Spec.Name, Labels: s.Spec.Labels}
	}
	return out, nil
}
