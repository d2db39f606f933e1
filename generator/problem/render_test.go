package problem_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"skep/generator/problem"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var (
	ruleKey    = problem.Rule{ID: "unknown-key", Severity: problem.Error, Title: "Unknown key", Doc: "Skep does not know it.\n\n## Fix\n\nCorrect it."}
	ruleLimits = problem.Rule{ID: "missing-limits", Severity: problem.Warning, Title: "No memory limit", Doc: "It may take all.\n\nSet one."}
)

func sample() problem.List {
	return problem.List{
		ruleKey.At(problem.Position{File: "cluster.yaml"}, "as a whole"),
		ruleKey.At(problem.Position{File: "web/stack.yaml", Line: 3, Column: 5}, "unknown key %q", "prot").WithRemedy("did you mean %q?", "port"),
		ruleLimits.At(problem.Position{File: "web/stack.yaml", Line: 5, Column: 2}, "web may take all memory").WithRemedy("set one,\nor a default"),
		{Position: problem.Position{File: "a b/ünïcode#1.yaml", Line: 1, Column: 1}, Rule: "unlisted", Severity: problem.Error, Message: "bell \a rings", Subject: "web/app"},
	}
}

func TestTextOfPlainLines(t *testing.T) {
	var out bytes.Buffer
	text := problem.Text{Path: func(f string) string { return "stacks/" + f }}
	if err := text.Write(&out, sample()); err != nil {
		t.Fatal(err)
	}
	want := `stacks/cluster.yaml: unknown-key: as a whole
stacks/web/stack.yaml:3:5: unknown-key: unknown key "prot"
    did you mean "port"?
stacks/web/stack.yaml:5:2: missing-limits: web may take all memory (warning)
    set one,
    or a default
stacks/a b/ünïcode#1.yaml:1:1: unlisted: bell ` + "\uFFFD" + ` rings
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestTextForATerminalShowsTheSource(t *testing.T) {
	source := "services:\n  web:\n    prot: 80\n\n\tdeep: {}\n"
	var out bytes.Buffer
	text := problem.Text{Color: true, Source: func(file string) ([]byte, error) {
		if file != "web/stack.yaml" {
			return nil, errors.New("not there")
		}
		return []byte(source), nil
	}}
	if err := text.Write(&out, sample()); err != nil {
		t.Fatal(err)
	}
	plain := out.String()
	for _, code := range []string{"0", "1", "2", "31", "33"} {
		plain = strings.ReplaceAll(plain, "\x1b["+code+"m", "")
	}
	for _, want := range []string{
		"    3 |     prot: 80\n      |     ^^^^\n",
		"    5 | \tdeep: {}\n      | \t^^^^\n",
		"as a whole\n\nweb/stack.yaml:3:5", // a blank line between files
	} {
		if !strings.Contains(plain, want) {
			t.Errorf("no %q in\n%s", want, plain)
		}
	}
}

// A file may have changed, or may not be text, by the time that it is shown.
func TestTextSurvivesAnySource(t *testing.T) {
	for name, source := range map[string]string{
		"empty": "", "shorter": "a\nb", "binary": "\x00\xff\xfe", "long line": "\n\n" + strings.Repeat("x", 1<<20), "control": "\n\n\x1b]0;owned\a: 1",
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			text := problem.Text{Color: true, Source: func(string) ([]byte, error) { return []byte(source), nil }}
			if err := text.Write(&out, sample()); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(out.String(), "\x1b]0;") || out.Len() > 4096 {
				t.Errorf("got %q", out.String()[:min(out.Len(), 4096)])
			}
		})
	}
}

func TestSummary(t *testing.T) {
	for _, c := range []struct {
		list   problem.List
		stacks int
		want   string
	}{
		{nil, 12, "no problems in 12 stacks"},
		{sample(), 12, "3 errors, 1 warning in 12 stacks"},
		{sample()[:1], 1, "1 error in 1 stack"},
		{sample()[2:3], 0, "1 warning in 0 stacks"},
	} {
		if got := c.list.Summary(c.stacks); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestSARIF(t *testing.T) {
	got, err := sample().SARIF([]problem.Rule{ruleKey, ruleLimits}, "1.2.3", func(f string) string { return "stacks/" + f })
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/problems.sarif"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s\n(-update rewrites it)", got, want)
	}
	validateSARIF(t, got)

	empty, err := problem.List(nil).SARIF(nil, "1.2.3", func(f string) string { return f })
	if err != nil {
		t.Fatal(err)
	}
	validateSARIF(t, empty) // `results: null` would say that the tool did not run
	if !bytes.Contains(empty, []byte(`"results": []`)) {
		t.Errorf("got %s", empty)
	}
}

// validateSARIF holds a log against the schema of OASIS
// (https://github.com/oasis-tcs/sarif-spec).
func validateSARIF(t *testing.T, log []byte) {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile("testdata/sarif-schema-2.1.0.json")
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(log))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(value); err != nil {
		t.Error(err)
	}
}
