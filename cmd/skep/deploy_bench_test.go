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
// except with a saved plan; docker gets the bundle's files, one after the other.
func BenchmarkDeploy(b *testing.B) {
	s := swarmtest.Start(b)
	if err := s.Import("whoami:0.1", swarmtest.Binary(b, "skep/cmd/whoami")); err != nil {
		b.Fatal(err)
	}
	skep := swarmtest.Binary(b, "skep/cmd/skep")
	run := func(b *testing.B, commands ...[]string) time.Duration {
		b.Helper()
		start := time.Now()
		for _, args := range commands {
			cmd := exec.CommandContext(b.Context(), args[0], args[1:]...)
			cmd.Env = append(os.Environ(), "DOCKER_HOST="+s.Host())
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
			}
		}
		return time.Since(start)
	}
	for _, size := range []struct{ services, stacks int }{{50, 1}, {200, 1}, {50, 5}, {200, 20}} {
		dir, names := benchProject(b, size.services, size.stacks)
		build, saved := filepath.Join(dir, "build"), filepath.Join(dir, "plan.json")
		ours := []string{skep, "-C", dir, "deploy", "--no-wait", "--resolve-image", "never"}
		var docker, remove [][]string
		for _, name := range names {
			docker = append(docker, []string{"docker", "stack", "deploy", "--detach", "--resolve-image", "never", "-c", filepath.Join(build, name+".yaml"), name})
			remove = append(remove, []string{skep, "-C", dir, "down", name, "--yes"})
		}
		run(b, []string{skep, "-C", dir, "generate", "-o", build})
		run(b, ours) // the shared networks, for both
		run(b, remove...)
		b.Run(fmt.Sprintf("services=%d/stacks=%d", size.services, size.stacks), func(b *testing.B) {
			took := map[string][]float64{}
			note := func(name string, times int, commands ...[]string) {
				for range times {
					took[name] = append(took[name], float64(run(b, commands...)))
				}
			}
			for b.Loop() {
				note("first-skep", 1, ours)
				note("unchanged-skep", 3, ours)
				run(b, []string{skep, "-C", dir, "plan", "-out", saved})
				note("unchanged-saved", 3, []string{skep, "deploy", saved})
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

// benchProject writes a project and returns its folder and its stacks.
func benchProject(b *testing.B, services, stacks int) (dir string, names []string) {
	b.Helper()
	dir = b.TempDir()
	files := map[string]string{"cluster.yaml": "name: bench\n"}
	for k := range stacks {
		name := fmt.Sprintf("many%d", k)
		var text strings.Builder
		fmt.Fprintf(&text, "name: %s\nservices:\n", name)
		for i := range services / stacks {
			fmt.Fprintf(&text, `  app%[1]d:
    image: whoami:0.1
    environment: {LOG_LEVEL: info, NAME: app%[1]d}
    healthcheck: {test: [CMD, /whoami, -healthcheck], interval: 30s}
    mem_limit: 64m
    deploy: {replicas: 0, endpoint_mode: dnsrr, labels: {example.role: app%[1]d}}
`, i)
		}
		names, files[name+"/stack.yaml"] = append(names, name), text.String()
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	return dir, names
}
