package importer_test

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/tools/txtar"

	"skep/generator/importer"
	"skep/generator/problem"
	"skep/generator/spec"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestGolden holds what becomes of Compose files against testdata: STACK/compose.yaml
// and the files beside it in, perhaps with a project that is there already, and
// under want/ the stack files and their companions, the proposed cluster file,
// and report.txt: what was lifted and what was kept. `skep import` is held against
// the same cases in cmd/skep: routes and networks stay as they were.
func TestGolden(t *testing.T) {
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			in, want := fstest.MapFS{}, map[string]string{}
			archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool {
				name, out := strings.CutPrefix(f.Name, "want/")
				if out {
					want[name] = string(f.Data)
				} else {
					in[f.Name] = &fstest.MapFile{Data: f.Data}
				}
				return out
			})
			got := importCase(t, in)
			if again := importCase(t, in); !maps.Equal(got, again) {
				t.Error("a second run gives other bytes")
			}
			if *update {
				for _, name := range slices.Sorted(maps.Keys(got)) {
					archive.Files = append(archive.Files, txtar.File{Name: "want/" + name, Data: []byte(got[name])})
				}
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			for _, name := range slices.Sorted(maps.Keys(got)) {
				if got[name] != want[name] {
					t.Errorf("%s: got\n%s\nwant\n%s", name, got[name], want[name])
				}
				delete(want, name)
			}
			for name := range want {
				t.Errorf("no %s", name)
			}
		})
	}
}

// importCase imports the Compose files of a case and checks that what comes
// out loads.
func importCase(t *testing.T, in fstest.MapFS) map[string]string {
	t.Helper()
	files, err := fs.Glob(in, "*/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	project := t.TempDir()
	var inputs []importer.Input
	_, given := in["project/"+spec.ClusterFile]
	for name, file := range in {
		if rest, ok := strings.CutPrefix(name, "project/"); ok {
			put(t, project, rest, file.Data)
		}
	}
	for _, file := range files {
		beside, err := fs.Sub(in, path.Dir(file))
		if err != nil {
			t.Fatal(err)
		}
		input := importer.Input{Name: path.Dir(file), File: file, Content: in[file].Data, Beside: beside}
		if given {
			cluster, problems := spec.Load(t.Context(), project, spec.Options{})
			if cluster == nil {
				t.Fatal(problems)
			}
			input.Cluster = cluster
		}
		inputs = append(inputs, input)
	}
	results, problems := importer.Import(inputs)
	if problems.Failed() {
		t.Fatal(problems)
	}
	got := map[string]string{}
	var report bytes.Buffer
	for _, r := range results {
		got[string(r.Name)+"/stack.yaml"] = string(r.Stack)
		put(t, project, string(r.Name)+"/stack.yaml", r.Stack)
		for name, content := range r.Files {
			got[string(r.Name)+"/"+name] = string(content)
			put(t, project, string(r.Name)+"/"+name, content)
		}
		for _, l := range r.Lifted {
			fmt.Fprintf(&report, "lifted %s: %s: %s -> %s\n", l.Position, l.Service, l.From, l.To)
		}
		for _, k := range r.Kept {
			fmt.Fprintf(&report, "kept   %s: %s: %s: %s\n", k.Position, k.Service, k.What, k.Why)
			if k.Remedy != "" {
				fmt.Fprintf(&report, "       %s\n", k.Remedy)
			}
		}
	}
	got["report.txt"] = report.String()
	if !given {
		cluster := importer.Cluster(results, "homelab")
		got[spec.ClusterFile] = string(cluster)
		put(t, project, spec.ClusterFile, cluster)
	}
	_, problems = spec.Load(t.Context(), project, spec.Options{})
	problems = slices.DeleteFunc(problems, func(p problem.Problem) bool {
		return p.File == spec.ClusterFile && p.Rule == "unknown-name" // the ingress is not in the case
	})
	if problems.Failed() {
		t.Errorf("what was imported does not load: %v", problems)
	}
	return got
}

func put(t *testing.T, dir, name string, content []byte) {
	t.Helper()
	file := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o644); err != nil {
		t.Fatal(err)
	}
}
