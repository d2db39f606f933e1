package check_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"skep/generator/check"
	"skep/generator/problem"
	"skep/generator/spec"
	"skep/generator/stack"
)

var update = flag.Bool("update", false, "rewrite want.txt in testdata")

// clusterFile stands in where an archive brings none.
const clusterFile = `name: test
nodes: [node1, node2]
zones:
  internal: {domain: in.example.com, target: 10.0.0.1, private: true}
ingress: {default: {zone: internal}}
`

// load reads the project in an archive.
func load(t testing.TB, archive *txtar.Archive) *stack.Cluster {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, data []byte) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("cluster.yaml", []byte(clusterFile))
	for _, f := range archive.Files {
		write(f.Name, f.Data)
	}
	cluster, problems := spec.Load(t.Context(), dir, spec.Options{KnownRules: check.Waivable()})
	if problems.Failed() {
		t.Fatalf("load: %v", problems)
	}
	return cluster
}

func text(l problem.List) []byte {
	var out bytes.Buffer
	for _, p := range l {
		fmt.Fprintf(&out, "%s: %s: %s: %s\n", p.Position, p.Severity, p.Rule, p.Message)
	}
	return out.Bytes()
}

// TestPolicies holds each rule against the archive of its name: stack files
// with cases for and against it in, want.txt out. Other rules do not count.
func TestPolicies(t *testing.T) {
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, file := range cases {
		id := strings.TrimSuffix(filepath.Base(file), ".txtar")
		seen = append(seen, id)
		t.Run(id, func(t *testing.T) {
			if _, ok := check.Rule(id); !ok {
				t.Fatalf("there is no rule %s", id)
			}
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			found := check.Run(load(t, archive))
			if again := check.Run(load(t, archive)); !slices.Equal(found, again) {
				t.Error("a second run finds something else")
			}
			found = slices.DeleteFunc(found, func(p problem.Problem) bool { return p.Rule != id })
			for _, p := range found {
				if p.Remedy == "" {
					t.Errorf("%s: no remedy", p)
				}
			}
			got := text(found)
			i := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == "want.txt" })
			if *update {
				if i < 0 {
					i = len(archive.Files)
					archive.Files = append(archive.Files, txtar.File{Name: "want.txt"})
				}
				archive.Files[i].Data = got
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if i < 0 || len(archive.Files[i].Data) == 0 {
				t.Fatal("no want.txt, or nothing in it: a rule that never speaks is not tested")
			}
			if want := archive.Files[i].Data; !bytes.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s\n-update rewrites want.txt", got, want)
			}
		})
	}
	for _, id := range append(check.Waivable(), "config-too-large", "stack-cycle", "unknown-entrypoint", "unused-network", "unused-waiver") {
		if !slices.Contains(seen, id) {
			t.Errorf("testdata/%s.txtar is missing", id)
		}
	}
}

func TestRules(t *testing.T) {
	kebab := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	loader := map[string]bool{}
	for _, r := range spec.Rules() {
		loader[r.ID] = true
	}
	last := ""
	for _, r := range check.Rules() {
		if !kebab.MatchString(r.ID) {
			t.Errorf("%q is not in kebab case", r.ID)
		}
		if r.ID <= last {
			t.Errorf("%q after %q: not sorted, or not unique", r.ID, last)
		}
		last = r.ID
		if r.Title == "" || r.Severity != problem.Error && r.Severity != problem.Warning {
			t.Errorf("%s: title %q, severity %q", r.ID, r.Title, r.Severity)
		}
		if found, ok := check.Rule(r.ID); !ok || found.Title != r.Title {
			t.Errorf("Rule(%q) does not find it", r.ID)
		}
		if loader[r.ID] {
			continue
		}
		for _, part := range []string{"## Fix", "```yaml", "Good:", "## Waive"} {
			if !strings.Contains(r.Doc, part) {
				t.Errorf("rules/%s.md has no %q", r.ID, part)
			}
		}
		if waivable := slices.Contains(check.Waivable(), r.ID); waivable != strings.Contains(r.Doc, "      "+r.ID+": ") {
			t.Errorf("rules/%s.md says wrongly whether it can be waived", r.ID)
		}
	}
	if _, ok := check.Rule("no-such-rule"); ok {
		t.Error("Rule finds what is not there")
	}
	pages, err := filepath.Glob("rules/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if _, ok := check.Rule(strings.TrimSuffix(filepath.Base(page), ".md")); !ok {
			t.Errorf("%s belongs to no rule", page)
		}
	}
}

// TestEmpty runs the policies over models with as little in them as can be.
func TestEmpty(t *testing.T) {
	service := func() *stack.Service { return &stack.Service{Ref: stack.ServiceRef{Stack: "a", Service: "b"}} }
	routed := service()
	routed.Routes = []stack.Route{{}}
	for name, c := range map[string]*stack.Cluster{
		"none":    nil,
		"cluster": {},
		"stack":   {Stacks: []*stack.Stack{{Name: "a"}}},
		"service": {Stacks: []*stack.Stack{{Name: "a", Services: []*stack.Service{service()}}}},
		"route":   {Stacks: []*stack.Stack{{Name: "a", Services: []*stack.Service{routed}}}, SSO: &stack.SSO{}, Zones: []*stack.Zone{{}, {}}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, p := range check.Run(c) {
				if p.Severity != problem.Warning {
					t.Errorf("an empty model breaks %s", p)
				}
			}
		})
	}
}
