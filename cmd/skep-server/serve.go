package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"skep/secrets"
	"skep/services/controlplane/api"
	"skep/services/controlplane/child"
	"skep/services/controlplane/dispatch"
	"skep/services/controlplane/engine"
	"skep/services/controlplane/engine/hatchet"
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
	parts.Go(func() error { return upkeep{db, starts, s.log}.run(partsCtx) })
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

// running is a child process that is kept running. The zero value is none.
type running struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// keep runs a child until stop, also past the end of ctx.
func keep(ctx context.Context, p *child.Process) *running {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &running{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = p.Run(own)
	}()
	return r
}

func (r *running) stop() error {
	if r.done == nil {
		return nil
	}
	r.cancel()
	<-r.done
	return r.err
}

// watch waits for ctx to end, or for the child to be given up.
func (r *running) watch(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-r.done:
		return r.err
	}
}

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

// engine runs the workflow engine as a child, or names the one outside.
func (s *server) engine(ctx context.Context) (engine.Address, *running, error) {
	if s.engineDatabase == "" {
		return s.external, &running{}, nil
	}
	keys, err := hatchet.NewKeys()
	if err != nil {
		return engine.Address{}, nil, err
	}
	port, err := freePort(ctx)
	if err != nil {
		return engine.Address{}, nil, err
	}
	ready := make(chan engine.Address, 1)
	p := &child.Process{
		Name: "workflow engine", Args: []string{"engine"}, Env: plainEnvironment(), Stderr: s.stderr, Grace: drain, Log: s.log,
		Config: hatchet.Config{DatabaseURL: s.engineDatabase, Port: port, Keys: keys},
		Ready: func(line []byte) error {
			var a engine.Address
			if err := json.Unmarshal(line, &a); err != nil {
				return errors.New("the workflow engine did not say where it is")
			}
			select {
			case ready <- a:
			default: // again: the port and the keys are the same
			}
			return nil
		},
	}
	r := keep(ctx, p)
	s.log.InfoContext(ctx, "starting the workflow engine; the first time its database is filled")
	select {
	case a := <-ready:
		return a, r, nil
	case <-ctx.Done():
		return engine.Address{}, nil, errors.Join(context.Cause(ctx), r.stop())
	case <-r.done:
		return engine.Address{}, nil, fmt.Errorf("start the workflow engine: %w", r.err)
	}
}

// worker runs one as a child, from the binary beside this one.
func (s *server) worker(ctx context.Context, a engine.Address) (*running, error) {
	if s.slots <= 0 {
		return &running{}, nil
	}
	path, err := child.Beside("skep-worker")
	if err != nil {
		return nil, fmt.Errorf("%w, or say --workers 0 and run workers elsewhere", err)
	}
	config := map[string]string{
		"SKEP_DATABASE_URL": s.settings.url, "SKEP_DATABASE_KEY": s.settings.key,
		"SKEP_HATCHET_ADDRESS": net.JoinHostPort(a.Host, strconv.Itoa(a.Port)), "SKEP_HATCHET_TOKEN": a.Token,
	}
	for _, name := range []string{"SKEP_HATCHET_TLS", "SKEP_URL", "SKEP_LOOPBACK", "SKEP_LOCAL_COMMANDS", "SKEP_JOB_IMAGE", "SKEP_JOB_NETWORKS", "SKEP_TASK_NETWORKS",
		"SKEP_JOB_CONSTRAINTS", "DOCKER_HOST", "DOCKER_TLS_VERIFY", "OP_CONNECT_HOST", "OP_CONNECT_TOKEN", "OP_CONNECT_TOKEN_FILE"} {
		if v := os.Getenv(name); v != "" {
			config[name] = v
		}
	}
	return keep(ctx, &child.Process{
		Name: "worker", Path: path, Args: []string{"-child", "-slots", strconv.Itoa(s.slots)}, Env: append(plainEnvironment(), tracingEnvironment()...),
		Config: config, Stderr: s.stderr, Grace: 6 * time.Minute, Log: s.log,
	}), nil
}

// plainEnvironment is what children get: nothing that configures this process.
func plainEnvironment() []string {
	var out []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v, ok := os.LookupEnv(name); ok {
			out = append(out, name+"="+v)
		}
	}
	return out
}

// tracingEnvironment is what a worker's tracing goes by. Each service has a name
// of its own.
func tracingEnvironment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return !strings.HasPrefix(v, "OTEL_") || strings.HasPrefix(v, "OTEL_SERVICE_NAME=")
	})
}

func freePort(ctx context.Context) (int, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// engineCommand is the child. It is hidden: its settings come by standard input.
func engineCommand() *cli.Command {
	return &cli.Command{
		Name: "engine", Usage: "Run the workflow engine, as serve does", Hidden: true,
		Action: func(c *cli.Context) error {
			var config hatchet.Config
			ctx, err := child.Config(c.Context, c.App.Reader, &config)
			if err != nil {
				return err
			}
			parent := json.NewEncoder(c.App.Writer)
			err = hatchet.Run(ctx, config, func(a engine.Address) error { return parent.Encode(a) })
			if ctx.Err() != nil {
				return nil
			}
			return err
		},
	}
}

func healthCommand() *cli.Command {
	return &cli.Command{
		Name: "healthcheck", Usage: "Ask the server whether it is well",
		Description: "For a container's health check: exits with 1 when it is not.\n\nExample:\n   skep-server healthcheck",
		Flags:       []cli.Flag{&cli.StringFlag{Name: "listen", Usage: "`ADDRESS` of the server", Value: "127.0.0.1:8080", EnvVars: []string{"SKEP_LISTEN"}}},
		Action: func(c *cli.Context) error {
			host, port, err := net.SplitHostPort(c.String("listen"))
			if err != nil {
				return usageError{err}
			}
			if host == "" || net.ParseIP(host).IsUnspecified() {
				host = "127.0.0.1"
			}
			ctx, cancel := context.WithTimeout(c.Context, 5*time.Second)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/healthz", nil)
			if err != nil {
				return err
			}
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				return err
			}
			defer answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				return fmt.Errorf("the server answers %s", answer.Status)
			}
			return nil
		},
	}
}
