package dockerproxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// daemon is a fake Docker on a socket: it answers with what it was asked, and
// streams two events, the second once next is closed.
type daemon struct {
	socket string
	next   chan struct{}
}

func startDaemon(t *testing.T) *daemon {
	t.Helper()
	d := &daemon{next: make(chan struct{})}
	d.socket = startHandler(t, d)
	return d
}

// startHandler answers at a socket until the test ends.
func startHandler(t testing.TB, h http.Handler) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "skep-engine-") // not t.TempDir: a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, DisableGeneralOptionsHandler: true}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		<-done
		os.RemoveAll(dir)
	})
	return socket
}

func (d *daemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/events" {
		fmt.Fprintln(w, "one")
		w.(http.Flusher).Flush()
		select {
		case <-d.next:
			fmt.Fprintln(w, "two")
		case <-r.Context().Done():
		}
		return
	}
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Api-Version", "1.41")
	fmt.Fprintf(w, "%s %s %s host=%s forwarded=%q body=%q", r.Method, r.URL.Path, r.URL.RawQuery, r.Host, r.Header.Get("X-Forwarded-For"), body)
}

// serve runs the proxy until the test ends, and returns its address.
func serve(t testing.TB, socket string, log io.Writer, lines ...string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	s := settings(t, lines...)
	s.Socket = socket
	handler := New(s, slog.New(slog.NewJSONHandler(log, nil)))
	go func() { done <- Serve(ctx, l, handler) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// raw sends bytes and returns the status and the body.
func raw(t *testing.T, address, request string) (int, string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprint(c, request)
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestProxy(t *testing.T) {
	address := serve(t, startDaemon(t).socket, t.Output(), "CONTAINERS=1", "ENV_VALUES=1", "LABEL_VALUES=1", "CONFIG_DATA=1", "JOIN_TOKENS=1", "ALLOW=POST /services/{id}/update")
	tests := []struct {
		request string
		status  int
		body    string
	}{
		{"GET /v1.41/containers/json?all=1&x=%2F..%2F HTTP/1.1\r\nHost: evil\r\n\r\n", 200, `GET /v1.41/containers/json all=1&x=%2F..%2F host=docker forwarded="" body=""`},
		{"GET /containers/%77eb/json HTTP/1.1\r\nHost: x\r\n\r\n", 200, "GET /containers/web/json"},
		{"GET /containers/json HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody", 403, "no body"},
		{"GET /containers/json HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 403, "no body"},
		{"POST /services/web/update?version=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 200, `POST /services/web/update version=1 host=docker forwarded="" body="{}"`},
		{"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 403, "needs POST=1"},
		{"GET /secrets HTTP/1.1\r\nHost: x\r\n\r\n", 403, `{"message":"refused by the Docker API proxy: GET /secrets needs SECRETS=1"}`},
		{"GET /containers/../secrets HTTP/1.1\r\nHost: x\r\n\r\n", 403, "dot segment"},
		{"GET /containers/..%2fsecrets HTTP/1.1\r\nHost: x\r\n\r\n", 403, "encoded slash"},
		{"GET //containers/json HTTP/1.1\r\nHost: x\r\n\r\n", 403, "empty segment"},
		{"GET http://docker/containers/json HTTP/1.1\r\nHost: x\r\n\r\n", 403, "no path"},
		{"CONNECT docker:80 HTTP/1.1\r\nHost: x\r\n\r\n", 403, "no path"},
		{"CONNECT /containers/json HTTP/1.1\r\nHost: x\r\n\r\n", 403, "not part of the Docker API"},
		{"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 403, "no path"},
		{"GET /containers/json HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", 403, "does not upgrade"},
		{"GET /containers/json HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\n\r\n", 403, "does not upgrade"},
	}
	for _, test := range tests {
		status, body := raw(t, address, test.request)
		if status != test.status || !strings.Contains(body, test.body) {
			t.Errorf("%q: got %d %q, want %d with %q", test.request, status, body, test.status, test.body)
		}
	}
}

// The host's ps prints environments when its arguments ask for them.
func TestArgumentsOfTop(t *testing.T) {
	socket := startDaemon(t).socket
	shown, hidden := []string{"CONTAINERS=1", "ENV_VALUES=1"}, []string{"CONTAINERS=1"}
	for _, test := range []struct {
		settings []string
		uri      string
		status   int
	}{
		{hidden, "/containers/web/top", 200},
		{hidden, "/containers/web/top?x=1", 200},
		{hidden, "/containers/web/top?ps_args=auxeww", 403},
		{hidden, "/v1.41/containers/web/top?x=1&%70s_args=auxeww", 403},
		{hidden, "/containers/web/top?x;ps_args=auxeww", 403},
		{hidden, "/containers/web/top?x=%zz", 403},
		{hidden, "/containers/json?ps_args=auxeww", 200},
		{shown, "/containers/web/top?ps_args=auxeww", 200},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			w := httptest.NewRecorder()
			s := settings(t, test.settings...)
			s.Socket = socket
			New(s, slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, test.uri, nil))
			if w.Code != test.status || w.Code == 403 && !strings.Contains(w.Body.String(), "ps_args can print variables: it needs ENV_VALUES=1") {
				t.Errorf("%s %s with %v: got %d %s, want %d", method, test.uri, test.settings, w.Code, w.Body, test.status)
			}
		}
	}
}

func TestEventsAreNotHeldBack(t *testing.T) {
	d := startDaemon(t)
	response, err := http.Get("http://" + serve(t, d.socket, t.Output()) + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewReader(response.Body)
	if line, err := lines.ReadString('\n'); line != "one\n" {
		t.Fatalf("got %q, %v before the second event happens", line, err)
	}
	close(d.next)
	if line, err := lines.ReadString('\n'); line != "two\n" {
		t.Fatalf("got %q, %v", line, err)
	}
}

func TestServeEndsStreams(t *testing.T) {
	response, err := http.Get("http://" + serve(t, startDaemon(t).socket, t.Output()) + "/events")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() }) // runs before the proxy is waited for: the stream is still open when it stops
}

func TestRefusalsAreLogged(t *testing.T) {
	var log bytes.Buffer
	s := settings(t, "SOCKET_PATH=/nowhere")
	handler := New(s, slog.New(slog.NewJSONHandler(&log, nil)))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, handler) }()
	if status, _ := raw(t, l.Addr().String(), "DELETE /nodes/x?buildargs=s3cret HTTP/1.1\r\nHost: x\r\n\r\n"); status != 403 {
		t.Errorf("got %d, want 403", status)
	}
	if status, body := raw(t, l.Addr().String(), "GET /version HTTP/1.1\r\nHost: x\r\n\r\n"); status != 502 || !strings.Contains(body, "cannot reach Docker") {
		t.Errorf("got %d %q, want 502", status, body)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if strings.Contains(log.String(), "s3cret") {
		t.Errorf("the log shows a query: %s", &log)
	}
	first, _, _ := strings.Cut(log.String(), "\n")
	var entry map[string]string
	if err := json.Unmarshal([]byte(first), &entry); err != nil {
		t.Fatal(err)
	}
	if entry["msg"] != "refused" || entry["method"] != "DELETE" || entry["path"] != "/nodes/x" || !strings.Contains(entry["reason"], "DELETE /nodes/{id} needs NODES=1, POST=1") {
		t.Errorf("got %v", entry)
	}
}

// status reads an answer up to its status.
func status(t testing.TB, c net.Conn, method string) int {
	t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}
