// Command whoami answers with what it was asked and who it is: a service to
// try an ingress with.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, _ io.Reader, _, stderr io.Writer) int {
	flags := flag.NewFlagSet("whoami", flag.ContinueOnError)
	flags.SetOutput(stderr)
	check := flags.Bool("healthcheck", false, "ask the running server for /healthz, and exit")
	flags.Usage = func() {
		fmt.Fprint(stderr, "Answers with what it was asked and who it is.\n\nUsage: whoami [-healthcheck]\n\nPORT is the port to listen on, 8080 unless set.\n\nExample: PORT=8000 whoami\n\n")
		flags.PrintDefaults()
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		flags.Usage()
		return 2
	}

	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	do := serve
	if *check {
		do = healthcheck
	}
	if err := do(ctx, port); err != nil {
		fmt.Fprintln(stderr, "whoami:", err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, port string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	mounted, err := secretNames("/run/secrets")
	if err != nil {
		return fmt.Errorf("look for secrets: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) { describe(w, r, name, mounted) })
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })

	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":"+port)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err = server.Shutdown(grace)
	<-done
	return err
}

// secretNames lists the secrets that the task was given, never what is in them.
func secretNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			return nil, err
		}
		if info.Mode().IsRegular() && info.Size() > 0 {
			names = append(names, entry.Name())
		}
	}
	return names, err
}

func describe(w http.ResponseWriter, r *http.Request, name string, mounted []string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "Hostname: %s\nHost: %s\nRequest: %s %s\nRemote: %s\n", name, r.Host, r.Method, r.RequestURI, r.RemoteAddr)
	for _, secret := range mounted {
		fmt.Fprintf(w, "Secret: %s is present\n", secret)
	}
	for _, header := range slices.Sorted(maps.Keys(r.Header)) {
		for _, value := range r.Header[header] {
			fmt.Fprintf(w, "%s: %s\n", header, value)
		}
	}
}

func healthcheck(ctx context.Context, port string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort("127.0.0.1", port)+"/healthz", nil)
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
