package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"skep/internal/polltest"
	"skep/internal/porttest"
)

func TestRun(t *testing.T) {
	_, port, err := net.SplitHostPort(porttest.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PORT", port)

	ctx, stop := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() { code <- run(ctx, nil, nil, nil, t.Output()) }()
	polltest.Until(t, func() error {
		var stderr bytes.Buffer
		if run(t.Context(), []string{"-healthcheck"}, nil, nil, &stderr) != 0 {
			return fmt.Errorf("not healthy: %s", &stderr)
		}
		return nil
	})

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+port+"/path?q=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "who.example.com"
	request.Header.Set("X-Bee", "drone")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Hostname: ", "Host: who.example.com\n", "Request: GET /path?q=1\n", "Remote: 127.0.0.1:", "X-Bee: drone\n"} {
		if !strings.Contains(string(body), want) {
			t.Errorf("got %q, want it to hold %q", body, want)
		}
	}

	stop()
	if got := <-code; got != 0 {
		t.Errorf("got exit code %d, want 0", got)
	}
	if got := run(t.Context(), []string{"-healthcheck"}, nil, nil, io.Discard); got != 1 {
		t.Errorf("a stopped server: got exit code %d, want 1", got)
	}
	if got := run(t.Context(), []string{"word"}, nil, nil, io.Discard); got != 2 {
		t.Errorf("a word too much: got exit code %d, want 2", got)
	}
}
