package dockerproxy

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestStatus(t *testing.T) {
	s := settings(t, "CONTAINERS=1", "PING=0")
	s.Socket = startHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"Config":{"Env":["A=1","B=2"]}}`)
	}))
	p := New(s, slog.New(slog.DiscardHandler))
	ask := func(h http.Handler, method, uri string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, uri, nil))
		return w.Code, w.Body.String()
	}
	for request, want := range map[string]int{
		"GET /containers/web/json": 200, "GET /containers/web/logs": 403, "GET /secrets": 403, "GET /unheard-of": 403, "GET /_ping": 403,
		"GET /healthz": 200, "POST /healthz": 405, "GET /healthz?x": 403, "GET /metrics": 403,
	} {
		method, uri, _ := strings.Cut(request, " ")
		if code, body := ask(p, method, uri); code != want {
			t.Errorf("%s: got %d %s, want %d", request, code, body, want)
		}
	}
	for uri, want := range map[string]int{"/healthz": 200, "/metrics": 200, "/containers/json": 404, "/": 404} {
		if code, body := ask(p.Status(), "GET", uri); code != want {
			t.Errorf("status %s: got %d %s, want %d", uri, code, body, want)
		}
	}
	_, metrics := ask(p.Status(), "GET", "/metrics")
	for _, line := range []string{
		`skep_dockerproxy_requests_total{section="containers",outcome="passed"} 1`,
		`skep_dockerproxy_requests_total{section="containers",outcome="refused"} 1`,
		`skep_dockerproxy_requests_total{section="secrets",outcome="refused"} 1`,
		`skep_dockerproxy_requests_total{section="other",outcome="refused"} 3`,
		`skep_dockerproxy_open_requests 0`,
		`skep_dockerproxy_redacted_values_total 2`,
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("no %s in\n%s", line, metrics)
		}
	}

	s.Socket = "/nowhere"
	down := New(s, slog.New(slog.DiscardHandler))
	if code, body := ask(down, "GET", "/healthz"); code != 503 {
		t.Errorf("without Docker: got %d %s, want 503", code, body)
	}
	ask(down, "GET", "/containers/json")
	if _, metrics := ask(down.Status(), "GET", "/metrics"); !strings.Contains(metrics, `section="containers",outcome="failed"} 1`) {
		t.Errorf("a failure is not counted:\n%s", metrics)
	}
}
