package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"skep/internal/polltest"
	"skep/internal/porttest"
)

func TestRun(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "docker.sock")
	daemon, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("OK"))
	})}
	go server.Serve(daemon)
	defer server.Close()

	address, metrics := porttest.Address(t), porttest.Address(t)
	t.Setenv("LISTEN", address)
	t.Setenv("METRICS_LISTEN", metrics)
	t.Setenv("SOCKET_PATH", socket)
	t.Setenv("LEARN", "1")

	ctx, stop := context.WithCancel(t.Context())
	code := make(chan int, 1)
	var stdout bytes.Buffer
	go func() { code <- run(ctx, nil, nil, &stdout, t.Output()) }()
	polltest.Until(t, func() error {
		var stderr bytes.Buffer
		if run(t.Context(), []string{"-healthcheck"}, nil, nil, &stderr) != 0 {
			return fmt.Errorf("not healthy: %s", stderr.String())
		}
		return nil
	})
	get(t, "http://"+address+"/info")
	if body := get(t, "http://"+metrics+"/metrics"); !strings.Contains(body, `{section="info",outcome="passed"} 1`) {
		t.Errorf("got metrics %s", body)
	}
	stop()
	if got := <-code; got != 0 {
		t.Errorf("got exit code %d, want 0", got)
	}
	if want := "INFO=1\nEVENTS=0\nPING=0\nVERSION=0\n"; stdout.String() != want {
		t.Errorf("learned %q, want %q", stdout.String(), want)
	}
	if got := run(t.Context(), []string{"-healthcheck"}, nil, nil, t.Output()); got != 1 {
		t.Errorf("a stopped proxy: got exit code %d, want 1", got)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestUsage(t *testing.T) {
	for args, want := range map[string]int{"-h": 0, "-nope": 2, "word": 2} {
		var stderr bytes.Buffer
		if got := run(t.Context(), []string{args}, nil, nil, &stderr); got != want || !strings.Contains(stderr.String(), "CONTAINERS=0") {
			t.Errorf("%s: got %d and %q, want %d and the usage", args, got, stderr.String(), want)
		}
	}
	t.Setenv("CONTAINERS", "yes")
	if got := run(t.Context(), nil, nil, nil, t.Output()); got != 1 {
		t.Errorf("a bad policy: got exit code %d, want 1", got)
	}
}
