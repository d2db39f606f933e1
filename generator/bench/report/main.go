// Command report measures the generator beside its yardsticks, in one run, and
// writes docs/performance.md.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/goccy/go-yaml"

	"skep/generator/bench"
	"skep/generator/expand"
	"skep/generator/spec"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("report", flag.ContinueOnError)
	flags.SetOutput(stderr)
	out := flags.String("o", "", "write the page to `FILE` instead of standard output")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	page, err := measure(ctx, stderr)
	if err == nil && *out != "" {
		err = os.WriteFile(*out, page, 0o644)
	} else if err == nil {
		_, err = stdout.Write(page)
	}
	if err != nil {
		fmt.Fprintln(stderr, "report:", err)
		return 1
	}
	return 0
}

// row is the medians of one project size.
type row struct {
	stacks                        int
	load, expand, validate, total time.Duration
	yardstick, docker             time.Duration // per stack
	peak                          int64         // bytes, of a whole `skep generate`
}

func measure(ctx context.Context, progress io.Writer) ([]byte, error) {
	tmp, err := os.MkdirTemp("", "skep-report-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	skep := filepath.Join(tmp, "skep")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", skep, "./cmd/skep")
	build.Stderr = progress
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("build skep: %w", err)
	}
	var rows []row
	for _, size := range []struct{ stacks, runs int }{{1, 21}, {20, 11}, {1000, 3}} {
		fmt.Fprintf(progress, "%d stacks, %d runs\n", size.stacks, size.runs)
		r, err := measureSize(ctx, filepath.Join(tmp, fmt.Sprint(size.stacks)), skep, size.stacks, size.runs)
		if err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return render(rows), nil
}

func measureSize(ctx context.Context, dir, skep string, stacks, runs int) (row, error) {
	files, err := bench.Write(dir, stacks)
	if err != nil {
		return row{}, err
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		return row{}, err
	}
	var load, expanding, validating, total, bare []time.Duration
	for range runs + 1 { // the first run warms up
		// One bare parse and marshal for each stack, in turn with the generator,
		// so that both see the same machine.
		start := time.Now()
		for range stacks {
			if err := parseAndMarshal(text); err != nil {
				return row{}, err
			}
		}
		bare = append(bare, time.Since(start)/time.Duration(stacks))

		start = time.Now()
		cluster, problems := spec.Load(ctx, dir, spec.Options{})
		if cluster == nil || problems.Failed() {
			return row{}, fmt.Errorf("load: %v", problems)
		}
		loaded := time.Now()
		b, err := expand.Expand(cluster)
		if err != nil {
			return row{}, err
		}
		expanded := time.Now()
		if refused := b.Validate(); len(refused) > 0 {
			return row{}, fmt.Errorf("validate: %v", refused)
		}
		end := time.Now()
		load, expanding = append(load, loaded.Sub(start)), append(expanding, expanded.Sub(loaded))
		validating, total = append(validating, end.Sub(expanded)), append(total, end.Sub(start))
	}
	r := row{stacks: stacks, load: median(load), expand: median(expanding), validate: median(validating),
		total: median(total), yardstick: median(bare)}

	out := filepath.Join(dir, "build")
	generate := exec.CommandContext(ctx, skep, "generate", "-C", dir, "-o", out)
	var said bytes.Buffer
	generate.Stdout, generate.Stderr = &said, &said
	if err := generate.Run(); err != nil {
		return row{}, fmt.Errorf("skep generate: %w\n%s", err, said.Bytes())
	}
	usage, ok := generate.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return row{}, errors.New("no resource usage on this system")
	}
	r.peak = usage.Maxrss << 10
	r.docker, err = dockerStackConfig(ctx, out, min(stacks, 21))
	return r, err
}

func parseAndMarshal(text []byte) error {
	var v yaml.MapSlice
	if err := yaml.Unmarshal(text, &v); err != nil {
		return err
	}
	_, err := yaml.Marshal(v)
	return err
}

// dockerStackConfig is the median of one `docker stack config` a file.
func dockerStackConfig(ctx context.Context, dir string, n int) (time.Duration, error) {
	var times []time.Duration
	for i := range max(n, 5) {
		start := time.Now()
		file := filepath.Join(dir, fmt.Sprintf("stack%d.yaml", i%n))
		if out, err := exec.CommandContext(ctx, "docker", "stack", "config", "-c", file).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("docker stack config: %w\n%s", err, out)
		}
		times = append(times, time.Since(start))
	}
	return median(times), nil
}

func median(d []time.Duration) time.Duration {
	if len(d) > 2 {
		d = d[1:] // warm-up
	}
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

func render(rows []row) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, `# Performance

Measured by %s: medians of runs on %d processors (%s/%s, %s), the generator and
its yardsticks in turn. A stack has %d services with a route, a secret, volumes, a health check and limits
(%d bytes). Machines differ and are noisy: read the ratios.

| | `+"`skep generate`"+` | | | | per stack | bare parse + marshal | ratio | `+"`docker stack config`"+` | ratio | peak memory |
|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
| stacks | load | expand | validate | total | | goccy/go-yaml, one stack | | one process, one stack | | whole process |
`, "`make performance`", runtime.GOMAXPROCS(0), runtime.GOOS, runtime.GOARCH, runtime.Version(), bench.Services, len(bench.Stack(1)))
	for _, r := range rows {
		per := r.total / time.Duration(r.stacks)
		fmt.Fprintf(&out, "| %d | %s | %s | %s | %s | %s | %s | **%.1fx** | %s | **1/%.0f** | %d MB |\n",
			r.stacks, ms(r.load), ms(r.expand), ms(r.validate), ms(r.total), ms(per),
			ms(r.yardstick), float64(per)/float64(r.yardstick), ms(r.docker), float64(r.docker)/float64(per), r.peak>>20)
	}
	out.WriteString(`
- *load* reads the files: YAML with positions, the Compose schema, compose-go, the x- keys.
- *expand* derives networks, labels, sidecars, secrets and policies and writes the YAML.
- *validate* runs Docker's own schema and loader over every file.
- The bare parse and marshal does the stack file's bytes alone, one after the other; the generator uses all processors,
  reads what Compose reads and writes about five times the bytes.
`)
	return out.Bytes()
}

func ms(d time.Duration) string {
	v := float64(d.Microseconds()) / 1000
	if v >= 100 {
		return fmt.Sprintf("%.0f ms", v)
	}
	return fmt.Sprintf("%.1f ms", v)
}
