package dockerproxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"skep/services/dockerproxy/bench"
)

// witness is an engine that answers everything, and keeps what reached it.
type witness struct {
	socket string
	mu     sync.Mutex
	saw    []string
}

func startWitness(t testing.TB) *witness {
	t.Helper()
	w := &witness{}
	w.socket = startHandler(t, w)
	return w
}

func (w *witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	w.mu.Lock()
	w.saw = append(w.saw, r.Method+" "+r.URL.Path)
	w.mu.Unlock()
	rw.Header().Set("Content-Type", "application/json")
	io.WriteString(rw, "[]")
}

func (w *witness) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	saw := w.saw
	w.saw = nil
	return saw
}

// subjects are the proxies that take the same variables.
var subjects = []struct {
	name  string
	start func(t *testing.T, socket string, env []string) (address string)
}{
	{"skep", func(t *testing.T, socket string, env []string) string { return serve(t, socket, t.Output(), env...) }},
	{"haproxy", func(t *testing.T, socket string, env []string) string {
		p, err := bench.HAProxy(t.Context(), t.TempDir(), socket, env...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Stop)
		return p.Address
	}},
}

// needHAProxy ends a test that cannot run here.
func needHAProxy(t *testing.T) {
	t.Helper()
	_, err := exec.LookPath("haproxy")
	switch {
	case err == nil:
	case os.Getenv("SKEP_NO_SKIP") == "1":
		t.Fatal("the comparison needs haproxy")
	default:
		t.Skip("the comparison needs haproxy")
	}
}

// representatives are one read and one write of each section.
var representatives = map[string][2]string{
	"AUTH": {"", "POST /auth"}, "BUILD": {"", "POST /build"}, "COMMIT": {"", "POST /commit"},
	"CONFIGS": {"GET /configs", "POST /configs/create"}, "CONTAINERS": {"GET /containers/json", "POST /containers/web/start"},
	"DISTRIBUTION": {"GET /distribution/ghcr.io/org/app/json", ""}, "EVENTS": {"GET /events", ""}, "EXEC": {"GET /exec/1/json", "POST /exec/1/start"},
	"GRPC": {"", "POST /grpc"}, "IMAGES": {"GET /images/json", "DELETE /images/org/app"}, "INFO": {"GET /info", ""}, "NETWORKS": {"GET /networks", "POST /networks/create"},
	"NODES": {"GET /nodes", "DELETE /nodes/1"}, "PING": {"GET /_ping", ""}, "PLUGINS": {"GET /plugins", "POST /plugins/org/app/enable"}, "SECRETS": {"GET /secrets", "POST /secrets/create"},
	"SERVICES": {"GET /services", "DELETE /services/web"}, "SESSION": {"", "POST /session"}, "SWARM": {"GET /swarm", "POST /swarm/leave"}, "SYSTEM": {"GET /system/df", ""},
	"TASKS": {"GET /tasks", ""}, "VERSION": {"GET /version", ""}, "VOLUMES": {"GET /volumes", "PUT /volumes/data"},
}

// TestConformance sends the same requests to docker-socket-proxy's rules and
// to ours. Each switch opens its own section, for reading, and nothing else;
// with POST it opens it for writing.
func TestConformance(t *testing.T) {
	needHAProxy(t)
	engine := startWitness(t)
	sections := 0
	for _, v := range Variables {
		if v.Group != Sections {
			continue
		}
		sections++
		if _, ok := representatives[v.Name]; !ok {
			t.Errorf("no request is about %s", v.Name)
		}
	}
	if sections != len(representatives) {
		t.Errorf("%d sections, and requests for %d", sections, len(representatives))
	}
	// All sections in one go, off and on and with POST: 3 starts of each proxy.
	for _, env := range [][]string{nil, all("1"), append(all("1"), "POST=1"), append(all("0"), "POST=1"), {"EVENTS=0", "PING=0", "VERSION=0"}} {
		compare(t, engine, env, func(yield func(name, request string, stricter bool)) {
			for section, requests := range representatives {
				for _, request := range requests {
					if request != "" {
						yield(section, request, false)
						method, path, _ := strings.Cut(request, " ")
						yield(section, method+" /v1.41"+path+"?a=b", false)
					}
				}
			}
		})
	}
	for section := range representatives {
		compare(t, engine, []string{section + "=1", "EVENTS=0", "PING=0", "VERSION=0", section + "=1"}, func(yield func(string, string, bool)) {
			for other, requests := range representatives {
				if requests[0] != "" {
					yield(other, requests[0], false)
				}
			}
		})
	}
}

func all(value string) []string {
	var out []string
	for section := range representatives {
		out = append(out, section+"="+value)
	}
	return out
}

