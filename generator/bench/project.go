// Package bench makes projects of any size and measures the generator on
// them, beside what others do with the same files.
package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Services is how many services a stack of a project has.
const Services = 10

const clusterFile = `name: bench
zones:
  internal: {domain: in.example.com, target: node1.in.example.com, private: true}
ingress:
  default: {zone: internal, auth: sso}
sso: {upstream: "http://authentik-server:9000"}
networks:
  postgres: {internal: true}
subnets: {pool: 10.0.0.0/8, size: 24}
`

const ingressStack = `x-tier: infrastructure
services:
  caddy:
    image: ghcr.io/skep-sh/skep-ingress:0.1.0
    x-docker-api: [configs, containers, events, info, networks, services, tasks]
`

// Stack is the text of a stack file with ten services: routes, secrets,
// volumes, health checks and limits, as people write them.
func Stack(n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "name: stack%d\nx-tier: application\nservices:\n", n)
	for i := range Services {
		fmt.Fprintf(&b, `  app%[2]d-%[1]d:
    image: registry.example.org/team/app%[2]d:1.%[1]d.%[2]d
    environment:
      LOG_LEVEL: info
      LISTEN: ":8080"
      DB_HOST: postgresql
      DB_USER: app%[2]d
      DB_PASSWORD_FILE: op://homelab/app%[2]d/password
    volumes: ["data%[2]d:/data", "/etc/localtime:/etc/localtime:ro"]
    healthcheck:
      test: [CMD, wget, -qO-, "http://localhost:8080/healthz"]
      interval: 30s
      timeout: 5s
      retries: 3
    deploy:
      replicas: 1
      resources:
        limits: {cpus: "0.5", memory: 256M}
    x-pin: node1
    x-uses: [postgres]
    x-ingress: {host: app%[2]d-%[1]d, port: 8080, auth: {bypass: ["/api/*"]}}
    x-homepage: {group: Apps, icon: app.png, description: An application}
`, n, i)
	}
	b.WriteString("volumes:\n")
	for i := range Services {
		fmt.Fprintf(&b, "  data%d: {}\n", i)
	}
	return b.String()
}

// Write makes a project with this many stacks in dir and returns their files.
func Write(dir string, stacks int) ([]string, error) {
	write := func(path, text string) error {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		return os.WriteFile(full, []byte(text), 0o644)
	}
	if err := write("cluster.yaml", clusterFile); err != nil {
		return nil, err
	}
	if err := write("ingress/stack.yaml", ingressStack); err != nil {
		return nil, err
	}
	var files []string
	for n := range stacks {
		path := fmt.Sprintf("app/stack%d/stack.yaml", n)
		if err := write(path, Stack(n)); err != nil {
			return nil, err
		}
		files = append(files, filepath.Join(dir, path))
	}
	return files, nil
}
