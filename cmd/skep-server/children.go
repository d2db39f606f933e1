package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"skep/services/controlplane/child"
	"skep/services/controlplane/engine"
	"skep/services/controlplane/engine/hatchet"
)

// running is a child process that is kept running. The zero value is none.
type running struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// keep runs a child until stop, also past the end of ctx.
func keep(ctx context.Context, run func(context.Context) error) *running {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &running{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = run(own)
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

// engine runs the workflow engine as a child, or names the one outside.
func (s *server) engine(ctx context.Context) (engine.Address, *running, error) {
	if s.engineDatabase == "" {
		return s.external, &running{}, nil
	}
	keys, err := hatchet.NewKeys()
	if err != nil {
		return engine.Address{}, nil, err
	}
	held, err := holdPort(ctx)
	if err != nil {
		return engine.Address{}, nil, fmt.Errorf("choose a port for the workflow engine: %w", err)
	}
	ready := make(chan engine.Address, 1)
	p := &child.Process{
		Name: "workflow engine", Args: []string{"engine"}, Env: plainEnvironment(), Stderr: s.stderr, Grace: drain, Log: s.log,
		Config: hatchet.Config{DatabaseURL: s.engineDatabase, Port: held.number, Keys: keys},
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
	r := keep(ctx, func(ctx context.Context) error {
		defer held.release()
		return p.Run(ctx)
	})
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
	for _, name := range []string{"SKEP_HATCHET_TLS", "SKEP_URL", "SKEP_LOOPBACK", "SKEP_LOCAL_COMMANDS", "SKEP_JOB_IMAGE", "SKEP_JOB_NETWORKS", "SKEP_JOB_DOCKER_HOST",
		"SKEP_TASK_NETWORKS", "SKEP_NPM_REGISTRY", "SKEP_NPM_NETWORK", "SKEP_JOB_CONSTRAINTS", "SKEP_WORKER_METRICS_LISTEN", "DOCKER_HOST", "DOCKER_TLS_VERIFY", "OP_CONNECT_HOST", "OP_CONNECT_TOKEN", "OP_CONNECT_TOKEN_FILE"} {
		if v := os.Getenv(name); v != "" {
			config[name] = v
		}
	}
	p := &child.Process{
		Name: "worker", Path: path, Args: []string{"-child", "-slots", strconv.Itoa(s.slots)}, Env: append(plainEnvironment(), tracingEnvironment()...),
		Config: config, Stderr: s.stderr, Grace: 6 * time.Minute, Log: s.log,
	}
	return keep(ctx, p.Run), nil
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

// port is one of loopback that a child is to listen on.
type port struct {
	number  int
	release func()
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
