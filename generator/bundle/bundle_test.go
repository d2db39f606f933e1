package bundle_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"skep/generator/bundle"
	"skep/generator/problem"
)

func files(pairs ...string) *bundle.Bundle {
	b := &bundle.Bundle{}
	for i := 0; i < len(pairs); i += 2 {
		b.Files = append(b.Files, bundle.File{Path: pairs[i], Content: []byte(pairs[i+1])})
	}
	return b
}

func kinds(changes []bundle.Change) string {
	var out []string
	for _, c := range changes {
		out = append(out, string(c.Kind)+" "+c.Path)
	}
	return strings.Join(out, ", ")
}

func TestWriteMakesTheFolderHoldTheBundle(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "build")
	steps := []struct {
		bundle *bundle.Bundle
		want   string
	}{
		{files("a.yaml", "1", "app/conf", "2", "deploy.sh", "#!/bin/sh\n"), "added a.yaml, added app/conf, added deploy.sh"},
		{files("a.yaml", "1", "app/conf", "2", "deploy.sh", "#!/bin/sh\n"), ""},
		{files("a.yaml", "changed", "b.yaml", "3"), "changed a.yaml, removed app/conf, added b.yaml, removed deploy.sh"},
	}
	for _, step := range steps {
		changes, err := step.bundle.Write(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := kinds(changes); got != step.want {
			t.Errorf("changes %q, want %q", got, step.want)
		}
		if left, err := step.bundle.Compare(dir); err != nil || len(left) > 0 {
			t.Errorf("after writing there is left: %v, %v", left, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "app")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the folder of a stale file is still there")
	}
}

func TestWriteLeavesUnchangedFilesAlone(t *testing.T) {
	dir := t.TempDir()
	if _, err := files("a", "1", "b", "1").Write(dir); err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(filepath.Join(dir, "a"))
	if _, err := files("a", "1", "b", "2").Write(dir); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.Stat(filepath.Join(dir, "a")); !os.SameFile(before, after) {
		t.Error("an unchanged file was replaced")
	}
}

func TestWriteMakesScriptsExecutable(t *testing.T) {
	dir := t.TempDir()
	if _, err := files("deploy.sh", "#!/bin/sh\n", "a", "x").Write(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"deploy.sh": 0o755, "a": 0o644} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
}

func TestWriteRefusesAForeignFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine.txt"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := files("a", "1").Write(dir); !errors.Is(err, bundle.ErrForeignFolder) {
		t.Errorf("error %v, want %v", err, bundle.ErrForeignFolder)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("the folder was written to: %v", entries)
	}
}

// TestWriteKeepsOtherFiles: only what an earlier bundle wrote is stale, also
// when the manifest has been tampered with.
func TestWriteKeepsOtherFiles(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "build")
	if _, err := files("a", "1").Write(dir); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "mine.txt"), filepath.Join(parent, "outside")} {
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	manifest := filepath.Join(dir, bundle.Manifest)
	content, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(manifest, append(content, "0  ../outside\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := files("b", "1").Write(dir); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "mine.txt"), filepath.Join(parent, "outside")} {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s is gone", path)
		}
	}
}

// TestFailedWriteChangesNothing makes staging fail at one file: a folder is in
// its place.
func TestFailedWriteChangesNothing(t *testing.T) {
	dir := t.TempDir()
	if _, err := files("a", "1", "z", "1").Write(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "b.skep-new"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := files("a", "2", "b", "2", "z", "2").Write(dir); err == nil {
		t.Fatal("no error")
	}
	for _, name := range []string{"a", "z"} {
		if content, _ := os.ReadFile(filepath.Join(dir, name)); string(content) != "1" {
			t.Errorf("%s holds %q", name, content)
		}
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".skep-new") && !e.IsDir() {
			t.Errorf("%s was left behind", e.Name())
		}
	}
}

func stackOf(name string, service map[string]any) *bundle.Stack {
	return &bundle.Stack{Name: bundle.Name(name), Compose: func() bundle.Compose {
		return bundle.Compose{"version": "3.8", "services": map[string]any{"web": service}}
	}}
}

// TestValidateNamesTheStack: one refused stack among good ones is named, and
// the good ones are not.
func TestValidateNamesTheStack(t *testing.T) {
	good := map[string]any{"image": "a:1", "labels": map[string]any{"price": "$5"}}
	tests := map[string]map[string]any{
		"unknown key": {"image": "a:1", "imagee": "b"},
		"wrong type":  {"image": []any{"a"}},
		"bad port":    {"image": "a:1", "ports": []any{map[string]any{"target": "x"}}},
		"forbidden":   {"image": "a:1", "mem_limit": "1g"},
		"bad value":   {"image": "a:1", "deploy": map[string]any{"resources": map[string]any{"limits": map[string]any{"memory": "much"}}}},
	}
	for name, service := range tests {
		t.Run(name, func(t *testing.T) {
			b := &bundle.Bundle{Stacks: []*bundle.Stack{stackOf("one", good), stackOf("two", service), stackOf("three", good)}}
			refused := b.Validate()
			if len(refused) != 1 || refused["two"] == nil {
				t.Errorf("refused %v, want two", refused)
			}
		})
	}
	if refused := (&bundle.Bundle{Stacks: []*bundle.Stack{stackOf("one", good)}}).Validate(); len(refused) > 0 {
		t.Errorf("refused %v", refused)
	}
	if refused := (&bundle.Bundle{}).Validate(); len(refused) > 0 {
		t.Errorf("an empty bundle is refused: %v", refused)
	}
}

