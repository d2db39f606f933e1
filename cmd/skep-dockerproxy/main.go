// Command skep-dockerproxy lets one consumer use a part of the Docker API.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"skep/services/dockerproxy"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

const usage = `Passes a part of the Docker API on, and refuses the rest.

Usage: skep-dockerproxy [-healthcheck]

  CONTAINERS=1 NETWORKS=1 ...  open GET and HEAD of /containers, /networks, ...
                               (EVENTS, PING and VERSION are open unless 0)
  LOGS=1                       opens the logs of what is open
  POST=1                       opens POST, PUT and DELETE of what is open
  ALLOW="POST /services/{id}/update, ..."  opens single endpoints
  LISTEN=:2375                 address to listen on
  SOCKET_PATH=/var/run/docker.sock

Example: SERVICES=1 TASKS=1 skep-dockerproxy

`

func run(ctx context.Context, args []string, _ io.Reader, _, stderr io.Writer) int {
	flags := flag.NewFlagSet("skep-dockerproxy", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	check := flags.Bool("healthcheck", false, "ask the running proxy for /_ping, and exit")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		flags.Usage()
		return 2
	}

	serve := serve
	if *check {
		serve = healthcheck
	}
	log := slog.New(slog.NewJSONHandler(stderr, nil))
	if err := serve(ctx, log); err != nil {
		log.Error("stopped", "error", err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, log *slog.Logger) error {
	policy, err := dockerproxy.FromEnv(os.LookupEnv)
	if err != nil {
		return fmt.Errorf("read the policy: %w", err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", setting("LISTEN", ":2375"))
	if err != nil {
		return err
	}
	socket := setting("SOCKET_PATH", "/var/run/docker.sock")
	log.Info("listening", "address", l.Addr().String(), "socket", socket)
	return dockerproxy.Serve(ctx, l, dockerproxy.New(policy, socket, log))
}

// healthcheck accepts a refusal: PING=0 closes /_ping, and the proxy is well.
func healthcheck(ctx context.Context, _ *slog.Logger) error {
	host, port, err := net.SplitHostPort(setting("LISTEN", ":2375"))
	if err != nil {
		return fmt.Errorf("read LISTEN: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/_ping", nil)
	if err != nil {
		return err
	}
	response, err := (&http.Transport{}).RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("/_ping answers %s", response.Status)
	}
	return nil
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
