package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"skep/internal/swarmtest"
)

// BenchmarkDeploy times whole commands, `skep deploy` beside `docker stack
// deploy`, on one Swarm and the same stacks. The services have no replica, so
// that starting containers is no part of it. skep also compiles the project,
// except with a saved plan; docker gets the bundle's file.
func BenchmarkDeploy(b *testing.B) {
	s := swarmtest.Start(b)
	if err := s.Import("whoami:0.1", swarmtest.Binary(b, "skep/cmd/whoami")); err != nil {
		b.Fatal(err)
	}
	skep := swarmtest.Binary(b, "skep/cmd/skep")
	run := func(b *testing.B, name string, args ...string) {
		b.Helper()
		cmd := exec.CommandContext(b.Context(), name, args...)
		cmd.Env = append(os.Environ(), "DOCKER_HOST="+s.Host())
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	for _, services := range []int{50, 200} {
		dir := benchProject(b, services)
		build := filepath.Join(dir, "build")
		run(b, skep, "-C", dir, "generate", "-o", build)
		for _, tool := range []struct {
			name   string
			deploy []string
		}{
			{"skep", []string{skep, "-C", dir, "deploy", "--no-wait", "--resolve-image", "never"}},
			{"docker", []string{"docker", "stack", "deploy", "--detach", "--resolve-image", "never", "-c", filepath.Join(build, "many.yaml"), "many"}},
		} {
			deploy := func(b *testing.B) { run(b, tool.deploy[0], tool.deploy[1:]...) }
			remove := func(b *testing.B) { run(b, skep, "-C", dir, "down", "many", "--yes") }
			run(b, skep, "-C", dir, "deploy", "--no-wait", "--resolve-image", "never") // the shared networks, for both
			remove(b)
			b.Run(fmt.Sprintf("first/services=%d/%s", services, tool.name), func(b *testing.B) {
				for b.Loop() {
					deploy(b)
					b.StopTimer()
					remove(b)
					b.StartTimer()
				}
			})
			deploy(b)
			if tool.name == "skep" {
				saved := filepath.Join(dir, "plan.json")
				run(b, skep, "-C", dir, "plan", "-out", saved)
				b.Run(fmt.Sprintf("unchanged/services=%d/saved", services), func(b *testing.B) {
					for b.Loop() {
						run(b, skep, "deploy", saved)
					}
				})
			}
			b.Run(fmt.Sprintf("unchanged/services=%d/%s", services, tool.name), func(b *testing.B) {
				for b.Loop() {
					deploy(b)
				}
			})
			remove(b)
		}
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
