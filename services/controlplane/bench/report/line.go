package main

//lint:file-ignore SA1019 The SDK takes its options from the package that it deprecates.

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hatchet-dev/hatchet/pkg/client"
	hatchet "github.com/hatchet-dev/hatchet/sdks/go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"skep/services/controlplane"
	"skep/services/controlplane/dispatch"
	"skep/services/controlplane/engine"
	"skep/services/controlplane/store"
)

// line is all that a delivery passes on its way to a worker.
type line struct {
	store  *store.Store
	queues *store.Queues
	site   *site
	starts *engine.Engine
	works  *engine.Engine
	seen   *arrivals
	cancel context.CancelFunc
	parts  chan error
	count  int // of what sends to parts when it ends
}

func startLine(ctx context.Context, b *bed, s *store.Store, database string) (*line, error) {
	own, cancel := context.WithCancel(ctx)
	l := &line{store: s, seen: newArrivals(), cancel: cancel, parts: make(chan error, 3)}
	err := l.start(own, b, database)
	if err != nil {
		return nil, errors.Join(err, l.stop(ctx))
	}
	return l, nil
}

func (l *line) start(ctx context.Context, b *bed, database string) (err error) {
	if l.starts, err = engine.Open(b.address, b.log); err != nil {
		return err
	}
	if l.works, err = engine.Open(b.address, b.log); err != nil {
		return err
	}
	if l.queues, err = store.OpenQueues(ctx, database, slots); err != nil {
		return err
	}
	starter := engine.Starter{Runs: l.store, Engine: l.starts}
	handler, err := b.handler(l.store, starter)
	if err != nil {
		return err
	}
	if l.site, err = serve(handler); err != nil {
		return err
	}
	wake := make(chan struct{}, 1)
	d, err := dispatch.New(dispatch.Options{
		Store: l.store, Starter: starter, Metrics: prometheus.NewRegistry(), Log: b.log, Wake: wake,
		Poll: 2 * time.Second, Lease: l.store.Lease, // as skep-server has it
	})
	if err != nil {
		return err
	}
	l.part(func() error {
		err := l.store.ListenDeliveries(ctx, func() {
			select {
			case wake <- struct{}{}:
			default: // awake
			}
		})
		if ctx.Err() != nil {
			return nil
		}
		return err
	})
	l.part(func() error { return d.Run(ctx) })
	l.part(func() error {
		return l.works.Work(ctx, engine.Worker{
			Name: "worker", Classes: []controlplane.Priority{controlplane.Critical, controlplane.Normal, controlplane.Batch},
			Slots: slots, Grace: time.Minute, Queues: l.queues,
			Handle: func(_ context.Context, run controlplane.RunID, _ bool) error {
				l.seen.note(string(run))
				return nil
			},
		})
	})
	return nil
}

func (l *line) part(f func() error) {
	l.count++
	go func() { l.parts <- f() }()
}

func (l *line) stop(ctx context.Context) error {
	l.cancel()
	var err error
	for range l.count {
		err = errors.Join(err, <-l.parts)
	}
	if l.site != nil {
		err = errors.Join(err, l.site.stop())
	}
	if l.queues != nil {
		l.queues.Close()
	}
	for _, e := range []*engine.Engine{l.starts, l.works} {
		if e != nil {
			err = errors.Join(err, e.Close(context.WithoutCancel(ctx)))
		}
	}
	return err
}

// run starts one past the dispatcher.
func (l *line) run(ctx context.Context, id string) error {
	return l.starts.Start(ctx, controlplane.Run{ID: controlplane.RunID(id), Priority: controlplane.Normal})
}

// bare is Hatchet's SDK alone, on the same engine.
type bare struct {
	client *hatchet.Client
	task   *hatchet.StandaloneTask
	seen   *arrivals
	end    func() error
}

type bareInput struct {
	Run string `json:"run"`
}

func startBare(b *bed) (*bare, error) {
	quiet := zerolog.Nop()
	c, err := hatchet.NewClient(client.WithToken(b.address.Token), client.WithHostPort(b.address.Host, b.address.Port), client.WithTLSConfig(nil), client.WithLogger(&quiet))
	if err != nil {
		return nil, err
	}
	out := &bare{client: c, seen: newArrivals()}
	out.task = c.NewStandaloneTask("bare", func(_ hatchet.Context, in bareInput) (struct{}, error) {
		out.seen.note(in.Run)
		return struct{}{}, nil
	})
	w, err := c.NewWorker("bare", hatchet.WithSlots(slots), hatchet.WithWorkflows(out.task), hatchet.WithLogger(&quiet))
	if err != nil {
		return nil, fmt.Errorf("register the bare worker: %w", err)
	}
	if out.end, err = w.Start(); err != nil {
		return nil, fmt.Errorf("start the bare worker: %w", err)
	}
	return out, nil
}

func (b *bare) start(ctx context.Context, id string) error {
	_, err := b.task.RunNoWait(ctx, bareInput{id})
	return err
}

func (b *bare) stop(ctx context.Context) error {
	return errors.Join(b.end(), b.client.Close(context.WithoutCancel(ctx)))
}