// TestValidateKeepsLargeStacksWhole validates a stack that is loaded in parts.
func TestValidateKeepsLargeStacksWhole(t *testing.T) {
	services := map[string]any{}
	for i := range 100 {
		services[fmt.Sprintf("app%d", i)] = map[string]any{"image": "a:1", "networks": []any{"shared"}, "configs": []any{"conf"}}
	}
	content := bundle.Compose{
		"version": "3.8", "services": services,
		"networks": map[string]any{"shared": map[string]any{"external": true}}, "configs": map[string]any{"conf": map[string]any{"file": "a/conf"}},
	}
	large := &bundle.Stack{Name: "large", Compose: func() bundle.Compose { return content }}
	b := &bundle.Bundle{Stacks: []*bundle.Stack{large, stackOf("small", map[string]any{"image": "a:1"})}}
	if refused := b.Validate(); len(refused) > 0 || large.Loaded != nil {
		t.Fatalf("refused %v, kept %v", refused, large.Loaded)
	}
	b.Keep = true
	if refused := b.Validate(); len(refused) > 0 {
		t.Fatal(refused)
	}
	loaded := map[string]bool{}
	for _, s := range large.Loaded.Services {
		loaded[s.Name] = true
	}
	if len(large.Loaded.Services) != 100 || len(loaded) != 100 || len(large.Loaded.Networks) != 1 || len(large.Loaded.Configs) != 1 {
		t.Errorf("%d services of %d names, %v, %v", len(large.Loaded.Services), len(loaded), large.Loaded.Networks, large.Loaded.Configs)
	}
	if len(b.Stacks[1].Loaded.Services) != 1 {
		t.Errorf("the small stack has %v", b.Stacks[1].Loaded.Services)
	}
	services["app99"] = map[string]any{"image": "a:1", "deploy": map[string]any{"resources": map[string]any{"limits": map[string]any{"memory": "much"}}}}
	if refused := b.Validate(); len(refused) != 1 || refused["large"] == nil {
		t.Errorf("refused %v, want large", refused)
	}
}

// TestEncodeSurvivesYAML writes values that YAML likes to read as something
// else, and reads them back as Docker does, interpolation included.
func TestEncodeSurvivesYAML(t *testing.T) {
	values := []string{
		"", " ", "yes", "no", "on", "off", "null", "~", "1", "1.0", "0x1f", "0777", "1e3", "2024-01-01", "12:30", "a: b", "a #b", "- a",
		"*a", "&a", "!a", "%a", "@a", "`a", "{a}", "[a]", "'", "\"", "\\", "a\nb", "a\n", "\na", "\ta", " a ", "$", "$$", "${A}", "é", "🐝", "\u2028", "=", "<<",
	}
	environment := map[string]any{}
	for i, v := range values {
		environment["V"+string(rune('A'+i/26))+string(rune('A'+i%26))] = v
	}
	s := stackOf("one", map[string]any{"image": "a:1", "environment": environment})
	content, err := s.Compose().Encode(s.Source)
	if err != nil {
		t.Fatal(err)
	}
	got := dockerEnvironment(t, content)
	for name, want := range environment {
		if got[name] != want {
			t.Errorf("%s is %q after Docker read it, want %q", name, got[name], want)
		}
	}
}

func TestOriginsFallBackToParents(t *testing.T) {
	origins := bundle.Origins{}
	at := func(line int) bundle.Origin { return bundle.Origin{Pos: problem.Position{File: "f", Line: line}} }
	origins.Set(at(1), "services", "web")
	origins.Set(at(2), "services", "web", "image")
	origins.Set(at(3), "services", "web", "image") // the first stays
	for path, want := range map[string]int{"services/web": 1, "services/web/image": 2, "services/web/deploy/labels": 1} {
		if got, ok := origins.At(strings.Split(path, "/")...); !ok || got.Pos.Line != want {
			t.Errorf("%s comes from line %d, want %d", path, got.Pos.Line, want)
		}
	}
	if _, ok := origins.At("networks"); ok {
		t.Error("an origin for what has none")
	}
}

func TestLabelSetsAreSorted(t *testing.T) {
	labelled := map[string]any{"deploy": map[string]any{"labels": map[string]any{"caddy": "a"}}}
	b := &bundle.Bundle{Stacks: []*bundle.Stack{stackOf("z", labelled), stackOf("a", labelled), stackOf("m", map[string]any{})}}
	var got []string
	for _, set := range b.LabelSets() {
		got = append(got, set.Service.String())
	}
	if !slices.Equal(got, []string{"a/web", "z/web"}) {
		t.Errorf("label sets %v", got)
	}
}
