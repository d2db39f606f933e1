// Package hatchet is the Hatchet engine over a PostgreSQL database: its
// migrations, its one tenant, its gRPC port. It takes the process for itself:
// Hatchet reads the environment, sets global tracers, and may panic. The server
// runs it as a child.
package hatchet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/hatchet-dev/hatchet/cmd/hatchet-admin/cli/seed"
	hatchetengine "github.com/hatchet-dev/hatchet/cmd/hatchet-engine/engine"
	"github.com/hatchet-dev/hatchet/cmd/hatchet-migrate/migrate"
	"github.com/hatchet-dev/hatchet/pkg/cleanup"
	"github.com/hatchet-dev/hatchet/pkg/config/loader"
	"github.com/hatchet-dev/hatchet/pkg/encryption"
	"github.com/pressly/goose/v3"

	"skep/services/controlplane/engine"
)

// Config is what the engine needs. It holds secrets: it goes to the process by
// its standard input.
type Config struct {
	DatabaseURL string `json:"databaseUrl"` // of a database that is Hatchet's own
	Port        int    `json:"port"`        // for gRPC, on loopback
	Keys        Keys   `json:"keys"`
}

// Keys sign tokens and encrypt what Hatchet keeps of its own. The same keys
// make tokens of before a restart good.
type Keys struct {
	Master     string `json:"master"`
	PrivateJWT string `json:"privateJwt"`
	PublicJWT  string `json:"publicJwt"`
}

// NewKeys makes keys.
func NewKeys() (Keys, error) {
	master, private, public, _, err := encryption.GenerateLocalKeys()
	if err != nil {
		return Keys{}, fmt.Errorf("make keys for the workflow engine: %w", err)
	}
	return Keys{Master: string(master), PrivateJWT: string(private), PublicJWT: string(public)}, nil
}

// version is what the engine says it is: the module's.
const version = "v0.104.7"

// tokenLife is how long a token is good: every start makes one.
const tokenLife = 10 * 365 * 24 * time.Hour

// Run migrates the database and runs the engine until ctx ends; ready gets the
// address once it answers. It changes the environment, and makes os.Stdout
// what os.Stderr is.
func Run(ctx context.Context, c Config, ready func(engine.Address) error) (err error) {
	if c.DatabaseURL == "" || c.Port == 0 || c.Keys.Master == "" {
		return errors.New("run the workflow engine: a database URL, a port and keys are needed")
	}
	os.Stdout = os.Stderr // Hatchet prints on it; it belongs to the parent
	if err := c.environment(); err != nil {
		return err
	}
	goose.SetLogger(goose.NopLogger()) // it has a line for each of some two hundred
	if err := migrate.RunMigrations(ctx, migrate.WithDatabaseURL(c.DatabaseURL)); err != nil {
		return fmt.Errorf("migrate the workflow engine's database: %w", err)
	}
	files := loader.NewConfigLoader("")
	data, err := files.InitDataLayer()
	if err != nil {
		return fmt.Errorf("open the workflow engine's database: %w", err)
	}
	err = seed.SeedDatabase(data)
	if err := errors.Join(err, data.Disconnect()); err != nil {
		return fmt.Errorf("fill the workflow engine's database: %w", err)
	}
	leave, err := alone(ctx, c.DatabaseURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, leave(context.WithoutCancel(ctx))) }()
	if err := c.free(ctx); err != nil {
		return err
	}
	end, server, err := files.CreateServerFromConfig(version)
	if err != nil {
		return fmt.Errorf("configure the workflow engine: %w", err)
	}
	steps := cleanup.New(server.Logger)
	ended := make(chan error, 1)
	go func() { ended <- hatchetengine.RunWithConfig(ctx, server, &steps) }()

	err = c.announce(ctx, func() (string, error) {
		tenant, err := uuid.Parse(server.Seed.DefaultTenantID)
		if err != nil {
			return "", err
		}
		expires := time.Now().Add(tokenLife)
		token, err := server.Auth.JWTManager.GenerateTenantToken(ctx, tenant, "skep", false, &expires)
		if err != nil {
			return "", err
		}
		return token.Token, nil
	}, ended, ready)
	if err == nil {
		err = <-ended
	}
	steps.Add(end, "server")
	steps.Add(server.Disconnect, "database")
	if clean := steps.Run(); clean != nil {
		err = errors.Join(err, fmt.Errorf("stop the workflow engine: %w", clean))
	}
	return err
}

// free fails if somebody else has the port, who would be taken for the engine.
func (c Config) free(ctx context.Context) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.address())
	if err != nil {
		return fmt.Errorf("take the workflow engine's port: %w", err)
	}
	return l.Close()
}

// announce waits until the port answers. An engine that has ended is not
// announced, whoever answers.
func (c Config) announce(ctx context.Context, token func() (string, error), ended <-chan error, ready func(engine.Address) error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", c.address())
		if err == nil {
			conn.Close()
			break
		}
		select {
		case err := <-ended:
			return fmt.Errorf("the workflow engine ended: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	text, err := token()
	if err != nil {
		return fmt.Errorf("make a token for the workflow engine: %w", err)
	}
	select {
	case err := <-ended:
		return fmt.Errorf("the workflow engine ended: %w", err)
	default:
	}
	return ready(engine.Address{Host: "127.0.0.1", Port: c.Port, Token: text})
}

func (c Config) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Port)) }

// environment is how Hatchet is configured. Nothing of it leaves the machine:
// no mail, no analytics, no check for updates.
func (c Config) environment() error {
	for name, value := range map[string]string{
		"DATABASE_URL":         c.DatabaseURL,
		"DATABASE_MAX_CONNS":   "12",
		"SERVER_MSGQUEUE_KIND": "postgres",
		"SERVER_GRPC_PORT":     strconv.Itoa(c.Port),
		"SERVER_GRPC_INSECURE": "true",
		"SERVER_HEALTHCHECK":   "false", // it would listen on all interfaces
		// It refuses keyed runs beyond the first ten at once otherwise; the pool's
		// connections bound them well enough.
		"SERVER_GRPC_TRIGGER_WRITE_SLOTS": "0",

		"SERVER_LOGGER_LEVEL":                      "error",
		"SERVER_LOGGER_FORMAT":                     "json",
		"DATABASE_LOGGER_LEVEL":                    "error",
		"DATABASE_LOGGER_FORMAT":                   "json",
		"SERVER_ADDITIONAL_LOGGERS_QUEUE_LEVEL":    "error",
		"SERVER_ADDITIONAL_LOGGERS_PGXSTATS_LEVEL": "error",

		"SERVER_GRPC_BIND_ADDRESS":                               "127.0.0.1",
		"SERVER_GRPC_BROADCAST_ADDRESS":                          c.address(),
		"SERVER_INTERNAL_CLIENT_INTERNAL_GRPC_BROADCAST_ADDRESS": c.address(),
		"SERVER_SECURITY_CHECK_ENABLED":                          "false",
		"SERVER_ENCRYPTION_MASTER_KEYSET":                        c.Keys.Master,
		"SERVER_ENCRYPTION_JWT_PRIVATE_KEYSET":                   c.Keys.PrivateJWT,
		"SERVER_ENCRYPTION_JWT_PUBLIC_KEYSET":                    c.Keys.PublicJWT,
		// For the dashboard, which is not run.
		"SERVER_AUTH_COOKIE_SECRETS":  "0123456789abcdef 0123456789abcdef",
		"SERVER_AUTH_COOKIE_INSECURE": "true",
		"SERVER_AUTH_COOKIE_DOMAIN":   "localhost",
	} {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}
