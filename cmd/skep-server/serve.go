package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"skep/secrets"
	"skep/services/controlplane/api"
	"skep/services/controlplane/dispatch"
	"skep/services/controlplane/engine"
	"skep/services/controlplane/schedule"
	"skep/services/controlplane/store"
	"skep/services/controlplane/tracing"
)

func serveCommand(log *slog.Logger) *cli.Command {
	return &cli.Command{
		Name: "serve", Usage: "Run the server",
		Description: "Migrates the database, starts the workflow engine as a child over the database of\n" +
			"--engine-database, or uses the one at SKEP_HATCHET_ADDRESS, starts a worker as a child unless\n" +
			"--workers is 0, and serves until it is told to end.\n\n" +
			"Traces go to the collector that OTEL_EXPORTER_OTLP_ENDPOINT names, by OTLP over HTTP, as the other OTEL_\n" +
			"variables say; without it there are none.\n\n" +
			"Example:\n" +
			"   skep-server serve --engine-database postgres://skep@/hatchet",
		Flags: append(databaseFlags(),
			&cli.StringFlag{Name: "listen", Usage: "`ADDRESS` of API and webhooks", Value: "127.0.0.1:8080", EnvVars: []string{"SKEP_LISTEN"}},
			&cli.StringFlag{Name: "metrics-listen", Usage: "`ADDRESS` of /metrics; empty for none", EnvVars: []string{"SKEP_METRICS_LISTEN"}},
			&cli.StringFlag{Name: "engine-database", Usage: "`URL` of the workflow engine's own database; it is run here then", EnvVars: []string{"SKEP_HATCHET_DATABASE_URL"}, DefaultText: "none"},
			&cli.IntFlag{Name: "workers", Usage: "runs at once in a worker of this server's; 0 for none", Value: 2, EnvVars: []string{"SKEP_WORKERS"}},
			&cli.BoolFlag{Name: "no-migrate", Usage: "leave the database as it is", EnvVars: []string{"SKEP_NO_MIGRATE"}},
		),
		Action: func(c *cli.Context) error {
			s, err := newServer(c, log)
			if err != nil {
				return err
			}
			return s.run(c.Context)
		},
	}
}

// server is what serve runs.
type server struct {
	log      *slog.Logger
	settings settings
	keys     store.Keys
	migrate  bool

	listen, metricsListen string
	engineDatabase        string
	external              engine.Address
	slots                 int

	registry *prometheus.Registry
	stderr   io.Writer
}

func newServer(c *cli.Context, log *slog.Logger) (*server, error) {
	db, err := database(c)
	if err != nil {
		return nil, err
	}
	s := &server{
		log: log, listen: c.String("listen"), metricsListen: c.String("metrics-listen"), engineDatabase: c.String("engine-database"),
		slots: c.Int("workers"), migrate: !c.Bool("no-migrate"), registry: prometheus.NewRegistry(), stderr: c.App.ErrWriter,
	}
	if s.keys, err = db.readKey(c); err != nil {
		return nil, err
	}
	s.settings = db
	switch address := os.Getenv("SKEP_HATCHET_ADDRESS"); {
	case address != "" && s.engineDatabase != "":
		return nil, usage("the workflow engine is either at SKEP_HATCHET_ADDRESS or run here over --engine-database, not both")
	case address != "":
		if s.external, err = engine.AddressFrom(os.LookupEnv); err != nil {
			return nil, usageError{err}
		}
	case s.engineDatabase == "":
		return nil, usage("which workflow engine? Name a database of its own with --engine-database to run it here, or set SKEP_HATCHET_ADDRESS")
	}
	return s, err
}

// run serves until ctx ends: then requests and dispatches end, then the worker
// with its runs, which needs the engine, then the engine.
func (s *server) run(ctx context.Context) (err error) {
	if err := secrets.NoCoreDumps(); err != nil {
		return fmt.Errorf("turn core dumps off: %w", err)
	}
	traces, err := tracing.Start(ctx, "skep-server", version, s.log)
	if err != nil {
		return usageError{err}
	}
	defer traces.Stop(ctx)
	if s.migrate {
		if err := s.settings.migrate(ctx); err != nil {
			return err
		}
	}
	db, err := store.Open(ctx, s.settings.url, s.keys)
	if err != nil {
		return err
	}
	defer db.Close()
	db.Log = s.log

	address, engineChild, err := s.engine(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engineChild.stop()) }()
	e, err := engine.Open(address, s.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close(context.WithoutCancel(ctx))) }()
	workerChild, err := s.worker(ctx, address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, workerChild.stop()) }()

	defer context.AfterFunc(ctx, func() { s.log.InfoContext(ctx, "draining: what is under way goes on to its end") })()

	parts, partsCtx := errgroup.WithContext(ctx)
	parts.Go(func() error { return engineChild.watch(partsCtx) })
	parts.Go(func() error { return workerChild.watch(partsCtx) })
	starts := engine.Starter{Runs: db, Engine: e}
	parts.Go(func() error { return upkeep{db, starts, e, s.log}.run(partsCtx) })
	timer := &schedule.Scheduler{Store: db, Starter: e, Log: s.log}
	parts.Go(func() error { return timer.Run(partsCtx) })
	err = s.dispatch(partsCtx, parts, db, starts)
	var calls *api.API
	if err == nil {
		calls, err = s.api(db, e, address)
	}
	if err == nil {
		parts.Go(func() error { return calls.Run(partsCtx) })
		err = s.serve(partsCtx, parts, s.listen, traces.Handler(calls, untraced...))
	}
	if err == nil && s.metricsListen != "" {
		s.measure(partsCtx, db, address)
		err = s.serve(partsCtx, parts, s.metricsListen, promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	}
	if err != nil {
		parts.Go(func() error { return err })
	}
	err = parts.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // it was told to end, and has
	}
	return err
}

// untraced are the paths of probes, and of streams that last for hours.
var untraced = []string{"/healthz", "/readyz", api.Prefix + "/events"}

// serve listens at once, so that a port that is taken is found at the start.
func (s *server) serve(ctx context.Context, group *errgroup.Group, address string, h http.Handler) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	s.log.InfoContext(ctx, "listening", "address", l.Addr().String())
	group.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer cancel()
		if err := server.Shutdown(late); err != nil { // streams go on for ever
			return server.Close()
		}
		return nil
	})
	return nil
}

// poll is how often the outbox is looked at without a notification.
const poll = 2 * time.Second

func (s *server) dispatch(ctx context.Context, group *errgroup.Group, db *store.Store, starts dispatch.Starter) error {
	wake := make(chan struct{}, 1)
	d, err := dispatch.New(dispatch.Options{
		Store: db, Starter: starts, Metrics: s.registry, Log: s.log, Wake: wake, Poll: poll, Lease: db.Lease,
	})
	if err != nil {
		return err
	}
	group.Go(func() error {
		err := db.ListenDeliveries(ctx, func() {
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
	group.Go(func() error {
		if err := d.Run(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		return nil
	})
	return nil
}
