package main

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"skep/internal/swarmtest"
)

// TestCatalogueOnASwarm deploys the whole catalogue with the bundle's own
// script. The Swarm takes every network, config, secret and service of it; no
// task runs, as no image can be pulled here.
func TestCatalogueOnASwarm(t *testing.T) {
	t.Parallel()
	s := swarmtest.Start(t)
	const image = "ghcr.io/skep-sh/whoami:0.1.0"
	if err := s.Import(image, swarmtest.Binary(t, "skep/cmd/whoami")); err != nil {
		t.Fatal(err)
	}
	build := filepath.Join(t.TempDir(), "build")
	var out strings.Builder
	if code := run(t.Context(), []string{"skep", "generate", "-C", "../../stacks", "-o", build}, strings.NewReader(""), &out, &out); code != exitDone {
		t.Fatalf("skep generate: exit code %d\n%s", code, &out)
	}

	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(build, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var services, networks []string
	for _, file := range files {
		stack := strings.TrimSuffix(filepath.Base(file), ".yaml")
		var content map[string]any
		readYAML(t, file, &content)
		for name, service := range section(content, "services") {
			services = append(services, stack+"_"+name)
			service["image"] = image
			keepPending(service)
		}
		for _, network := range section(content, "networks") {
			name, _ := network["name"].(string)
			networks = append(networks, name)
		}
		for key, def := range section(content, "secrets") {
			name, ok := def["name"].(string)
			if !ok {
				name = key
			}
			docker(t, s, "secret", "create", name, secret)
		}
		text, err := yaml.Marshal(content)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}

	deploy := exec.CommandContext(t.Context(), filepath.Join(build, "deploy.sh"))
	deploy.Env = append(os.Environ(), "DOCKER_HOST="+s.Host(), "DEPLOY_FLAGS=--resolve-image never")
	if out, err := deploy.CombinedOutput(); err != nil {
		t.Fatalf("deploy.sh: %v\n%s", err, out)
	}
	slices.Sort(services)
	if got := strings.Fields(docker(t, s, "service", "ls", "--format", "{{.Name}}")); !slices.Equal(slices.Sorted(slices.Values(got)), services) {
		t.Errorf("the Swarm has the services %q, want %q", got, services)
	}
	has := map[string]bool{}
	for name := range strings.FieldsSeq(docker(t, s, "network", "ls", "--filter", "scope=swarm", "--format", "{{.Name}}")) {
		has[name] = true
	}
	for _, network := range networks {
		if !has[network] {
			t.Errorf("the Swarm has no network %s; it has %q", network, slices.Sorted(maps.Keys(has)))
		}
	}
}

// section is a part of a Compose file, by name.
func section(content map[string]any, key string) map[string]map[string]any {
	out := map[string]map[string]any{}
	in, _ := content[key].(map[string]any)
	for name, def := range in {
		out[name], _ = def.(map[string]any)
	}
	return out
}

// keepPending makes Swarm find no node for a service.
func keepPending(service map[string]any) {
	at := service
	for _, key := range []string{"deploy", "placement"} {
		inner, ok := at[key].(map[string]any)
		if !ok {
			inner = map[string]any{}
			at[key] = inner
		}
		at = inner
	}
	constraints, _ := at["constraints"].([]any)
	at["constraints"] = append(constraints, "node.labels.there-is-none == true")
}

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}
