package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"golang.org/x/tools/txtar"

	"skep/generator/bundle"
	"skep/generator/expand"
	"skep/generator/importer"
	"skep/generator/spec"
	"skep/generator/stack"
)

// What is imported and generated routes the same requests to the same
// services as what it was imported from, and brings the same services
// together. The cases are the importer's golden ones.
func TestImportKeepsRoutesAndNetworks(t *testing.T) {
	cases, err := filepath.Glob("../../generator/importer/testdata/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			var compose []string
			for _, f := range archive.Files {
				if strings.HasPrefix(f.Name, "want/") {
					continue
				}
				path := filepath.Join(dir, f.Name)
				write(t, path, f.Data)
				if filepath.Base(path) == "compose.yaml" {
					compose = append(compose, path)
				}
			}
			sameMeaning(t, filepath.Join(dir, "project"), compose)
		})
	}
}

// The catalogue's bundle is Compose files for Swarm with labels, as anybody
// has them.
func TestImportOfTheGeneratedCatalogue(t *testing.T) {
	dir := t.TempDir()
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"skep", "generate", "-C", "../../stacks", "-o", filepath.Join(dir, "build")}, strings.NewReader(""), &out, &errs); code != exitDone {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	compose, err := filepath.Glob(filepath.Join(dir, "build", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	compose = slices.DeleteFunc(compose, func(file string) bool {
		content, err := os.ReadFile(file)
		return err != nil || !bytes.Contains(content, []byte("\nservices:"))
	})
	if len(compose) < 10 {
		t.Fatalf("only %d stacks in the bundle", len(compose))
	}
	sameMeaning(t, filepath.Join(dir, "project"), compose)
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// sameMeaning imports Compose files into the project folder and holds what is
// generated from it against them.
func sameMeaning(t *testing.T, project string, compose []string) {
	t.Helper()
	before := &whatRuns{on: map[stack.ServiceRef][]string{}, inside: map[string]bool{}}
	if _, err := os.Stat(filepath.Join(project, spec.ClusterFile)); err == nil {
		before = compiled(t, project)
	}
	var out, errs bytes.Buffer
	args := append([]string{"skep", "import", "--json", "-o", project}, compose...)
	if code := run(t.Context(), args, strings.NewReader(""), &out, &errs); code != exitDone {
		t.Fatalf("exit code %d: %s%s", code, out.String(), errs.String())
	}
	var report importReport
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	for i, file := range compose {
		before.read(t, file, string(report.Stacks[i].Name))
	}
	after := compiled(t, project)

	if _, ok := before.on[proposed]; !ok {
		maps.DeleteFunc(after.on, func(ref stack.ServiceRef, _ []string) bool { return ref.Stack == proposed.Stack })
	}
	for _, s := range report.Stacks {
		before.notes = append(before.notes, s.Kept...)
	}
	sameNetworks(t, before, after)
	sameRoutes(t, before.labels, after.labels, before.notes)
}

// proposed is the ingress that import adds where no file runs one.
var proposed = stack.ServiceRef{Stack: "ingress", Service: "caddy"}

// whatRuns is what the Swarm has: labels, and the networks of services by their real names.
type whatRuns struct {
	labels []stack.LabelSet
	on     map[stack.ServiceRef][]string
	inside map[string]bool // networks without a way out
	notes  []importer.Note
}

// read adds a Compose file as `docker stack deploy` would.
func (s *whatRuns) read(t *testing.T, file, name string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	env, err := dotenv.GetEnvFromFile(nil, []string{filepath.Join(filepath.Dir(file), ".env")})
	if err != nil && !os.IsNotExist(err) {
		env = nil // there is none
	}
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  filepath.Dir(file),
		ConfigFiles: []types.ConfigFile{{Filename: file, Content: content}},
		Environment: env,
	}, func(o *loader.Options) {
		o.SetProjectName(name, true)
		o.SkipConsistencyCheck = true
		o.SkipValidation = true
		o.SkipResolveEnvironment = true
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range project.Services {
		ref := stack.ServiceRef{Stack: stack.Name(name), Service: stack.ServiceName(service.Name)}
		labels := map[string]string{}
		maps.Copy(labels, service.Labels)
		if service.Deploy != nil {
			maps.Copy(labels, service.Deploy.Labels)
		}
		if len(labels) > 0 {
			s.labels = append(s.labels, stack.LabelSet{Service: ref, Labels: labels})
		}
		for _, key := range sortedNetworks(service) {
			n := project.Networks[key]
			s.on[ref] = append(s.on[ref], n.Name)
			s.inside[n.Name] = s.inside[n.Name] || n.Internal
		}
	}
}

func sortedNetworks(service types.ServiceConfig) []string {
	if service.NetworkMode != "" {
		return nil
	}
	keys := slices.Sorted(maps.Keys(service.Networks))
	if len(keys) == 0 {
		return []string{"default"}
	}
	return keys
}

// compiled is what a project gives a project, whatever the checks say.
func compiled(t *testing.T, dir string) *whatRuns {
	t.Helper()
	cluster, problems := spec.Load(t.Context(), dir, spec.Options{})
	if cluster == nil || problems.Failed() {
		t.Fatalf("load: %v", problems)
	}
	for _, s := range cluster.Services() {
		if s.Entrypoint == nil { // what skep lock would say
			s.Entrypoint = []string{"/entrypoint"}
		}
	}
	b, err := expand.Expand(cluster)
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range b.Validate() {
		t.Errorf("%s: %v", name, err)
	}
	out := &whatRuns{labels: b.LabelSets(), on: map[stack.ServiceRef][]string{}, inside: map[string]bool{}}
	for _, n := range b.Networks {
		out.inside[string(n.Name)] = n.Internal
	}
	for _, s := range b.Stacks {
		for _, name := range s.Compose().Services() {
			out.on[stack.ServiceRef{Stack: s.Name, Service: name}] = networksOf(s, name)
		}
	}
	return out
}

func networksOf(s *bundle.Stack, name stack.ServiceName) []string {
	at := func(v any, path ...string) any {
		for _, key := range path {
			m, _ := v.(map[string]any)
			v = m[key]
		}
		return v
	}
	content := map[string]any(s.Compose())
	attached, _ := at(content, "services", string(name), "networks").(map[string]any)
	var out []string
	for _, key := range slices.Sorted(maps.Keys(attached)) {
		real, _ := at(content, "networks", key, "name").(string)
		out = append(out, real)
	}
	return out
}

// sameNetworks compares who meets whom.
func sameNetworks(t *testing.T, before, after *whatRuns) {
	t.Helper()
	meet := func(s *whatRuns, a, b stack.ServiceRef) bool {
		return slices.ContainsFunc(s.on[a], func(n string) bool { return slices.Contains(s.on[b], n) })
	}
	refs := slices.SortedFunc(maps.Keys(after.on), stack.ServiceRef.Compare)
	for i, a := range refs {
		_, aWas := before.on[a]
		if aWas && before.leads(a) && !after.leads(a) && !before.kept(a) {
			t.Errorf("%s reached the Internet and does not now: %v, %v", a, before.on[a], after.on[a])
		}
		for _, b := range refs[:i] {
			_, bWas := before.on[b]
			now := meet(after, a, b)
			switch {
			case aWas && bWas && meet(before, a, b) && !now:
				t.Errorf("%s and %s met before and do not now: %v, %v", a, b, before.on[a], before.on[b])
			case aWas && bWas && !meet(before, a, b) && now && !before.noted(a, b):
				t.Errorf("%s and %s meet now and did not before: %v, %v", a, b, after.on[a], after.on[b])
			case !aWas && now && !proxyOf(a, b), !bWas && now && !proxyOf(b, a):
				t.Errorf("%s and %s meet, and one is new", a, b)
			}
		}
	}
}

// leads reports whether a service has a way to the Internet.
func (s *whatRuns) leads(ref stack.ServiceRef) bool {
	return slices.ContainsFunc(s.on[ref], func(n string) bool { return !s.inside[n] })
}

// kept reports whether the importer has said that a service stays inside.
func (s *whatRuns) kept(ref stack.ServiceRef) bool {
	return slices.ContainsFunc(s.notes, func(n importer.Note) bool {
		return n.What == "way to the Internet" && n.Service == string(ref.Service)
	})
}

// noted reports whether the importer has said that two services meet now.
func (s *whatRuns) noted(a, b stack.ServiceRef) bool {
	return slices.ContainsFunc(s.notes, func(n importer.Note) bool {
		return strings.HasPrefix(n.What, "networks of ") && strings.Contains(n.What, string(a.Service)) && strings.Contains(n.What, string(b.Service))
	})
}

func proxyOf(proxy, consumer stack.ServiceRef) bool {
	return proxy.Stack == consumer.Stack && string(proxy.Service) == string(consumer.Service)+"-docker-proxy"
}
