package spec

import (
	"io/fs"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/goccy/go-yaml"
)

// carriedValues has each key that is kept from compose-go, in every form that
// Compose takes it in.
const carriedValues = `
annotations:
  - {a.b: c, empty: "", number: 1}
  - [a.b=c, a.b=d]
command:
  - "serve --name '$NAME'"
  - [serve, "--name=$NAME", ""]
  - []
container_name: ["$NAME"]
deploy:
  - {}
  - labels: {a.b: "$NAME", c: 1}
    mode: replicated
    replicas: "$NUMBER"
    endpoint_mode: dnsrr
    placement: {constraints: [node.role == manager, "node.hostname == $NAME"], preferences: [{spread: node.labels.zone}], max_replicas_per_node: 2}
    resources:
      limits: {cpus: "0.5", memory: 64m, pids: "$NUMBER"}
      reservations: {cpus: 0.25, memory: 1g, generic_resources: [{discrete_resource_spec: {kind: gpu, value: 2}}]}
    restart_policy: {condition: any, delay: 5s, max_attempts: "$NUMBER", window: 1m}
    update_config: {parallelism: "$NUMBER", delay: 10s, failure_action: rollback, monitor: 15s, max_failure_ratio: "0.5", order: start-first}
    rollback_config: {parallelism: 1, order: stop-first}
    x-note: {kept: true}
  - {labels: [a.b=c, a.b=$NAME]}
  - {placement: {constraints: []}}
entrypoint:
  - "/bin/sh -c"
  - [/bin/sh, -c]
  - []
environment:
  - {A: "$NAME", B: 1, C: true, D: null, E: "", F: 1.5}
  - [A=$NAME, A=last, NAME, UNSET]
  - {}
healthcheck:
  - {test: "curl localhost", interval: 30s, timeout: 5s, retries: "$NUMBER", start_period: 1m, start_interval: 1s}
  - {test: [CMD, curl, "http://$NAME"], disable: "false", x-note: kept}
  - {disable: true}
hostname: ["$NAME"]
image: ["registry.example.com/team/$NAME:1"]
init: [true, "true"]
labels:
  - {a.b: "$NAME", c: 1}
  - [a.b=c, a.b=d]
logging:
  - {driver: json-file, options: {max-size: 10m, max-file: 3}}
mem_limit: [64m, 1024, "${NUMBER}m"]
privileged: [true, "false"]
read_only: [true, "true"]
restart: [always, "on-failure:$NUMBER"]
stdin_open: [true, "true"]
stop_grace_period: [1m30s]
stop_signal: [SIGINT]
tty: [true, "true"]
user: ["1000:1000", "$NAME"]
working_dir: ["/srv/$NAME"]
`

// TestCarriedKeys loads services in both ways: what is kept from compose-go must
// be what it would have made of it.
func TestCarriedKeys(t *testing.T) {
	var forms map[string][]any
	if err := yaml.Unmarshal([]byte(carriedValues), &forms); err != nil {
		t.Fatal(err)
	}
	if named := slices.Sorted(maps.Keys(forms)); !slices.Equal(named, carried) {
		t.Fatalf("the test has values of %q, carried are %q", named, carried)
	}
	for key, values := range forms {
		for i, value := range values {
			t.Run(key+itoa(i), func(t *testing.T) {
				service := map[string]any{"ports": []any{"80:8080"}, "volumes": []any{"./data:/data"}, key: value}
				bothWays(t, "/project/stack.yaml", map[string]any{"services": map[string]any{"app": service, "other": map[string]any{"image": "x"}}})
			})
		}
	}
}

// TestLargeStackBothWays loads a stack in parts, with services that a profile
// leaves out.
func TestLargeStackBothWays(t *testing.T) {
	services := map[string]any{}
	for i := range 100 {
		service := map[string]any{"image": "app:" + itoa(i), "environment": map[string]any{"N": i}}
		if i%3 == 0 {
			service["profiles"] = []any{"other"}
		}
		services["app"+itoa(i)] = service
	}
	bothWays(t, "/project/stack.yaml", map[string]any{
		"services": services, "networks": map[string]any{"own": map[string]any{"internal": true}}, "x-note": "kept",
	})
}

// TestCatalogueBothWays is TestCarriedKeys for the stacks that are shipped.
func TestCatalogueBothWays(t *testing.T) {
	root, err := filepath.Abs("../../stacks")
	if err != nil {
		t.Fatal(err)
	}
	alone := 0
	err = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Base(path) != "stack.yaml" {
			return err
		}
		doc, problems := readDocument(path, path)
		if problems.Failed() {
			t.Fatalf("%v", problems)
		}
		if doc.alone() {
			alone++
			bothWays(t, path, doc.values)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if alone == 0 {
		t.Fatal("no stack file stands alone")
	}
}

func bothWays(t *testing.T, path string, values map[string]any) {
	t.Helper()
	load := composeLoader{path: path, name: "test", env: map[string]string{"NAME": "web", "NUMBER": "2"}}
	want, wantErr := load.whole(t.Context(), types.ConfigFile{Filename: path, Config: values})
	got, err := load.alone(t.Context(), values)
	if err != nil || wantErr != nil {
		t.Fatalf("%s: alone: %v; whole: %v", path, err, wantErr)
	}
	wantYAML, err := want.MarshalYAML()
	if err != nil {
		t.Fatal(err)
	}
	gotYAML, err := got.MarshalYAML()
	if err != nil {
		t.Fatal(err)
	}
	if string(gotYAML) != string(wantYAML) {
		t.Fatalf("%s: compose-go gives\n%s\nand what was set aside\n%s", path, wantYAML, gotYAML)
	}
	for name, service := range want.Services {
		if mine := got.Services[name]; !reflect.DeepEqual(normal(mine), normal(service)) {
			t.Errorf("%s: service %s is %#v, compose-go has %#v", path, name, mine, service)
		}
	}
}

// normal leaves out that compose-go has no extensions as nil, and an empty map.
func normal(s types.ServiceConfig) types.ServiceConfig {
	if len(s.Extensions) == 0 {
		s.Extensions = nil
	}
	return s
}
