package dockerproxy

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestLearn holds that what a learning proxy names is enough for the traffic
// that it saw, and that no part of it is too much.
func TestLearn(t *testing.T) {
	traffic := []string{
		"HEAD /_ping", "GET /v1.41/containers/json?all=1", "GET /containers/web/json", "GET /containers/web/logs", "GET /images/org/app/json", "GET /info",
		"POST /services/web/update?version=1", "POST /services/api/update", "DELETE /volumes/data", "POST /containers/web/exec", "GET /tasks", "GET /containers/web/attach/ws",
	}
	for _, test := range []struct {
		name    string
		traffic []string
		want    []string
	}{
		{"nothing", nil, []string{"EVENTS=0", "PING=0", "VERSION=0"}},
		{"reads and writes", traffic, []string{
			"ATTACH=1", "CONTAINERS=1", "IMAGES=1", "INFO=1", "LOGS=1", "TASKS=1", "EVENTS=0", "VERSION=0",
			"ALLOW=DELETE /volumes/{id}, POST /containers/{id}/exec, POST /services/{id}/update",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := settings(t, "LEARN=1")
			s.Socket = startWitness(t).socket
			var log bytes.Buffer
			p := New(s, slog.New(slog.NewJSONHandler(&log, nil)))
			for _, request := range test.traffic {
				method, uri, _ := strings.Cut(request, " ")
				w := httptest.NewRecorder()
				p.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, uri, nil))
				if w.Code != http.StatusOK {
					t.Errorf("%s: got %d while learning", request, w.Code)
				}
			}
			got := p.Learned()
			if strings.Join(got, "|") != strings.Join(test.want, "|") {
				t.Fatalf("learned %q, want %q", got, test.want)
			}
			if len(test.traffic) > 0 && !strings.Contains(log.String(), test.want[0]) {
				t.Errorf("the log does not say %s: %s", test.want[0], log.String())
			}
			missing := func(lines []string) (out []string) {
				p := policy(t, lines...)
				for _, request := range test.traffic {
					method, uri, _ := strings.Cut(request, " ")
					if p.Allows(method, uri) != nil {
						out = append(out, request)
					}
				}
				return out
			}
			if out := missing(got); len(out) > 0 {
				t.Errorf("with %q these are refused: %q", got, out)
			}
			for i, line := range got {
				if rest := append(append([]string{}, got[:i]...), got[i+1:]...); strings.HasSuffix(line, "=1") && len(missing(rest)) == 0 {
					t.Errorf("%s is not needed", line)
				}
			}
		})
	}
}

// Learning opens the API, and no other way to the socket.
func TestLearnRefusesWhatIsNoRequest(t *testing.T) {
	s := settings(t, "LEARN=1")
	engine := startWitness(t)
	s.Socket = engine.socket
	p := New(s, slog.New(slog.DiscardHandler))
	for _, request := range []string{"GET /containers/../secrets", "GET /debug/pprof/heap", "PATCH /services/web", "GET /unheard-of", "OPTIONS /info"} {
		method, uri, _ := strings.Cut(request, " ")
		r := httptest.NewRequestWithContext(t.Context(), method, "/", nil)
		r.RequestURI = uri
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if w.Code != http.StatusForbidden {
			t.Errorf("%s: got %d, want 403", request, w.Code)
		}
	}
	if saw := engine.take(); len(saw) > 0 {
		t.Errorf("the engine saw %q", saw)
	}
	if got := New(settings(t), slog.New(slog.DiscardHandler)).Learned(); got != nil {
		t.Errorf("a proxy that does not learn has learned %q", got)
	}
}
