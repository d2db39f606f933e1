// Command report measures the generator beside its yardsticks, in one run, and
// prints the first section of docs/performance.md.
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
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/goccy/go-yaml"

	"skep/generator/bench"
	"skep/generator/expand"
	"skep/generator/spec"
	"skep/internal/benchreport"
)

func main() {
	benchreport.Main(flag.NewFlagSet("report", flag.ContinueOnError), measure)
}

// row is the medians of one project size.
type row struct {
	stacks                        int
	load, expand, validate, total time.Duration
	command                       time.Duration // a whole `skep generate`
	yardstick, docker             time.Duration // per stack
	peak                          int64         // bytes, of a whole `skep generate`
}

func measure(ctx context.Context, progress io.Writer) ([]byte, error) {
	debug.SetGCPercent(400) // as the command does
	debug.SetMemoryLimit(300 << 20)
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
		if err := b.Encode(); err != nil {
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
	var command, docker []time.Duration
	for i := range runs + 1 {
		start := time.Now()
		peak, err := generate(ctx, skep, dir, out)
		if err != nil {
			return row{}, err
		}
		command = append(command, time.Since(start))
		r.peak = max(r.peak, peak)

		start = time.Now()
		if err := dockerStackConfig(ctx, filepath.Join(out, fmt.Sprintf("stack%d.yaml", i%stacks))); err != nil {
			return row{}, err
		}
		docker = append(docker, time.Since(start))
	}
	r.command, r.docker = median(command), median(docker)
	return r, nil
}

// generate runs the command from nothing and returns its peak memory in bytes.
func generate(ctx context.Context, skep, dir, out string) (int64, error) {
	if err := os.RemoveAll(out); err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, skep, "generate", "-C", dir, "-o", out)
	if said, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("skep generate: %w\n%s", err, said)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, errors.New("no resource usage on this system")
	}
	return usage.Maxrss << 10, nil
}

func parseAndMarshal(text []byte) error {
	var v yaml.MapSlice
	if err := yaml.Unmarshal(text, &v); err != nil {
		return err
	}
	_, err := yaml.Marshal(v)
	return err
}

func dockerStackConfig(ctx context.Context, file string) error {
	if out, err := exec.CommandContext(ctx, "docker", "stack", "config", "-c", file).CombinedOutput(); err != nil {
		return fmt.Errorf("docker stack config: %w\n%s", err, out)
	}
	return nil
}

// median leaves the first out, which warms up.
func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d[1:]))
	return d[len(d)/2]
}

func render(rows []row) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, `# Performance

Measured by %s: medians of runs on %d processors (%s/%s, %s), the generator and
its yardsticks in turn. A stack has %d services with a route, a secret, volumes, a health check and limits
(%d bytes). Machines differ and are noisy: read the ratios.

## The stages, in one process

| stacks | load | expand | validate | total | per stack | bare parse + marshal of one stack | ratio |
|--:|--:|--:|--:|--:|--:|--:|--:|
`, "`make performance`", runtime.GOMAXPROCS(0), runtime.GOOS, runtime.GOARCH, runtime.Version(), bench.Services, len(bench.Stack(1)))
	for _, r := range rows {
		per := r.total / time.Duration(r.stacks)
		fmt.Fprintf(&out, "| %d | %s | %s | %s | %s | %s | %s | **%.1f** |\n",
			r.stacks, ms(r.load), ms(r.expand), ms(r.validate), ms(r.total), ms(per), ms(r.yardstick), float64(per)/float64(r.yardstick))
	}
	out.WriteString(`
- *load* reads the files: YAML with positions, the Compose schema, compose-go, the x- keys.
- *expand* derives networks, labels, sidecars, secrets and policies and writes the YAML.
- *validate* runs Docker's own schema and loader over every file.
- The bare parse and marshal, by goccy/go-yaml, does the stack file's bytes alone, one after the other; the generator uses
  all processors, reads what Compose reads and writes more than it read.

## The command, start to end

` + "`skep generate`" + ` into an empty folder, with every check, the ingress's own validation of the labels and the writing, beside
one ` + "`docker stack config`" + ` for each file that it wrote.

| stacks | skep generate | per stack | docker stack config, one file | times faster | peak memory |
|--:|--:|--:|--:|--:|--:|
`)
	for _, r := range rows {
		per := r.command / time.Duration(r.stacks)
		fmt.Fprintf(&out, "| %d | %s | %s | %s | **%.1f** | %d MB |\n",
			r.stacks, ms(r.command), ms(per), ms(r.docker), float64(r.docker)/float64(per), r.peak>>20)
	}
	return out.Bytes()
}

func ms(d time.Duration) string {
	v := float64(d.Microseconds()) / 1000
	if v >= 100 {
		return fmt.Sprintf("%.0f ms", v)
	}
	return fmt.Sprintf("%.1f ms", v)
}
