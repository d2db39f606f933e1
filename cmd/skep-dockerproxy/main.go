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
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"skep/services/dockerproxy"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("skep-dockerproxy", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { usage(stderr, flags) }
	check := flags.Bool("healthcheck", false, "ask the running proxy whether it is well, and exit")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		flags.Usage()
		return 2
	}

	settings, err := dockerproxy.FromEnv(os.LookupEnv)
	log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: settings.LogLevel}))
	switch {
	case err != nil:
		err = fmt.Errorf("read the environment: %w", err)
	case *check:
		err = healthcheck(ctx, settings)
	default:
		err = serve(ctx, settings, stdout, log)
	}
	if err != nil {
		log.Error("stopped", "error", err)
		return 1
	}
	return 0
}

func usage(w io.Writer, flags *flag.FlagSet) {
	fmt.Fprint(w, "Passes a part of the Docker API on, and refuses the rest.\n\nUsage: skep-dockerproxy [-healthcheck]\n")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var group dockerproxy.Group
	for _, v := range dockerproxy.Variables {
		if v.Group != group {
			group = v.Group
			fmt.Fprintf(table, "\n%s:\n", group)
		}
		fmt.Fprintf(table, "  %s=%s\t%s\n", v.Name, v.Default, strings.ReplaceAll(v.Doc, "`", ""))
	}
	table.Flush()
	fmt.Fprint(w, "\nExample: SERVICES=1 TASKS=1 skep-dockerproxy\n\n")
	flags.PrintDefaults()
}

func serve(ctx context.Context, settings dockerproxy.Settings, stdout io.Writer, log *slog.Logger) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, settings.Network, settings.Listen)
	if err != nil {
		return err
	}
	proxy := dockerproxy.New(settings, log)
	log.Info("listening", "address", l.Addr().String(), "socket", settings.Socket)
	if settings.Learn {
		log.Warn("LEARN=1: every request of the Docker API passes")
		defer func() {
			for _, line := range proxy.Learned() {
				fmt.Fprintln(stdout, line)
			}
		}()
	}
	if settings.MetricsListen == "" {
		return dockerproxy.Serve(ctx, l, proxy)
	}
	status, err := (&net.ListenConfig{}).Listen(ctx, settings.Network, settings.MetricsListen)
	if err != nil {
		l.Close()
		return err
	}
	return both(ctx,
		func(ctx context.Context) error { return dockerproxy.Serve(ctx, l, proxy) },
		func(ctx context.Context) error { return dockerproxy.Serve(ctx, status, proxy.Status()) })
}

// both runs two servers until the first ends.
func both(ctx context.Context, servers ...func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	problems := make([]error, len(servers))
	for i, serve := range servers {
		wg.Go(func() {
			defer stop()
			problems[i] = serve(ctx)
		})
	}
	wg.Wait()
	return errors.Join(problems...)
}

func healthcheck(ctx context.Context, settings dockerproxy.Settings) error {
	host, port, err := net.SplitHostPort(settings.Listen)
	if err != nil {
		return fmt.Errorf("read LISTEN: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/healthz", nil)
	if err != nil {
		return err
	}
	response, err := (&http.Transport{}).RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("/healthz answers %s", response.Status)
	}
	return nil
}
