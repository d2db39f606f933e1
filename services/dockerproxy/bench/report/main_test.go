package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReport holds that the report measures all that it promises; what it
// measures is another matter.
func TestReport(t *testing.T) {
	if _, err := exec.LookPath("haproxy"); err != nil {
		if os.Getenv("SKEP_NO_SKIP") == "1" {
			t.Fatal("the report needs haproxy")
		}
		t.Skip("the report needs haproxy")
	}
	file := filepath.Join(t.TempDir(), "section.md")
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"-rounds", "1", "-time", "100ms", "-o", file}, nil, &stderr); code != 0 {
		t.Fatalf("got exit code %d: %s", code, stderr.String())
	}
	section, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for subject, want := range map[string]int{"| no proxy |": 3, "| HAProxy |": 3, "| skep-dockerproxy, values shown |": 3, "| skep-dockerproxy |": 3} {
		if got := strings.Count(string(section), subject); got != want {
			t.Errorf("%d rows %s, want %d, in\n%s", got, subject, want, section)
		}
	}
	if !strings.HasPrefix(string(section), "## Docker proxy\n") {
		t.Errorf("no heading: %.40s", section)
	}
}

func TestUsage(t *testing.T) {
	if code := run(t.Context(), []string{"-nope"}, nil, &bytes.Buffer{}); code != 2 {
		t.Errorf("got exit code %d, want 2", code)
	}
}
