package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"skep/internal/swarmtest"
)

// BenchmarkDeploy times whole commands, `skep deploy` beside `docker stack
// deploy`, on one Swarm and the same stacks: in turn, for what else a machine does
// changes by the minute. It reports medians. The services have no replica, so
// that starting containers is no part of it. skep also compiles the project,
// except with a saved plan; docker gets the bundle's file.
func BenchmarkDeploy(b *testing.B) {
	s := swarmtest.Start(b)
	if err := s.Import("whoami:0.1", swarmtest.Binary(b, "skep/cmd/whoami")); err != nil {
		b.Fatal(err)
	}
	skep := swarmtest.Binary(b, "skep/cmd/skep")
	run := func(b *testing.B, args ...string) time.Duration {
		b.Helper()
		cmd := exec.CommandContext(b.Context(), args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "DOCKER_HOST="+s.Host())
		start := time.Now()
		out, err := cmd.CombinedOutput()
		if err != nil {
			b.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return time.Since(start)
	}
	for _, services := range []int{50, 200} {
		dir := benchProject(b, services)
		build, saved := filepath.Join(dir, "build"), filepath.Join(dir, "plan.json")
		ours := []string{skep, "-C", dir, "deploy", "--no-wait", "--resolve-image", "never"}
		docker := []string{"docker", "stack", "deploy", "--detach", "--resolve-image", "never", "-c", filepath.Join(build, "many.yaml"), "many"}
		remove := []string{skep, "-C", dir, "down", "many", "--yes"}
		run(b, skep, "-C", dir, "generate", "-o", build)
		run(b, ours...) // the shared networks, for both
		run(b, remove...)
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) {
			took := map[string][]float64{}
			note := func(name string, times int, args ...string) {
				for range times {
					took[name] = append(took[name], float64(run(b, args...)))
				}
			}
			for b.Loop() {
				note("first-skep", 1, ours...)
				note("unchanged-skep", 3, ours...)
				run(b, skep, "-C", dir, "plan", "-out", saved)
				note("unchanged-saved", 3, skep, "deploy", saved)
				run(b, remove...)
				note("first-docker", 1, docker...)
				note("unchanged-docker", 3, docker...)
				run(b, remove...)
			}
			for name, all := range took {
				slices.Sort(all)
				b.ReportMetric(all[len(all)/2], name+"-ns")
			}
		})
	}
}

func benchProject(b *testing.B, services int) string {
	b.Helper()
	dir := b.TempDir()
	var text strings.Builder
	text.WriteString("name: many\nservices:\n")
	for i := range services {
		fmt.Fprintf(&text, `  app%[1]d:
    image: whoami:0.1
    environment: {LOG_LEVEL: info, NAME: app%[1]d}
    healthcheck: {test: [CMD, /whoami, -healthcheck], interval: 30s}
    mem_limit: 64m
    deploy: {replicas: 0, endpoint_mode: dnsrr, labels: {example.role: app%[1]d}}
`, i)
	}
	for name, content := range map[string]string{"cluster.yaml": "name: bench\n", "many/stack.yaml": text.String()} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}
