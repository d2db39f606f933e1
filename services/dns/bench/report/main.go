// Command report measures skep-dns beside Knot in one run and prints a section
// of docs/performance.md.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"skep/internal/benchreport"
	"skep/networks"
	"skep/services/dns/bench"
)

func main() {
	flags := flag.NewFlagSet("report", flag.ContinueOnError)
	rounds := benchreport.Count(flags, "rounds", 5, "`number` of rounds, of which the median counts")
	duration := flags.Duration("duration", 3*time.Second, "length of one measurement")
	benchreport.Main(flags, func(ctx context.Context, progress io.Writer) ([]byte, error) {
		return measure(ctx, *rounds, *duration, progress)
	})
}

const (
	domain = "in.example.com"
	hosts  = 1000
)

// clientCounts are how many ask at once.
var clientCounts = []int{1, 64}

// zone has a node and aliases of it, as the routes of a cluster.
func zone() networks.Zone {
	z := networks.Zone{Name: "internal", Domain: domain, Provider: "skep", Private: true, Records: []networks.Record{
		{Name: "node1." + domain, Type: networks.A, Content: "10.0.0.11"},
	}}
	for i := range hosts {
		z.Records = append(z.Records, networks.Record{Name: fmt.Sprintf("app%04d.%s", i, domain), Type: networks.CNAME, Content: "node1." + domain})
	}
	return z
}

// server is a process under load.
type server struct {
	name string
	addr string
	cmd  *exec.Cmd
	rows map[int][]row // by clients
}

type row struct {
	bench.Load
	cpu time.Duration // of the server, per query
	rss int64         // bytes
}

func measure(ctx context.Context, rounds int, duration time.Duration, progress io.Writer) ([]byte, error) {
	dir, err := os.MkdirTemp("", "skep-dns-report-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(ctx)
	var servers []*server
	defer func() {
		cancel()
		for _, s := range servers {
			s.cmd.Wait()
		}
	}()
	for _, start := range []func(context.Context, string) (*server, error){startSkep, startKnot} {
		s, err := start(ctx, dir)
		if err != nil {
			return nil, err
		}
		servers = append(servers, s)
	}
	var names []string
	for i := range hosts {
		names = append(names, fmt.Sprintf("app%04d.%s.", i, domain))
	}
	for round := range rounds + 1 { // the first warms up
		for _, clients := range clientCounts {
			for _, s := range servers { // in turn, so that both see the same machine
				fmt.Fprintf(progress, "round %d of %d, %d clients, %s\n", round, rounds, clients, s.name)
				before, _, err := usage(s.cmd.Process.Pid)
				if err != nil {
					return nil, err
				}
				load, err := bench.Run(ctx, s.addr, names, clients, duration)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", s.name, err)
				}
				after, rss, err := usage(s.cmd.Process.Pid)
				if err != nil {
					return nil, err
				}
				if round > 0 {
					s.rows[clients] = append(s.rows[clients], row{load, (after - before) / time.Duration(load.Queries), rss})
				}
			}
		}
	}
	return render(servers, rounds, duration), nil
}

func startSkep(ctx context.Context, dir string) (*server, error) {
	binary := filepath.Join(dir, "skep-dns")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, "./cmd/skep-dns")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build skep-dns: %w\n%s", err, out)
	}
	zones, err := networks.DNS{Cluster: "bench", Zones: []networks.Zone{zone()}}.Marshal()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "dns.yaml")
	if err := os.WriteFile(file, zones, 0o600); err != nil {
		return nil, err
	}
	addr, err := free()
	if err != nil {
		return nil, err
	}
	return launch(ctx, "skep-dns serve", addr, exec.CommandContext(ctx, binary, "serve", "-zones", file, "-listen", addr, "-http", "127.0.0.1:0"))
}

func startKnot(ctx context.Context, dir string) (*server, error) {
	binary, err := exec.LookPath("knotd")
	if err != nil {
		binary = "/usr/sbin/knotd"
	}
	text, err := zone().File()
	if err != nil {
		return nil, err
	}
	addr, err := free()
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf("server:\n    rundir: %[1]s\n    listen: %[2]s\ndatabase:\n    storage: %[1]s\nzone:\n  - domain: %[3]s\n    storage: %[1]s\n    file: zone\n    semantic-checks: off\n",
		dir, strings.Replace(addr, ":", "@", 1), domain)
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "zone"), []byte(text), 0o600), os.WriteFile(filepath.Join(dir, "knot.conf"), []byte(config), 0o600)); err != nil {
		return nil, err
	}
	name := "Knot"
	if out, err := exec.CommandContext(ctx, binary, "--version").Output(); err == nil {
		name = strings.TrimSpace(string(out))
	}
	return launch(ctx, name, addr, exec.CommandContext(ctx, binary, "-c", filepath.Join(dir, "knot.conf")))
}

func free() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// launch starts a server and waits until it answers.
func launch(ctx context.Context, name, addr string, cmd *exec.Cmd) (*server, error) {
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	s := &server{name: name, addr: addr, cmd: cmd, rows: map[int][]row{}}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	for {
		_, err := bench.Run(ctx, addr, []string{"app0000." + domain + "."}, 1, 10*time.Millisecond)
		if err == nil {
			return s, nil
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return nil, fmt.Errorf("%s does not answer: %w", name, err)
		}
	}
}

// usage is the CPU time and the memory of a process (proc(5)).
func usage(pid int) (cpu time.Duration, rss int64, err error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	_, rest, ok := bytes.Cut(content, []byte(") "))
	fields := strings.Fields(string(rest))
	if !ok || len(fields) < 22 {
		return 0, 0, errors.New("/proc/PID/stat is not as expected")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	pages, err3 := strconv.ParseInt(fields[21], 10, 64)
	const ticks = 100 // a second, on Linux
	return time.Duration(user+system) * time.Second / ticks, pages * int64(os.Getpagesize()), errors.Join(err1, err2, err3)
}

// median of rows by rate.
func median(rows []row) row {
	rows = slices.SortedFunc(slices.Values(rows), func(a, b row) int { return int(a.Rate() - b.Rate()) })
	return rows[len(rows)/2]
}

func render(servers []*server, rounds int, duration time.Duration) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, `## DNS

`+"`go run ./services/dns/bench/report`"+`: a zone of %d aliases of one address, asked over UDP from this machine on %d
processors (%s/%s, %s); medians of %d rounds of %s, the servers in turn. Load and server share the processors: read the
ratios, and the processor time of the server for one answer.

| clients | server | queries/s | p50 | p99 | CPU per answer | memory |
|--:|---|--:|--:|--:|--:|--:|
`, hosts, runtime.GOMAXPROCS(0), runtime.GOOS, runtime.GOARCH, runtime.Version(), rounds, duration)
	for _, clients := range clientCounts {
		for _, s := range servers {
			m := median(s.rows[clients])
			fmt.Fprintf(&out, "| %d | %s | %.0f | %d µs | %d µs | %.1f µs | %d MB |\n",
				clients, s.name, m.Rate(), m.P50.Microseconds(), m.P99.Microseconds(), float64(m.cpu.Nanoseconds())/1000, m.rss>>20)
		}
	}
	return out.Bytes()
}
