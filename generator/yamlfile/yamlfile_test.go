package yamlfile_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/goccy/go-yaml/ast"

	"skep/generator/yamlfile"
)

func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		content      string
		kind         yamlfile.Kind
		line, column int
	}{
		"large":                      {strings.Repeat(" ", yamlfile.MaxSize+1), yamlfile.TooLarge, 1, 1},
		"binary":                     {"a: \x00", yamlfile.NotText, 1, 1},
		"Latin-1":                    {"a: caf\xe9", yamlfile.NotText, 1, 1},
		"empty":                      {"", yamlfile.NoContent, 1, 1},
		"comments":                   {"# a\n# b\n", yamlfile.NoContent, 1, 1},
		"null":                       {"null", yamlfile.NoContent, 1, 1},
		"tab":                        {"a:\n\tb: 1\n", yamlfile.Tab, 2, 1},
		"syntax":                     {"a: 1\nb: {c: [}\n", yamlfile.Syntax, 2, 9},
		"keys":                       {keys(yamlfile.MaxKeys+1, ""), yamlfile.TooMany, yamlfile.MaxKeys + 1, 1},
		"keys below":                 {"a: 1\nb:\n" + keys(yamlfile.MaxKeys+1, "  "), yamlfile.TooMany, yamlfile.MaxKeys + 3, 1},
		"key twice":                  {"a: 1\nb: 2\na: 3\n", yamlfile.Twice, 3, 1},
		"second":                     {"a: 1\n---\nb: 1\n", yamlfile.Second, 3, 2},
		"blocks":                     {"a: 1\n" + strings.Repeat("- ", 100), yamlfile.TooDeep, 2, 1},
		"brackets":                   {"a: 1\nb: " + strings.Repeat("[", 1000), yamlfile.TooDeep, 2, 1},
		"brackets closed on a line":  {"a: 1\nb: " + strings.Repeat("[", 1000) + strings.Repeat("]", 1000), yamlfile.TooDeep, 2, 1},
		"brackets opened over lines": {strings.Repeat("[\n", 1000), yamlfile.TooDeep, 257, 1},
	} {
		t.Run(name, func(t *testing.T) {
			_, fault := yamlfile.Parse([]byte(c.content))
			if fault == nil {
				t.Fatal("no fault")
			}
			if fault.Kind != c.kind || fault.Line != c.line || fault.Column != c.column || fault.Message == "" || strings.ContainsAny(fault.Message, "\n\x00") {
				t.Errorf("got %+v", *fault)
			}
		})
	}
}

func keys(n int, indent string) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, "%sk%d: 1\n", indent, i)
	}
	return out.String()
}

// Text of many lines is no mapping, nor are many small mappings one large one.
func TestLongFiles(t *testing.T) {
	for name, content := range map[string]string{
		"literal": "a: |  # why\n" + keys(2*yamlfile.MaxKeys, "  ") + "b: >-\n" + keys(2*yamlfile.MaxKeys, " "),
		"list":    "a:\n" + strings.Repeat("  - b: 1\n    c: 2\n", yamlfile.MaxKeys),
		"nested":  strings.ReplaceAll(keys(1000, ""), ": 1\n", ":\n"+keys(20, "  ")),
	} {
		t.Run(name, func(t *testing.T) {
			if _, fault := yamlfile.Parse([]byte(content)); fault != nil {
				t.Error(*fault)
			}
		})
	}
}

func TestParse(t *testing.T) {
	for name, content := range map[string]string{
		"plain":           "a: 1\n",
		"marked as UTF-8": "\ufeffa: 1\n",
		"framed":          "---\na: 1\n...\n",
		"commented":       "# a\na: 1\n---\n# nothing more\n",
		"Windows":         "a: 1\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			body, fault := yamlfile.Parse([]byte(content))
			if fault != nil {
				t.Fatal(*fault)
			}
			pair, ok := body.(*ast.MappingNode)
			if !ok {
				t.Fatalf("got a %T", body)
			}
			if key, ok := yamlfile.Key(pair.Values[0].Key); !ok || key != "a" {
				t.Errorf("the key is %q, %v", key, ok)
			}
			if value, ok := yamlfile.Scalar(pair.Values[0].Value); !ok || value != 1 {
				t.Errorf("the value is %v, %v", value, ok)
			}
		})
	}
}
