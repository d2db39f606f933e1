package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"skep/services/ingress/label"
)

var update = flag.Bool("update", false, "write the tables of the manual")

const manual = "../../docs/guides/ingress.md"

// TestManual holds that the manual's tables are those of the code.
func TestManual(t *testing.T) {
	page, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	want := string(page)
	for name, table := range map[string]string{"policy": policyTable(), "rules": rulesTable(), "settings": settingsTable()} {
		begin, end := "<!-- "+name+": written by go test ./cmd/skep-ingress -run TestManual -update -->\n", "<!-- end -->"
		head, rest, ok := strings.Cut(want, begin)
		_, tail, found := strings.Cut(rest, end)
		if !ok || !found {
			t.Fatalf("%s has no place for %s", manual, name)
		}
		want = head + begin + "\n" + table + "\n" + end + tail
	}
	switch {
	case want == string(page):
	case !*update:
		t.Fatalf("%s is stale: run go test ./cmd/skep-ingress -run TestManual -update", manual)
	default:
		if err := os.WriteFile(manual, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func policyTable() string {
	var b strings.Builder
	b.WriteString("| permission | for example | opens |\n|---|---|---|\n")
	for _, p := range label.Permissions {
		fmt.Fprintf(&b, "| `%s` | `%[1]s:%s` | %s |\n", p.Kind, p.Example, p.Doc)
	}
	return b.String()
}

func rulesTable() string {
	var b strings.Builder
	b.WriteString("| rule | what |\n|---|---|\n")
	for _, r := range label.Rules {
		fmt.Fprintf(&b, "| `%s` | %s |\n", r.Rule, r.Doc)
	}
	return b.String()
}

func settingsTable() string {
	var b strings.Builder
	b.WriteString("| flag | variable | default | says |\n|---|---|---|---|\n")
	for _, o := range options {
		standard := ""
		if o.standard != "" {
			standard = "`" + o.standard + "`"
		}
		fmt.Fprintf(&b, "| `--%s` | `%s` | %s | %s |\n", o.flag, o.variable, standard, o.usage)
	}
	return b.String()
}
