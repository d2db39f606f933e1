package swarmjob

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// The guide names the Endpoints, for who opens a docker proxy to them.
func TestEndpointsAreDocumented(t *testing.T) {
	guide, err := os.ReadFile("../../../docs/guides/control-plane.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(guide), "### What a worker asks of Docker\n")
	text, _, _ = strings.Cut(text, "\n### ")
	var documented []string
	for line := range strings.Lines(text) {
		if list, ok := strings.CutPrefix(line, "    "); ok {
			documented = append(documented, strings.Split(strings.TrimSpace(list), ", ")...)
		}
	}
	if !slices.Equal(documented, Endpoints) {
		t.Errorf("the guide has %q, Endpoints are %q", documented, Endpoints)
	}
}
