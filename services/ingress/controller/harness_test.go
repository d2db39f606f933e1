package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"skep/internal/porttest"
	"skep/services/ingress/dockertest"
)

// harness is a Caddy with the app, over a fake Docker.
type harness struct {
	t        testing.TB
	engine   *dockertest.Engine
	settings Settings
	http     string // address
	status   string
	backend  string // port of a backend on loopback, whatever address of it
	client   *http.Client
}

const patience = 3 * time.Minute

// newHarness prepares an ingress whose stack "ingress" is trusted; its own
// service sets the HTTP port.
func newHarness(t testing.TB) *harness {
	t.Helper()
	h := &harness{t: t, engine: dockertest.New(t), http: porttest.Address(t), status: porttest.Address(t)}
	h.backend = h.startBackend()
	h.settings = Settings{
		DockerHost: h.engine.Host(), Networks: []string{dockertest.Network}, StatePath: filepath.Join(t.TempDir(), "state.json"),
		Status: h.status, TaskPoll: caddy.Duration(300 * time.Millisecond), Resync: caddy.Duration(time.Hour), NoAccessLog: true,
		Handover: caddy.Duration(100 * time.Millisecond),
		Policy:   "trust:ingress",
	}
	for i := 1; i < 10; i++ {
		h.settings.Policy += fmt.Sprintf(" upstream:127.0.0.%d:%s", i, h.backend)
	}
	_, port, _ := net.SplitHostPort(h.http)
	h.put("ingress_caddy", "ingress", map[string]string{"skep.ingress.trusted": "true"}, "caddy_0.http_port: "+port+"\ncaddy_0.auto_https: off\ncaddy_0.log.level: ERROR\ncaddy_0.log.output: discard")
	h.client = &http.Client{
		Timeout:       time.Minute,
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return h
}

// startBackend answers with the address that it was asked at, on every address
// of loopback.
func (h *harness) startBackend() string {
	listener, err := net.Listen("tcp", "0.0.0.0:0") // 127.0.0.0/8, nobody outside is told
	if err != nil {
		h.t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			echo(w)
			return
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %q", r.Context().Value(http.LocalAddrContextKey), r.Method, r.URL, body)
	})}}
	server.Start()
	h.t.Cleanup(server.Close)
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

// echo speaks a protocol of its own after an upgrade.
func echo(w http.ResponseWriter) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	io.Copy(conn, rw)
}

// start runs Caddy until the test ends.
func (h *harness) start() {
	h.t.Helper()
	persist := false
	err := caddy.Run(&caddy.Config{
		Admin:   &caddy.AdminConfig{Disabled: true, Config: &caddy.ConfigSettings{Persist: &persist}},
		Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output": "discard"}`)}}}},
		AppsRaw: caddy.ModuleMap{"skep": h.settings.json()},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(h.stop)
}

func (h *harness) stop() {
	if err := caddy.Stop(); err != nil {
		h.t.Error(err)
	}
}

// put creates or changes a service with one task on 127.0.0.1; labels are
// lines "key: value".
func (h *harness) put(name, stack string, more map[string]string, lines string) {
	h.engine.Put(h.service(name, stack, more, lines))
}

func (h *harness) service(name, stack string, more map[string]string, lines string) dockertest.Service {
	labels := map[string]string{}
	for k, v := range more {
		labels[k] = v
	}
	lines = strings.ReplaceAll(lines, "PORT", h.backend)
	for line := range strings.Lines(lines) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			labels[key] = strings.TrimSpace(value)
		}
	}
	return dockertest.Service{Name: name, Stack: stack, Labels: labels, Tasks: []string{"127.0.0.1"}}
}

// site is labels of a site that answers a text.
func site(host, text string) string {
	return "caddy: http://" + host + "\ncaddy.respond: \"" + text + "\""
}

// get asks the ingress once.
func (h *harness) get(host, path string) (status int, body string, header http.Header, err error) {
	request, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, "http://"+h.http+path, nil)
	if err != nil {
		return 0, "", nil, err
	}
	request.Host = host
	response, err := h.client.Do(request)
	if err != nil {
		return 0, "", nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), response.Header, err
}

// eventually repeats until there is no error.
func (h *harness) eventually(try func() error) {
	h.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			h.t.Fatalf("after %v: %v\n%s", patience, err, h.statusText())
		}
	}
}

// want waits until a host answers so.
func (h *harness) want(host, path string, status int, text string) {
	h.t.Helper()
	h.eventually(func() error { return h.is(host, path, status, text) })
}

func (h *harness) is(host, path string, status int, text string) error {
	got, body, _, err := h.get(host, path)
	if err != nil {
		return err
	}
	if got != status || !strings.Contains(body, text) {
		return fmt.Errorf("%s%s: got %d %q, want %d %q", host, path, got, body, status, text)
	}
	return nil
}

// now fails unless a host answers so at once.
func (h *harness) now(host, path string, status int, text string) {
	h.t.Helper()
	if err := h.is(host, path, status, text); err != nil {
		h.t.Errorf("%v\n%s", err, h.statusText())
	}
}

func (h *harness) fetch(path string) string {
	response, err := h.client.Get("http://" + h.status + path)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	return string(text)
}

func (h *harness) statusText() string { return h.fetch("/status") }

// statusOf is empty while there is no answer.
func (h *harness) statusOf() (s Status) {
	_ = json.Unmarshal([]byte(h.statusText()), &s)
	return s
}

// updated waits until the first turn is over: sites are served while Caddy still
// loads.
func (h *harness) updated() {
	h.t.Helper()
	h.eventually(func() error {
		if h.statusOf().Updated.IsZero() {
			return errors.New("Caddy still loads")
		}
		return nil
	})
}

// loaded waits until Caddy runs another configuration than before.
func (h *harness) loaded(before context.Context) {
	h.t.Helper()
	h.eventually(func() error {
		if caddy.ActiveContext().Context == before {
			return errors.New("Caddy loaded nothing, this proves nothing")
		}
		return nil
	})
}

// refused waits until a service's labels are refused by a rule.
func (h *harness) refused(service, rule, label string) {
	h.t.Helper()
	h.eventually(func() error {
		for _, r := range h.statusOf().Refused {
			if r.Source == service && string(r.Rule) == rule && r.Label == label {
				return nil
			}
		}
		return fmt.Errorf("%s is not refused by %s at %q", service, rule, label)
	})
}

func noTasks(s dockertest.Service) dockertest.Service {
	s.Tasks = nil
	return s
}
