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
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/api"
	"skep/services/controlplane/child"
	"skep/services/controlplane/engine"
	"skep/services/controlplane/engine/hatchet"
	"skep/services/controlplane/integration"
	"skep/services/controlplane/store"
	"skep/services/controlplane/webhook"
)

// bed is PostgreSQL and the workflow engine, as skep-server starts it.
type bed struct {
	postgres *postgres
	address  engine.Address
	log      *slog.Logger
	cancel   context.CancelFunc
	engine   chan error // when its process is gone
	said     *os.File   // what the engine prints: much, and of interest if something fails
}

func startBed(ctx context.Context, progress io.Writer) (*bed, error) {
	p, err := startPostgres(ctx)
	if err != nil {
		return nil, err
	}
	said, err := os.Create(filepath.Join(p.dir, "engine.log"))
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	b := &bed{postgres: p, said: said, log: slog.New(slog.NewTextHandler(progress, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	if err := b.startEngine(ctx, progress); err != nil {
		b.lastWords(progress)
		return nil, errors.Join(err, b.stop())
	}
	return b, nil
}

const (
	engineStart = 2 * time.Minute
	lastWords   = 4000 // bytes
)

// lastWords are the engine's.
func (b *bed) lastWords(to io.Writer) {
	content, err := os.ReadFile(b.said.Name())
	if err == nil {
		fmt.Fprintf(to, "the workflow engine's last words:\n%s", content[max(0, len(content)-lastWords):])
	}
}

func (b *bed) startEngine(ctx context.Context, progress io.Writer) error {
	keys, err := hatchet.NewKeys()
	if err != nil {
		return err
	}
	database, err := b.postgres.create(ctx, "hatchet")
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return err
	}
	ready := make(chan engine.Address, 1)
	process := &child.Process{
		Name: "workflow engine", Args: []string{roleEngine}, Env: os.Environ(), Stderr: b.said, Grace: time.Minute, Log: b.log,
		Config: hatchet.Config{DatabaseURL: database, Port: port, Keys: keys},
		Ready: func(line []byte) error {
			var a engine.Address
			if err := json.Unmarshal(line, &a); err != nil {
				return err
			}
			select {
			case ready <- a:
			default: // started again
			}
			return nil
		},
	}
	own, cancel := context.WithCancel(context.WithoutCancel(ctx)) // it ends after those who use it
	b.cancel, b.engine = cancel, make(chan error, 1)
	go func() { b.engine <- process.Run(own) }()
	fmt.Fprintln(progress, "starting the workflow engine")
	late := time.NewTimer(engineStart)
	defer late.Stop()
	select {
	case b.address = <-ready:
		return nil
	case <-late.C:
		return fmt.Errorf("the workflow engine is not ready after %s", engineStart)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// serveEngine is the child.
func serveEngine(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	var c hatchet.Config
	ctx, err := child.Config(ctx, stdin, &c)
	if err != nil {
		return err
	}
	parent := json.NewEncoder(stdout)
	err = hatchet.Run(ctx, c, func(a engine.Address) error { return parent.Encode(a) })
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (b *bed) stop() error {
	var err error
	if b.cancel != nil {
		b.cancel()
		err = <-b.engine
	}
	return errors.Join(err, b.said.Close(), b.postgres.stop())
}

const (
	secret     = "It's-a-secret-to-everybody"
	repository = "acme/cluster"
)

// store is a database with a source at GitHub and a project of it.
func (b *bed) store(ctx context.Context, name string) (*store.Store, controlplane.Source, string, error) {
	fail := func(err error) (*store.Store, controlplane.Source, string, error) {
		return nil, controlplane.Source{}, "", err
	}
	url, err := b.postgres.create(ctx, name)
	if err != nil {
		return fail(err)
	}
	if err := store.Migrate(ctx, url); err != nil {
		return fail(err)
	}
	keys := store.Keys{Current: "k", All: map[store.KeyID]secrets.Value{"k": secrets.NewValue([]byte(strings.Repeat("0f", 32)))}}
	s, err := store.Open(ctx, url, keys)
	if err != nil {
		return fail(err)
	}
	s.Log = b.log
	_, err = s.PutIntegration(ctx, controlplane.Integration{Provider: controlplane.GitHub, Name: "main"}, nil)
	var source controlplane.Source
	if err == nil {
		source, err = s.PutSource(ctx, controlplane.Source{
			Provider: controlplane.GitHub, Name: webhook.DefaultSource, Integration: "main", Secret: secrets.NewValue([]byte(secret)),
		})
	}
	if err == nil {
		_, err = s.PutProject(ctx, controlplane.Project{
			Name: "cluster", Integration: "main", Provider: controlplane.GitHub, Repository: repository, Cluster: "cluster", Deploy: controlplane.DeployManual,
		})
	}
	if err != nil {
		s.Close()
		return fail(err)
	}
	return s, source, url, nil
}

// handler is what skep-server answers with, log and metrics included.
func (b *bed) handler(s *store.Store, starter api.Starter) (*api.API, error) {
	metrics, log := prometheus.NewRegistry(), slog.New(slog.NewJSONHandler(io.Discard, nil))
	hooks, err := webhook.New(webhook.Options{Sources: s, Deliveries: s, Metrics: metrics, Log: log})
	if err != nil {
		return nil, err
	}
	return api.New(api.Options{
		Store: s, Registry: integration.NewRegistry(integration.Options{}), Webhooks: hooks, Starter: starter, Metrics: metrics, Log: log,
		Ready: func(context.Context) error { return nil },
	})
}

// site is a handler on a port of its own.
type site struct {
	address string
	server  *http.Server
	ended   chan error
}

func serve(h http.Handler) (*site, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &site{l.Addr().String(), &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}, make(chan error, 1)}
	go func() { s.ended <- s.server.Serve(l) }()
	return s, nil
}

func (s *site) stop() error {
	err := s.server.Close()
	if ended := <-s.ended; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}
