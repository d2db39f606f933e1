// Command report runs the deploy's benchmarks, beside docker's own deploy in
// the same run, and prints a Markdown section for docs/performance.md.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"time"

	"skep/internal/benchreport"
)

func main() {
	flags := flag.NewFlagSet("report", flag.ContinueOnError)
	runs := benchreport.Count(flags, "runs", 5, "`rounds`, in each of which every command runs once or three times")
	benchreport.Main(flags, func(ctx context.Context, progress io.Writer) ([]byte, error) {
		return measure(ctx, *runs, progress)
	})
}

func measure(ctx context.Context, runs int, stderr io.Writer) ([]byte, error) {
	deploys, err := benchmark(ctx, stderr, "./cmd/skep", "^BenchmarkDeploy$", fmt.Sprintf("%dx", runs))
	if err != nil {
		return nil, err
	}
	plans, err := benchmark(ctx, stderr, "./services/deploy", "^BenchmarkCompare$", "3x")
	if err != nil {
		return nil, err
	}
	return []byte(render(deploys, plans)), nil
}

// result matches a line of `go test -bench`, without the number of processors;
// metric is a time in it: of the whole, or one that the benchmark named.
var (
	result = regexp.MustCompile(`^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+(.*)`)
	metric = regexp.MustCompile(`([\d.]+) (?:ns/op|(\w+)-(\w+)-ns)\b`)
)

// benchmark runs a benchmark and returns the times by name.
func benchmark(ctx context.Context, stderr io.Writer, pkg, pattern, times string) (map[string]time.Duration, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", pattern, "-benchtime", times, "-timeout", "30m", pkg)
	cmd.Env = append(os.Environ(), "SKEP_NO_SKIP=1")
	cmd.Stderr = stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("measure %s: %w\n%s", pkg, err, out)
	}
	return parse(out)
}

func parse(out []byte) (map[string]time.Duration, error) {
	times := map[string]time.Duration{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		m := result.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		for _, t := range metric.FindAllStringSubmatch(m[2], -1) {
			ns, err := strconv.ParseFloat(t[1], 64)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", lines.Text(), err)
			}
			name := m[1]
			if t[2] != "" {
				name += "/" + t[2] + "/" + t[3]
			}
			times[name] = time.Duration(ns)
		}
	}
	if len(times) == 0 {
		return nil, fmt.Errorf("the benchmark printed no result:\n%s", out)
	}
	return times, lines.Err()
}

var (
	deployName  = regexp.MustCompile(`^Deploy/services=(\d+)/stacks=(\d+)/(\w+)/(\w+)$`)
	compareName = regexp.MustCompile(`^Compare/services=(\d+)$`)
)

func render(deploys, plans map[string]time.Duration) string {
	type row struct {
		what             string
		services, stacks int
	}
	rows := map[row]map[string]time.Duration{}
	for name, took := range deploys {
		if m := deployName.FindStringSubmatch(name); m != nil {
			services, _ := strconv.Atoi(m[1])
			stacks, _ := strconv.Atoi(m[2])
			r := row{m[3], services, stacks}
			if rows[r] == nil {
				rows[r] = map[string]time.Duration{}
			}
			rows[r][m[4]] = took
		}
	}
	var out bytes.Buffer
	fmt.Fprint(&out, "## Deploy\n\nWhole commands on one Swarm of one node, services without a replica, nothing waited for; medians of\nruns in turn. `skep deploy` compiles the "+
		"project as well, `skep deploy plan.json` does not; docker has a command for each stack.\n\n| deploy | services | stacks | `skep deploy` | `skep deploy plan.json` | `docker stack deploy` | ratio |\n|---|---:|---:|---:|---:|---:|---:|\n")
	for _, r := range slices.SortedFunc(maps.Keys(rows), func(a, b row) int {
		return cmp.Or(cmp.Compare(a.what, b.what), cmp.Compare(a.services, b.services), cmp.Compare(a.stacks, b.stacks))
	}) {
		skep, docker := rows[r]["skep"], rows[r]["docker"]
		saved := ""
		if took := rows[r]["saved"]; took > 0 {
			saved = took.Round(time.Millisecond).String()
		}
		fmt.Fprintf(&out, "| %s | %d | %d | %v | %s | %v | %.1f |\n", r.what, r.services, r.stacks, skep.Round(time.Millisecond), saved, docker.Round(time.Millisecond), float64(docker)/float64(max(skep, 1)))
	}
	fmt.Fprint(&out, "\nPlanning alone, stacks of ten services that are as they should be:\n\n| services | plan |\n|---:|---:|\n")
	bySize := map[int]time.Duration{}
	for name, took := range plans {
		if m := compareName.FindStringSubmatch(name); m != nil {
			n, _ := strconv.Atoi(m[1])
			bySize[n] = took
		}
	}
	for _, n := range slices.Sorted(maps.Keys(bySize)) {
		fmt.Fprintf(&out, "| %d | %v |\n", n, bySize[n].Round(time.Millisecond))
	}
	return out.String()
}
