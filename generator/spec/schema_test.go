package spec

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// compile proves that what editors are given is a schema.
func compile(t *testing.T, text []byte) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSchemasAgreeWithDecoder(t *testing.T) {
	stackSchema, err := StackSchema()
	if err != nil {
		t.Fatal(err)
	}
	clusterSchema, err := ClusterSchema()
	if err != nil {
		t.Fatal(err)
	}
	stacks, clusters := compile(t, stackSchema), compile(t, clusterSchema)
	service := func(keys string) string {
		return "name: a\nservices:\n  s:\n    image: x:1\n    " + keys + "\n"
	}
	tests := []struct {
		name   string
		schema *jsonschema.Schema
		text   string
		valid  bool
	}{
		{"one route", stacks, service("x-ingress: {host: a, port: 80}"), true},
		{"routes", stacks, service("x-ingress: [{host: a, port: 80, auth: none, rate: 5/1s, health: /}]"), true},
		{"unknown key of a route", stacks, service("x-ingress: {hots: a, port: 80}"), false},
		{"port is a word", stacks, service("x-ingress: {host: a, port: http}"), false},
		{"no port", stacks, service("x-ingress: {host: a}"), false},
		{"docker API list", stacks, service("x-docker-api: [containers]"), true},
		{"docker API section", stacks, service("x-docker-api: [container]"), false},
		{"docker API write", stacks, service(`x-docker-api: {read: [services], write: ["POST /services/{id}/update"]}`), true},
		{"pins", stacks, service("x-pin: node1"), true},
		{"files", stacks, service(`x-files: ["a:/b", {content: x, target: /c}]`), true},
		{"homepage off", stacks, service("x-homepage: false"), true},
		{"foreign key", stacks, service("x-somebody: {a: 1}"), true},
		{"cluster", clusters, "name: a\nzones: {z: {domain: example.com}}", true},
		{"cluster without a name", clusters, "zones: {}", false},
		{"zone without a domain", clusters, "name: a\nzones: {z: {private: true}}", false},
		{"unknown cluster key", clusters, "name: a\nzone: {}", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			doc, problems := parseDocument([]byte(test.text), "f.yaml")
			if problems.Failed() {
				t.Fatal(problems)
			}
			if err := test.schema.Validate(doc.values); (err == nil) != test.valid {
				t.Errorf("valid = %v, want %v: %v", err == nil, test.valid, err)
			}
		})
	}
}

func TestKeysReferenceNamesEveryKey(t *testing.T) {
	reference := KeysReference()
	source, err := os.ReadFile("keys.go")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(source)) {
		_, rest, ok := strings.Cut(line, "`yaml:\"")
		key, _, _ := strings.Cut(rest, "\"")
		if ok && !strings.HasPrefix(key, ",") && !strings.Contains(reference, "`"+key+"`") {
			t.Errorf("key %s is not in the reference", key)
		}
	}
}

// TestComposeSchemaIsValid holds Compose's schema against the schema of schemas,
// which is not done at run time.
func TestComposeSchemaIsValid(t *testing.T) {
	compile(t, []byte(schema.Schema))
}
