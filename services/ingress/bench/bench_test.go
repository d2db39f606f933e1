// Package bench measures the ingress beside caddy-docker-proxy, both as
// processes of their own over the same fake Docker API:
//
//	go test -run NONE -bench . -benchtime 5x -timeout 60m ./services/ingress/bench
//
// SKEP_BENCH_THEIRS_MAX bounds how many services theirs is measured with: at
// 1,000 it needs half a minute for each change.
package bench

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"skep/internal/processtest"
	"skep/services/ingress/dockertest"
)

// subject is a binary to measure.
type subject struct {
	name, command string
}

var subjects = []subject{{"skep", "skep/cmd/skep-ingress"}, {"caddy-docker-proxy", "skep/services/ingress/bench/theirs"}}

var sizes = []int{0, 200, 1000}

func theirsMax() int {
	if n, err := strconv.Atoi(os.Getenv("SKEP_BENCH_THEIRS_MAX")); err == nil {
		return n
	}
	return 200
}

// build compiles a subject once.
var build = func() func(testing.TB, subject) string {
	var mu sync.Mutex
	built := map[string]string{}
	return func(t testing.TB, s subject) string {
		mu.Lock()
		defer mu.Unlock()
		if built[s.name] == "" {
			dir, err := os.MkdirTemp("", "skep-bench-")
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, s.name)
			if out, err := exec.CommandContext(t.Context(), "go", "build", "-tags", "cdp", "-o", file, s.command).CombinedOutput(); err != nil {
				t.Fatalf("build %s: %v\n%s", s.command, err, out)
			}
			built[s.name] = file
		}
		return built[s.name]
	}
}()

// stage is a Docker with services and a backend behind all of them.
type stage struct {
	b       testing.TB
	engine  *dockertest.Engine
	backend string // port
	address string // of the ingress
}

func newStage(b testing.TB, services int) *stage {
	engine := dockertest.New(b)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "backend") }))
	b.Cleanup(backend.Close)
	_, port, _ := net.SplitHostPort(backend.Listener.Addr().String())
	s := &stage{b: b, engine: engine, backend: port, address: free(b)}
	_, http, _ := net.SplitHostPort(s.address)
	s.put("ingress_caddy", map[string]string{
		"skep.ingress.trusted": "true", "caddy_0.http_port": http, "caddy_0.auto_https": "off",
		"caddy_1": "(security)", "caddy_1.header.?X-Frame-Options": "SAMEORIGIN", "caddy_1.header.-Server": "",
	})
	var all []dockertest.Service
	for i := range services {
		all = append(all, dockertest.Service{
			Name: fmt.Sprintf("s%04d_web", i), Stack: fmt.Sprintf("s%04d", i), Tasks: []string{"127.0.0.1"},
			Labels: map[string]string{
				"caddy": fmt.Sprintf("http://s%04d.example.com", i), "caddy.import": "security",
				"caddy.@denied.not": "client_ip 127.0.0.0/8", "caddy.error": "@denied 403",
				"caddy.reverse_proxy": "{{upstreams " + port + "}}",
			},
		})
	}
	engine.Put(all...)
	return s
}

func (s *stage) put(name string, labels map[string]string) {
	stack, _, _ := strings.Cut(name, "_")
	s.engine.Put(dockertest.Service{Name: name, Stack: stack, Labels: labels, Tasks: []string{"127.0.0.1"}})
}

// last is the site whose change is measured.
func (s *stage) last(text string) {
	s.put("last_web", map[string]string{"caddy": "http://last.example.com", "caddy.import": "security", "caddy.respond": text})
}

