package preview_test

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"skep/generator/bundle"
	"skep/generator/check"
	"skep/generator/expand"
	"skep/generator/preview"
	"skep/generator/problem"
	"skep/generator/spec"
	"skep/generator/stack"
	"skep/networks"
)

var update = flag.Bool("update", false, "rewrite what the cases want")

var expires = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// load reads a project that has no errors.
func load(t testing.TB, dir string) *stack.Cluster {
	t.Helper()
	cluster, problems := spec.Load(t.Context(), dir, spec.Options{})
	if cluster == nil || problems.Failed() {
		t.Fatalf("load: %v", problems)
	}
	return cluster
}

// TestGolden holds previews against testdata. The first line of a case names
// the preview and the stacks; then come the project's files, and under want/
// the files of the bundle that it wants to see, or problems.txt.
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
				write(t, filepath.Join(dir, f.Name), f.Data)
			}
			got := outcome(t, load(t, dir), arguments(t, archive))
			if *update {
				archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return strings.HasPrefix(f.Name, "want/") })
				for _, f := range got {
					if _, named := want[f.Path]; named || f.Path == "problems.txt" {
						archive.Files = append(archive.Files, txtar.File{Name: "want/" + f.Path, Data: f.Content})
					}
				}
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if len(want) == 0 {
				t.Fatal("the case wants nothing")
			}
			for path, content := range want {
				i := slices.IndexFunc(got, func(f bundle.File) bool { return f.Path == path })
				if i < 0 {
					t.Errorf("there is no %s", path)
				} else if !bytes.Equal(got[i].Content, content) {
					t.Errorf("%s differs; run with -update and read the difference\n%s", path, got[i].Content)
				}
			}
		})
	}
}

func arguments(t *testing.T, archive *txtar.Archive) preview.Options {
	t.Helper()
	first, _, _ := strings.Cut(string(archive.Comment), "\n")
	words := strings.Fields(first)
	if len(words) < 2 {
		t.Fatalf("%q names no preview and stack", first)
	}
	o := preview.Options{Name: stack.PreviewName(words[0]), Expires: expires}
	for _, name := range words[1:] {
		o.Stacks = append(o.Stacks, stack.Name(name))
	}
	return o
}

// outcome is the bundle, and problems.txt where something is found.
func outcome(t *testing.T, c *stack.Cluster, o preview.Options) []bundle.File {
	t.Helper()
	before := files(t, c)
	out, found := preview.Add(c, o)
	var text bytes.Buffer
	for _, p := range found {
		fmt.Fprintf(&text, "%s %s\n    %s\n", p.Severity, p, p.Remedy)
	}
	problems := bundle.File{Path: "problems.txt", Content: text.Bytes()}
	if found.Failed() {
		return []bundle.File{problems}
	}
	if failed := errorsOf(check.Run(out)); len(failed) > 0 {
		t.Fatalf("the preview breaks rules: %v", failed)
	}
	b, err := expand.Expand(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Encode(); err != nil {
		t.Fatal(err)
	}
	for name, err := range b.Validate() {
		t.Errorf("%s: %v", name, err)
	}
	if after := files(t, c); !slices.EqualFunc(before, after, func(x, y bundle.File) bool { return bytes.Equal(x.Content, y.Content) }) {
		t.Error("the cluster itself changed")
	}
	if len(found) > 0 {
		return append(b.Files, problems)
	}
	return b.Files
}

func files(t *testing.T, c *stack.Cluster) []bundle.File {
	t.Helper()
	b, err := expand.Expand(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Encode(); err != nil {
		t.Fatal(err)
	}
	return b.Files
}

func errorsOf(list problem.List) problem.List {
	return slices.DeleteFunc(list, func(p problem.Problem) bool { return p.Severity != problem.Error })
}

func write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// A preview that is there keeps its subnets, and a new one keeps off everything
// that the Swarm has.
func TestSubnets(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "cluster.yaml"), []byte("name: test\nsubnets: {pool: 10.128.0.0/21}\n")) // eight networks
	write(t, filepath.Join(dir, "app/stack.yaml"), []byte("name: app\nservices: {web: {image: \"example.org/web:1\"}}\n"))
	c := load(t, dir)
	subnet := func(taken map[networks.Name]string) netip.Prefix {
		o := preview.Options{Name: "pr-12", Stacks: []stack.Name{"app"}, Expires: expires, Taken: map[networks.Name]netip.Prefix{}}
		for name, prefix := range taken {
			o.Taken[name] = netip.MustParsePrefix(prefix)
		}
		out, problems := preview.Add(c, o)
		if problems.Failed() {
			t.Fatal(problems)
		}
		b, err := expand.Expand(out)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(b.Networks, func(o networks.Overlay) bool { return o.Name == "pr-12-app" })
		return b.Networks[i].Subnet
	}
	for _, own := range []string{"10.128.0.0/24", "10.128.1.0/24", "10.128.2.0/24", "10.128.3.0/24"} {
		if got := subnet(map[networks.Name]string{"pr-12-app": own}); got.String() != own {
			t.Errorf("the preview had %s and gets %s", own, got)
		}
	}
	others := map[networks.Name]string{"pr-11-app": "10.128.0.0/24", "somebody": "10.128.1.0/24", "ingress": "10.0.0.0/24"}
	for name, first := range others { // what the preview would have alone
		others[name] = subnet(nil).String()
		if got := subnet(others); got.String() == others[name] {
			t.Errorf("the preview gets %s, which %s has", got, name)
		}
		others[name] = first
	}
}
