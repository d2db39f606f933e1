package expand_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/docker/cli/cli/compose/loader"
	composetypes "github.com/docker/cli/cli/compose/types"

	"skep/generator/bundle"
	"skep/generator/expand"
	"skep/generator/spec"
	"skep/generator/stack"
)

var update = flag.Bool("update", false, "rewrite the golden bundles")

// generate loads and expands a project.
func generate(t *testing.T, dir string) *bundle.Bundle {
	t.Helper()
	cluster, problems := spec.Load(t.Context(), dir, spec.Options{})
	if cluster == nil || problems.Failed() {
		t.Fatalf("load: %v", problems)
	}
	b, err := expand.Expand(cluster)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Encode(); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestGolden holds bundles against testdata: project files in, and under
// want/ the files that come out. A case names what it wants to see; the rest
// of the bundle is not compared.
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
			dir := t.TempDir()
			want := map[string][]byte{}
			for _, f := range archive.Files {
				if path, ok := strings.CutPrefix(f.Name, "want/"); ok {
					want[path] = f.Data
					continue
				}
				writeFile(t, filepath.Join(dir, f.Name), f.Data)
			}
			b := generate(t, dir)
			for name, err := range b.Validate() {
				t.Errorf("%s: %v", name, err)
			}
			for _, s := range b.Stacks {
				loadLikeDocker(t, s)
			}
			if again := generate(t, dir); !slices.EqualFunc(b.Files, again.Files, func(x, y bundle.File) bool {
				return x.Path == y.Path && bytes.Equal(x.Content, y.Content)
			}) {
				t.Error("a second run gives other bytes")
			}
			if *update {
				rewrite(t, file, archive, want, b)
				return
			}
			got := map[string][]byte{}
			for _, f := range b.Files {
				got[f.Path] = f.Content
			}
			for path, content := range want {
				if !bytes.Equal(got[path], content) {
					t.Errorf("%s differs; run with -update and read the difference\n%s", path, got[path])
				}
			}
		})
	}
}

// loadLikeDocker reads the file's bytes as `docker stack deploy` does and
// checks that every string came through: escaped, written, read, interpolated.
func loadLikeDocker(t *testing.T, s *bundle.Stack) {
	t.Helper()
	content, err := s.Compose().Encode(s.Source)
	if err != nil {
		t.Fatal(err)
	}
	dict, err := loader.ParseYAML(content)
	if err != nil {
		t.Fatalf("%s: %v", s.Name, err)
	}
	config, err := loader.Load(composetypes.ConfigDetails{WorkingDir: "/", ConfigFiles: []composetypes.ConfigFile{{Filename: string(s.Name), Config: dict}}})
	if err != nil {
		t.Fatalf("%s: %v", s.Name, err)
	}
	for _, service := range config.Services {
		labels := s.Compose().Labels(stack.ServiceName(service.Name))
		for k, v := range labels {
			if service.Deploy.Labels[k] != v {
				t.Errorf("%s/%s: label %s is %q after Docker read it, want %q", s.Name, service.Name, k, service.Deploy.Labels[k], v)
			}
		}
	}
}

// rewrite puts the bundle's files into the case: those that it named, or, when
// it named none, every stack file's output.
func rewrite(t *testing.T, file string, archive *txtar.Archive, want map[string][]byte, b *bundle.Bundle) {
	t.Helper()
	archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return strings.HasPrefix(f.Name, "want/") })
	for _, f := range b.Files {
		_, named := want[f.Path]
		if named || len(want) == 0 && strings.HasSuffix(f.Path, ".yaml") {
			archive.Files = append(archive.Files, txtar.File{Name: "want/" + f.Path, Data: f.Content})
		}
	}
	if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}
