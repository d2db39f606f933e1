// Command report measures the docker proxy beside HAProxy, in one run, and
// prints the section of docs/performance.md about it.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"skep/internal/benchreport"
	"skep/services/dockerproxy/bench"
)

func main() {
	flags := flag.NewFlagSet("report", flag.ContinueOnError)
	rounds := benchreport.Count(flags, "rounds", 5, "measure each `N` times, in turn")
	length := flags.Duration("time", 3*time.Second, "length of one measurement")
	benchreport.Main(flags, func(ctx context.Context, progress io.Writer) ([]byte, error) {
		return measure(ctx, *rounds, *length, progress)
	})
}

const connections = 16

// subject is one way to the engine.
type subject struct {
	name    string
	load    bench.Load
	process *bench.Process // nil where there is none between

	steady, full []bench.Result
	cpu          []time.Duration // of a request at full speed
	now, most    int64
}

// path is what is asked for, and how often a second where latency and memory
// are measured.
type path struct {
	name, target string
	rate         int
}

var paths = []path{
	{"small answer", "/_ping", 1000},
	{"one service", "/services/web", 1000},
	{fmt.Sprintf("list of %d services", bench.Services), "/services", 20},
}

func measure(ctx context.Context, rounds int, length time.Duration, progress io.Writer) ([]byte, error) {
	dir, err := os.MkdirTemp("", "skep-report-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "skep-dockerproxy")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, "skep/cmd/skep-dockerproxy")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = progress
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("build skep-dockerproxy: %w", err)
	}
	info, err := os.Stat(binary)
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "docker.sock")
	engine, err := bench.StartEngine(socket)
	if err != nil {
		return nil, err
	}
	defer engine.Stop()

	var out bytes.Buffer
	begin(&out, info.Size(), rounds, length)
	for _, p := range paths {
		fmt.Fprintln(progress, p.name)
		if err := measurePath(ctx, &out, p, dir, socket, binary, rounds, length); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	end(&out)
	return out.Bytes(), nil
}

func measurePath(ctx context.Context, out io.Writer, p path, dir, socket, binary string, rounds int, length time.Duration) error {
	haproxy, err := bench.HAProxy(ctx, dir, socket, "SERVICES=1")
	if err != nil {
		return err
	}
	defer haproxy.Stop()
	shown, err := bench.Skep(ctx, binary, socket, "SERVICES=1", "ENV_VALUES=1", "LABEL_VALUES=1", "CONFIG_DATA=1", "JOIN_TOKENS=1")
	if err != nil {
		return err
	}
	defer shown.Stop()
	redacting, err := bench.Skep(ctx, binary, socket, "SERVICES=1")
	if err != nil {
		return err
	}
	defer redacting.Stop()

	subjects := []*subject{
		{name: "no proxy", load: bench.Load{Network: "unix", Address: socket}},
		{name: "HAProxy", process: haproxy},
		{name: "skep-dockerproxy, values shown", process: shown},
		{name: "skep-dockerproxy", process: redacting},
	}
	for _, s := range subjects {
		if s.process != nil {
			s.load = bench.Load{Network: "tcp", Address: s.process.Address}
		}
		s.load.Path, s.load.Connections = p.target, connections
		if _, err := s.load.Run(ctx, 0, 200*time.Millisecond); err != nil { // warm-up
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	// In turn, so that all see the same machine. At full speed after the rest:
	// what it makes a process hold is not of the steady rate.
	for range rounds {
		for _, s := range subjects {
			r, err := s.run(ctx, p.rate, length)
			if err != nil {
				return err
			}
			s.steady = append(s.steady, r)
		}
	}
	for _, s := range subjects {
		if s.process != nil {
			if s.now, s.most, err = bench.Memory(s.process.Pid); err != nil {
				return err
			}
		}
	}
	for range rounds {
		for _, s := range subjects {
			if err := s.fullSpeed(ctx, length); err != nil {
				return err
			}
		}
	}
	render(out, p, subjects)
	return nil
}

func (s *subject) run(ctx context.Context, rate int, length time.Duration) (bench.Result, error) {
	r, err := s.load.Run(ctx, rate, length)
	if err != nil {
		err = fmt.Errorf("%s: %w", s.name, err)
	}
	return r, err
}

func (s *subject) fullSpeed(ctx context.Context, length time.Duration) error {
	var before, after time.Duration
	var err error
	if s.process != nil {
		if before, err = bench.CPU(s.process.Pid); err != nil {
			return err
		}
	}
	r, err := s.run(ctx, 0, length)
	if err != nil {
		return err
	}
	s.full = append(s.full, r)
	if s.process != nil {
		if after, err = bench.CPU(s.process.Pid); err != nil {
			return err
		}
		s.cpu = append(s.cpu, (after-before)/time.Duration(r.Requests))
	}
	return nil
}

// median of one value of the measurements.
func median[M any, V int64 | float64 | time.Duration](measured []M, of func(M) V) V {
	var values []V
	for _, m := range measured {
		values = append(values, of(m))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func begin(out io.Writer, size int64, rounds int, length time.Duration) {
	version := "HAProxy"
	if said, err := exec.Command("haproxy", "-v").Output(); err == nil {
		version = strings.Join(strings.Fields(string(said))[:3], " ")
	}
	fmt.Fprintf(out, `## Docker proxy

skep-dockerproxy (%.1f MB, static) beside %s with the rules of tecnativa/docker-socket-proxy, both in front of the
same engine, which answers from memory on a socket. %d connections; medians of %d rounds of %s, in turn, on %d
processors that the load, the engine and the proxies share. Latency and memory at the rate named; added latency is
that of a request through the proxy less that of one without. Machines differ and are noisy: read the ratios.

| | | added p50 | added p99 | requests/s | CPU of a request | memory | at most |
|---|---|--:|--:|--:|--:|--:|--:|
`, float64(size)/1e6, version, connections, rounds, length, runtime.GOMAXPROCS(0))
}

func render(out io.Writer, p path, subjects []*subject) {
	p50 := func(r bench.Result) time.Duration { return r.P50 }
	p99 := func(r bench.Result) time.Duration { return r.P99 }
	full := func(r bench.Result) float64 { return r.PerSecond }
	direct := subjects[0]
	fmt.Fprintf(out, "| %s, %d/s | %s | (%s) | (%s) | %.0f | | | |\n", p.name, p.rate, direct.name, us(median(direct.steady, p50)), us(median(direct.steady, p99)), median(direct.full, full))
	for _, s := range subjects[1:] {
		cpu := median(s.cpu, func(d time.Duration) time.Duration { return d })
		fmt.Fprintf(out, "| | %s | %s | %s | %.0f | %s | %.1f MB | %.1f MB |\n", s.name,
			us(median(s.steady, p50)-median(direct.steady, p50)), us(median(s.steady, p99)-median(direct.steady, p99)),
			median(s.full, full), us(cpu), float64(s.now)/1e6, float64(s.most)/1e6)
	}
}

func us(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }

func end(out io.Writer) {
	fmt.Fprint(out, `
- *values shown* passes answers on as they are, as HAProxy does; skep-dockerproxy by default looks into answers that
  describe something and hides values of variables and labels.
- HAProxy opens a connection to the engine for every request, as docker-socket-proxy tells it to; skep-dockerproxy
  keeps them.
`)
}
