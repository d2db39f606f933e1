package dockerproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// engines is a Docker that is started again and again at the same socket.
type engines struct {
	socket      string
	connections atomic.Int64
}

func startEngines(t *testing.T) *engines {
	t.Helper()
	dir, err := os.MkdirTemp("", "skep-engine-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &engines{socket: filepath.Join(dir, "s")}
}

func (e *engines) start(t *testing.T, h http.HandlerFunc) (stop func()) {
	t.Helper()
	l, err := net.Listen("unix", e.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			e.connections.Add(1)
		}
	}}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	return func() {
		server.Close()
		<-done
	}
}

func roundTrip(ctx context.Context, t *testing.T, tr *transport, method string) (*http.Response, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, method, "http://docker/info", nil)
	if err != nil {
		t.Fatal(err)
	}
	return tr.RoundTrip(request)
}

func readAll(t *testing.T, response *http.Response, err error) string {
	t.Helper()
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

func TestTransportKeepsConnections(t *testing.T) {
	e := startEngines(t)
	stop := e.start(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Method) })
	defer stop()
	tr := newTransport(e.socket)
	for _, method := range []string{"GET", "HEAD", "GET", "HEAD", "GET"} {
		response, err := roundTrip(t.Context(), t, tr, method)
		if body := readAll(t, response, err); method == "GET" && body != "GET" {
			t.Errorf("got %q", body)
		}
	}
	if n := e.connections.Load(); n != 1 {
		t.Errorf("%d connections for 5 requests, want 1", n)
	}
}

// What was not read to its end says nothing about where the next answer
// begins.
func TestTransportDropsHalfReadAnswers(t *testing.T) {
	e := startEngines(t)
	stop := e.start(t, func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 1<<20)) })
	defer stop()
	tr := newTransport(e.socket)
	for range 3 {
		response, err := roundTrip(t.Context(), t, tr, "GET")
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Read(make([]byte, 10))
		response.Body.Close()
	}
	if n := e.connections.Load(); n != 3 || len(tr.idle) != 0 {
		t.Errorf("%d connections, %d of them kept; want 3 and none", n, len(tr.idle))
	}
}

func TestTransportSurvivesARestart(t *testing.T) {
	e := startEngines(t)
	tr := newTransport(e.socket)
	for _, name := range []string{"first", "second", "third"} {
		stop := e.start(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, name) })
		for range 3 {
			response, err := roundTrip(t.Context(), t, tr, "GET")
			if body := readAll(t, response, err); body != name {
				t.Errorf("got %q, want %q", body, name)
			}
		}
		stop()
	}
	if _, err := roundTrip(t.Context(), t, tr, "GET"); err == nil {
		t.Error("no error, and no engine")
	}
}

func TestTransportEndsWithItsRequest(t *testing.T) {
	e := startEngines(t)
	begun, left := make(chan struct{}), make(chan struct{})
	stop := e.start(t, func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		close(left)
	})
	defer stop()
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := roundTrip(ctx, t, newTransport(e.socket), "GET")
		failed <- err
	}()
	wait(t, begun, "the engine was not asked")
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the request's end", err)
	}
	wait(t, left, "the engine still answers")
}

// A second answer to one request is none to the next one.
func TestTransportDropsWhatNobodyAskedFor(t *testing.T) {
	e := startEngines(t)
	stop := e.start(t, func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")
		io.Copy(io.Discard, rw) // until the client hangs up
	})
	defer stop()
	tr := newTransport(e.socket)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 3 {
		response, err := roundTrip(ctx, t, tr, "GET")
		if body := readAll(t, response, err); body != "ok" {
			t.Errorf("got %q", body)
		}
	}
}