// TestStricter are the requests that docker-socket-proxy lets through and the
// proxy refuses.
func TestStricter(t *testing.T) {
	needHAProxy(t)
	engine := startWitness(t)
	tests := []struct {
		env      []string
		same     []string // both answer alike
		stricter []string // ours refuses
	}{
		{
			env:  []string{"CONTAINERS=1"},
			same: []string{"GET /containers/json", "HEAD /containers/json", "GET /containers/web/json", "POST /containers/create", "GET /secrets", "GET /v1.41/secrets", "PATCH /containers/web"},
			stricter: []string{"GET /containers/web/archive?path=/", "GET /containers/web/export", "GET /containers/web/logs", "GET /containers/web/attach/ws", "GET /containersandmore",
				"GET /Containers/json", "GET /%63ontainers%2fjson", "GET /containers/../secrets", "GET /containers//json", "GET /v1.1.1/containers/json", "GET /containers/web/unheard-of"},
		},
		{
			env:      []string{"CONTAINERS=1", "POST=1"},
			same:     []string{"POST /containers/create", "DELETE /containers/web", "POST /networks/create"},
			stricter: []string{"POST /containers/web/exec", "POST /containers/web/attach", "PUT /containers/web/archive", "OPTIONS /containers/json", "PATCH /containers/web"},
		},
		{
			env:  []string{"CONTAINERS=1", "EXEC=1", "POST=1"},
			same: []string{"POST /containers/web/exec", "POST /exec/1/start"},
		},
		{
			env:      []string{"SERVICES=1", "TASKS=1", "IMAGES=1"},
			same:     []string{"GET /services", "GET /tasks/1", "GET /images/org/app/json", "POST /services/web/update"},
			stricter: []string{"GET /services/web/logs", "GET /tasks/1/logs", "GET /images/org/app/get", "GET /images/get"},
		},
		{
			env:  []string{"POST=1", "ALLOW_START=1", "ALLOW_STOP=1"},
			same: []string{"POST /containers/web/start", "POST /containers/web/stop", "POST /containers/web/kill", "POST /containers/web/restart", "GET /containers/json", "DELETE /containers/web"},
			// theirs are beginnings
			stricter: []string{"POST /containers/web/startle", "POST /containers/web/stop/x"},
		},
		{
			env:  []string{"POST=1", "ALLOW_RESTARTS=1"},
			same: []string{"POST /containers/web/start", "POST /containers/web/stop", "POST /containers/web/kill", "POST /v1.41/containers/web/restart?t=5", "POST /containers/create"},
		},
		{
			env:  []string{"ALLOW_RESTARTS=1", "ALLOW_START=1", "ALLOW_STOP=1"},
			same: []string{"POST /containers/web/start", "POST /containers/web/stop", "POST /containers/web/kill"},
		},
	}
	for _, test := range tests {
		compare(t, engine, test.env, func(yield func(string, string, bool)) {
			for _, request := range test.same {
				yield("same", request, false)
			}
			for _, request := range test.stricter {
				yield("stricter", request, true)
			}
		})
	}
}

// compare holds that both subjects decide alike, or ours alone refuses, and
// that a refusal is a 403 that the engine never hears of.
func compare(t *testing.T, engine *witness, env []string, requests func(yield func(name, request string, stricter bool))) {
	t.Helper()
	t.Run(strings.Join(env, ","), func(t *testing.T) {
		var addresses []string
		for _, s := range subjects {
			addresses = append(addresses, s.start(t, engine.socket, env))
		}
		engine.take()
		requests(func(name, request string, stricter bool) {
			var passes []bool
			for i, s := range subjects {
				status := ask(t, addresses[i], request)
				passes = append(passes, status == http.StatusOK)
				if status != http.StatusOK && status != http.StatusForbidden {
					t.Errorf("%s %s: %s: got %d, want 200 or 403", name, request, s.name, status)
				}
				saw := engine.take()
				if !strings.Contains(request, "/_ping") { // one that asked whether a subject is ready may come late
					saw = slices.DeleteFunc(saw, func(s string) bool { return s == "GET /_ping" })
				}
				if (len(saw) > 0) != (status == http.StatusOK) {
					t.Errorf("%s %s: %s: got %d, and the engine saw %q", name, request, s.name, status, saw)
				}
			}
			switch skep, haproxy := passes[0], passes[1]; {
			case stricter && (skep || !haproxy):
				t.Errorf("%s %s: passes %v here and %v there; want it refused here alone", name, request, skep, haproxy)
			case !stricter && skep != haproxy:
				t.Errorf("%s %s: passes %v here and %v there", name, request, skep, haproxy)
			}
		})
	})
}

func ask(t *testing.T, address, request string) int {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	method, uri, _ := strings.Cut(request, " ")
	length := ""
	if method != "GET" && method != "HEAD" {
		length = "Content-Length: 0\r\n"
	}
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: docker\r\n%s\r\n", method, uri, length)
	return status(t, c, method)
}