func free(b testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// run starts a subject on the stage; stop ends it.
func (s *stage) run(of subject) (process *processtest.Process, stop func()) {
	dir := s.b.TempDir()
	cmd := exec.Command(build(s.b, of), "docker-proxy")
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+s.engine.Host(), "CADDY_INGRESS_NETWORKS="+dockertest.Network,
		"XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir, "SKEP_INGRESS_POLICY=trust:ingress upstream:127.0.0.1:"+s.backend,
		"SKEP_INGRESS_STATUS=off", "CADDY_ADMIN=off", "SKEP_INGRESS_ACCESS_LOG=false")
	process, err := processtest.Start(cmd, syscall.SIGKILL)
	if err != nil {
		s.b.Fatal(err)
	}
	return process, func() {
		if err := process.End(syscall.SIGKILL); err != nil {
			s.b.Error(err)
		}
	}
}

// until waits until the last site answers a text.
func (s *stage) until(text string) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	deadline := time.Now().Add(5 * time.Minute)
	tick := time.NewTicker(10 * time.Millisecond) // more often, the questions would be a part of what is measured
	defer tick.Stop()
	for range tick.C {
		request, err := http.NewRequest(http.MethodGet, "http://"+s.address, nil)
		if err != nil {
			s.b.Fatal(err)
		}
		request.Host = "last.example.com"
		if response, err := client.Do(request); err == nil {
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			if string(body) == text {
				return
			}
		}
		if time.Now().After(deadline) {
			s.b.Fatalf("the site does not answer %q", text)
		}
	}
}

// cpu is the time that a process has used.
func cpu(b testing.TB, process *processtest.Process) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // clock ticks of Linux
}

// memory is what a process has in memory, in MiB.
func memory(b testing.TB, process *processtest.Process) float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	return kib / 1024
}

func each(b *testing.B, run func(b *testing.B, of subject, services int)) {
	for _, of := range subjects {
		for _, n := range sizes {
			if of.name != "skep" && n > theirsMax() {
				continue
			}
			b.Run(fmt.Sprintf("%s/services=%d", of.name, n), func(b *testing.B) { run(b, of, n) })
		}
	}
}

// BenchmarkFirst is the time from the start of the process to the last site.
func BenchmarkFirst(b *testing.B) {
	each(b, func(b *testing.B, of subject, services int) {
		build(b, of)
		var used time.Duration
		var resident float64
		for b.Loop() {
			b.StopTimer()
			s := newStage(b, services)
			s.last("first")
			b.StartTimer()
			process, stop := s.run(of)
			s.until("first")
			b.StopTimer()
			used += cpu(b, process)
			resident = memory(b, process)
			stop()
			b.StartTimer()
		}
		b.ReportMetric(float64(used.Milliseconds())/float64(b.N), "cpu-ms/op")
		b.ReportMetric(resident, "MiB")
	})
}

// BenchmarkChange is the time from a change of one label to its answer.
func BenchmarkChange(b *testing.B) {
	each(b, func(b *testing.B, of subject, services int) {
		s := newStage(b, services)
		s.last("0")
		process, stop := s.run(of)
		defer stop()
		s.until("0")
		before, i := cpu(b, process), 0
		for b.Loop() {
			i++
			text := fmt.Sprintf("change-%d", i) // a number alone would be a status
			s.last(text)
			s.until(text)
		}
		b.ReportMetric(float64((cpu(b, process)-before).Milliseconds())/float64(b.N), "cpu-ms/op")
		b.ReportMetric(memory(b, process), "MiB")
	})
}

// BenchmarkSteady is what is used while nothing changes: the listings that look
// for what no event told, and the scrape of the metrics.
func BenchmarkSteady(b *testing.B) {
	each(b, func(b *testing.B, of subject, services int) {
		s := newStage(b, services)
		s.last("steady")
		process, stop := s.run(of)
		defer stop()
		s.until("steady")
		<-time.After(15 * time.Second) // what the start has set off comes to rest
		before, began := cpu(b, process), time.Now()
		for b.Loop() {
			<-time.After(20 * time.Second)
		}
		b.ReportMetric(float64((cpu(b, process)-before).Milliseconds())/time.Since(began).Seconds(), "cpu-ms/s")
		b.ReportMetric(memory(b, process), "MiB")
	})
}
