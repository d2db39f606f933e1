package dockerproxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"skep/internal/logtest"
)

// streams is an engine whose logs and events wait for lines, and whose
// attachments echo in capitals.
type streams struct {
	lines chan string
	left  chan struct{} // closed when a client's stream ends
}

func (s *streams) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/attach") {
		s.echo(w)
		return
	}
	if strings.HasSuffix(r.URL.Path, "/logs") {
		w.Header().Set("Content-Type", "application/vnd.docker.raw-stream")
	} else {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	defer close(s.left)
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				return
			}
			io.WriteString(w, line)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// echo ends only after its input did, and says so: it needs half a connection.
func (s *streams) echo(w http.ResponseWriter) {
	c, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer close(s.left)
	defer c.Close()
	io.WriteString(c, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	for {
		line, err := rw.ReadString('\n')
		if err != nil {
			io.WriteString(c, "the input ended\n")
			return
		}
		io.WriteString(c, strings.ToUpper(line))
	}
}

func startStreams(t *testing.T, env ...string) (s *streams, address string) {
	t.Helper()
	s = &streams{lines: make(chan string), left: make(chan struct{})}
	log := &logtest.Buffer{}
	t.Cleanup(func() { // when the proxy has ended
		if strings.Contains(log.String(), "read error") {
			t.Errorf("the end of a stream is no fault:\n%s", log)
		}
	})
	return s, serve(t, startHandler(t, s), log, env...)
}

// open asks for a stream and returns its lines.
func open(t *testing.T, url string) (lines *bufio.Reader, leave func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Transport{}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s answers %s", url, response.Status)
	}
	return bufio.NewReader(response.Body), func() { response.Body.Close() }
}

func TestStreams(t *testing.T) {
	for path, line := range map[string]string{
		"/events":                         `{"Type":"container","Actor":{"Attributes":{"a":"b"}}}` + "\n",
		"/containers/web/logs?follow=1":   "\x01\x00\x00\x00\x00\x00\x00\x06hello\n",
		"/services/web/logs?follow=1":     "hello\n",
		"/containers/web/stats?stream=1":  "{}\n",
		"/v1.41/tasks/1/logs?follow=true": "hello\n",
	} {
		t.Run(path, func(t *testing.T) {
			env := []string{"CONTAINERS=1", "SERVICES=1", "TASKS=1", "LOGS=1"}
			t.Run("come at once, and end with the client", func(t *testing.T) {
				s, address := startStreams(t, env...)
				lines, leave := open(t, "http://"+address+path)
				for range 3 { // each is read before the next is written
					s.lines <- line
					if got, err := lines.ReadString('\n'); got != line {
						t.Fatalf("got %q, %v; want %q", got, err, line)
					}
				}
				leave()
				wait(t, s.left, "the engine still streams")
			})
			t.Run("end with the engine", func(t *testing.T) {
				s, address := startStreams(t, env...)
				lines, _ := open(t, "http://"+address+path)
				close(s.lines)
				if got, err := lines.ReadString('\n'); err != io.EOF {
					t.Errorf("got %q, %v; want the end", got, err)
				}
			})
		})
	}
}

// A stream must not hold up the end of the proxy until the grace is over.
func TestStreamsEndWithTheProxy(t *testing.T) {
	s := &streams{lines: make(chan string), left: make(chan struct{})}
	set := settings(t)
	set.Socket = startHandler(t, s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serveUntil(ctx, l, New(set, slog.New(slog.DiscardHandler)), time.Hour) }()
	open(t, "http://"+l.Addr().String()+"/events")
	stop()
	wait(t, s.left, "the engine still streams")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Nothing at all is what a client gets that hung up; an empty 200 would be an
// answer.
func TestNoAnswerForWhoLeft(t *testing.T) {
	begun, left := make(chan struct{}), make(chan struct{})
	address := serve(t, startHandler(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		close(left)
	})), t.Output(), "INFO=1")
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(c, "GET /info HTTP/1.1\r\nHost: d\r\n\r\n")
	wait(t, begun, "the engine was not asked")
	c.(*net.TCPConn).CloseWrite()
	if answer, err := io.ReadAll(c); len(answer) > 0 {
		t.Errorf("got %q, %v", answer, err)
	}
	wait(t, left, "the engine still answers")
}

func wait(t *testing.T, done <-chan struct{}, otherwise string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal(otherwise)
	}
}

func attach(t *testing.T, address, protocol string) (net.Conn, *bufio.Reader, *http.Response) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(c, "POST /v1.41/containers/web/attach?stream=1&stdin=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: %s\r\nContent-Length: 0\r\n\r\n", protocol)
	r := bufio.NewReader(c)
	response, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c, r, response
}

func TestAttach(t *testing.T) {
	s, address := startStreams(t, "CONTAINERS=1", "ATTACH=1", "POST=1")
	c, r, response := attach(t, address, "tcp")
	if response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %s, want an upgrade", response.Status)
	}
	for _, line := range []string{"hello\n", "GET /secrets HTTP/1.1\n"} {
		io.WriteString(c, line)
		if got, err := r.ReadString('\n'); got != strings.ToUpper(line) {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	// The end of the input is not the end of the output.
	c.(*net.TCPConn).CloseWrite()
	if rest, err := io.ReadAll(r); string(rest) != "the input ended\n" || err != nil {
		t.Errorf("got %q, %v", rest, err)
	}
	wait(t, s.left, "the engine is still attached")
}

func TestAttachEndsWithTheClient(t *testing.T) {
	s, address := startStreams(t, "CONTAINERS=1", "ATTACH=1", "POST=1")
	c, _, _ := attach(t, address, "tcp")
	c.Close()
	wait(t, s.left, "the engine is still attached")
}

func TestAttachIsRefused(t *testing.T) {
	for protocol, env := range map[string][]string{
		"tcp":       {"CONTAINERS=1", "POST=1"},
		"h2c":       {"CONTAINERS=1", "POST=1", "ATTACH=1"},
		"websocket": {"CONTAINERS=1", "POST=1", "ATTACH=1"},
		"tcp, h2c":  {"CONTAINERS=1", "POST=1", "ATTACH=1"},
	} {
		_, address := startStreams(t, env...)
		if _, _, response := attach(t, address, protocol); response.StatusCode != http.StatusForbidden {
			t.Errorf("%s with %s: got %s, want 403", protocol, env, response.Status)
		}
	}
}
