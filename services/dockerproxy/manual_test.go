package dockerproxy

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of the manual")

const manual = "../../docs/guides/docker-proxy.md"

// TestManual holds that the manual's table of variables is that of the code.
func TestManual(t *testing.T) {
	page, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "-update -->\n", "<!-- end -->"
	head, rest, ok := strings.Cut(string(page), begin)
	_, tail, found := strings.Cut(rest, end)
	if !ok || !found {
		t.Fatalf("%s has no place for the table", manual)
	}
	want := head + begin + table() + end + tail
	if want == string(page) {
		return
	}
	if !*update {
		t.Fatalf("%s is stale: run go test ./services/dockerproxy -run TestManual -update", manual)
	}
	if err := os.WriteFile(manual, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func table() string {
	var b strings.Builder
	var group Group
	for _, v := range Variables {
		if v.Group != group {
			group = v.Group
			fmt.Fprintf(&b, "\n### %s\n\n| variable | default | opens or sets |\n|---|---|---|\n", group)
		}
		value := ""
		if v.Default != "" {
			value = "`" + v.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", v.Name, value, v.Doc)
	}
	return b.String() + "\n"
}

// Every switch is one that a route needs, or that FromEnv reads.
func TestVariablesAreUsed(t *testing.T) {
	used := map[string]bool{"POST": true, "ALLOW": true}
	for _, list := range routes {
		for _, r := range list {
			for _, name := range append(r.needs, r.alone) {
				used[name] = true
			}
		}
	}
	known := map[string]bool{"": true}
	for _, v := range Variables {
		known[v.Name] = true
		if policy := v.Group == Sections || v.Group == Parts || v.Group == Writes; policy && !used[v.Name] {
			t.Errorf("%s opens nothing", v.Name)
		}
	}
	for name := range used {
		if !known[name] {
			t.Errorf("a route needs %s, which nobody can set", name)
		}
	}
}
