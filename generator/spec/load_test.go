package spec_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"skep/generator/problem"
	"skep/generator/spec"
)

var update = flag.Bool("update", false, "rewrite the wanted problems")

// TestProblems holds the loader's complaints against testdata/problems: a
// project's files in, and in want.txt the problems with their remedies.
func TestProblems(t *testing.T) {
	cases, err := filepath.Glob("testdata/problems/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir, want := project(t, archive)
			_, problems := spec.Load(t.Context(), dir, spec.Options{KnownRules: []string{"missing-limits"}})
			got := text(problems)
			if *update {
				archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return f.Name == "want.txt" })
				archive.Files = append(archive.Files, txtar.File{Name: "want.txt", Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("problems:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// project writes an archive to disk. The file LINKS makes symbolic links:
// "name -> target" a line.
func project(t *testing.T, archive *txtar.Archive) (dir, want string) {
	t.Helper()
	dir = t.TempDir()
	for _, f := range archive.Files {
		switch f.Name {
		case "want.txt":
			want = string(f.Data)
		case "LINKS":
			for line := range strings.Lines(string(f.Data)) {
				name, target, _ := strings.Cut(strings.TrimSpace(line), " -> ")
				if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		default:
			write(t, filepath.Join(dir, f.Name), f.Data)
		}
	}
	return dir, want
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

func text(problems problem.List) string {
	var out strings.Builder
	for _, p := range problems {
		fmt.Fprintln(&out, p)
		if p.Remedy != "" {
			fmt.Fprintf(&out, "    %s\n", p.Remedy)
		}
	}
	return out.String()
}

// TestHostileFiles gives the loader files that no archive can hold. Each is
// refused with a problem that names the file.
func TestHostileFiles(t *testing.T) {
	bomb := "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for i, name := range "bcdefghij" {
		before := string(rune('a' + i))
		bomb += fmt.Sprintf("%c: &%c [%s]\n", name, name, strings.TrimSuffix(strings.Repeat("*"+before+", ", 10), ", "))
	}
	tests := map[string][]byte{
		"empty":       {},
		"only spaces": []byte("  \n\n"),
		"binary":      {0x7f, 'E', 'L', 'F', 0, 1, 2},
		"not UTF-8":   {'a', ':', ' ', 0xff, 0xfe},
		"50 MB":       []byte("services: {}\n" + strings.Repeat("# padding\n", 5<<20)),
		"alias bomb":  []byte(bomb + "services: {}\n"),
		"flow depth":  []byte("a: " + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)),
		"open flow":   []byte("a: " + strings.Repeat("{a: ", 50_000)),
		"block depth": []byte(strings.Repeat("- ", 100_000) + "x"),
		"indentation": func() []byte {
			var b strings.Builder
			for i := range 3000 {
				b.WriteString(strings.Repeat(" ", i) + "a:\n")
			}
			return []byte(b.String())
		}(),
		"a list":         []byte("- a\n- b\n"),
		"a scalar":       []byte("hello"),
		"self alias":     []byte("services: &s {a: *s}\n"),
		"tab indent":     []byte("services:\n\ta: 1\n"),
		"unclosed quote": []byte("name: \"abc\nservices: {}\n"),
	}
	for name, content := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "cluster.yaml"), []byte("name: test\n"))
			write(t, filepath.Join(dir, "app/stack.yaml"), content)
			_, problems := spec.Load(t.Context(), dir, spec.Options{})
			if !problems.Failed() {
				t.Fatal("accepted")
			}
			for _, p := range problems {
				if p.File != "app/stack.yaml" || p.Message == "" || len(p.Message) > 300 {
					t.Errorf("problem %.400s", p)
				}
			}
		})
	}
}

// TestSetAsideExtensionsAreTheSame compares the two ways through the Compose
// loader: a file by itself, whose x- keys it never sees, and the same file
// brought in by include.
func TestSetAsideExtensionsAreTheSame(t *testing.T) {
	stack := `
services:
  web:
    image: example.org/web:${TAG:-1}
    ports: ["8080:80"]
    healthcheck: {test: "true", retries: "3"}
    read_only: "true"
    ulimits: {nproc: "10"}
    deploy: {replicas: "2"}
    environment: [A=1, B]
    x-ingress: {host: "${HOST}", port: "80", paths: ["/$$x/*"]}
    x-homepage: {name: "$HOST"}
`
	load := func(files map[string]string) string {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "cluster.yaml"), []byte("name: test\nzones: {z: {domain: example.com}}\n"))
		write(t, filepath.Join(dir, ".env"), []byte("HOST=www\n"))
		write(t, filepath.Join(dir, "ingress/stack.yaml"), []byte("services: {caddy: {image: \"c:1\"}}\n"))
		for name, content := range files {
			write(t, filepath.Join(dir, "app", name), []byte(content))
		}
		cluster, problems := spec.Load(t.Context(), dir, spec.Options{})
		if cluster == nil || problems.Failed() {
			t.Fatal(problems)
		}
		s, _ := cluster.Stack("app")
		service, _ := s.Service("web")
		out, err := service.Compose.MarshalYAML()
		if err != nil {
			t.Fatal(err)
		}
		if r := service.Routes[0]; r.Host != "www.example.com" || r.Port != 80 || r.Paths[0] != "/$x/*" {
			t.Errorf("route %+v", r)
		}
		return fmt.Sprintf("%+v %+v", out, service.Homepage.Name)
	}
	alone := load(map[string]string{"stack.yaml": "name: app\n" + stack})
	included := load(map[string]string{"stack.yaml": "name: app\ninclude: [other.yaml]\n", "other.yaml": stack})
	strip := func(s string) string { // pointers print as addresses
		return regexp.MustCompile(`0x[0-9a-f]+`).ReplaceAllString(s, "pointer")
	}
	if strip(alone) != strip(included) {
		t.Errorf("alone:\n%s\nincluded:\n%s", alone, included)
	}
}

// FuzzLoad feeds any text as a stack file: the loader answers with a model or
// with problems that have a place, and never panics.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		"name: a\nservices:\n  web:\n    image: x:1\n    x-ingress: {host: a, port: 80}\n",
		"services: {a: {image: x, environment: {A: op://v/i/f, B: $X}, x-files: ['a:/b']}}",
		"x-tier: [a]\nservices: {a: &a {image: x}, b: {<<: *a, extends: a}}",
		"services: {a: {image: 1, ports: [80, {target: x}], x-job: true, x-pin: [a, b], x-docker-api: [x]}}",
		"include: [a.yaml]\nservices: !reset {}\n",
		"services:\n  a:\n    image: ${A:?b}\n    x-waive: {a: }\n",
	} {
		f.Add(seed)
	}
	dir := f.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "app"), 0o755); err != nil {
		f.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cluster.yaml"), []byte("name: test\nzones: {z: {domain: example.com}}\n"), 0o644); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(filepath.Join(dir, "app/stack.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		cluster, problems := spec.Load(t.Context(), dir, spec.Options{})
		if cluster == nil || (len(cluster.Stacks) == 0 && !problems.Failed()) {
			t.Fatalf("neither stack nor problem for %q", text)
		}
		for _, p := range problems {
			if p.File == "" || p.Rule == "" || p.Message == "" {
				t.Errorf("problem without place, rule or message: %#v", p)
			}
		}
	})
}
