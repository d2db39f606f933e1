package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
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
	section, err := measure(t.Context(), 1, 100*time.Millisecond, t.Output())
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
