package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the OpenAPI document")

const golden = "../../../docs/reference/openapi.json"

func TestDocument(t *testing.T) {
	got, err := Document()
	if err != nil {
		t.Fatal(err)
	}
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
		t.Error("docs/reference/openapi.json is of another version: run this test with -update and read the difference")
	}
	if again, err := Document(); err != nil || !bytes.Equal(got, again) {
		t.Errorf("the document differs from one call to the next (%v)", err)
	}
	f := newFakeStore()
	if a := serve(t, f).call(t, "GET", Prefix+"/openapi.json", "", nil); a.body != string(got) {
		t.Error("the server has another document")
	}
}

// TestDocumentSaysWhatMatters to those who generate clients of it.
func TestDocumentSaysWhatMatters(t *testing.T) {
	raw, err := Document()
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		OpenAPI    string `json:"openapi"`
		Components struct {
			Schemas  map[string]json.RawMessage `json:"schemas"`
			Security map[string]struct {
				Type, Scheme string
			} `json:"securitySchemes"`
		} `json:"components"`
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(d.OpenAPI, "3.1") || d.Components.Security[scheme].Type != "http" || d.Components.Security[scheme].Scheme != "bearer" {
		t.Errorf("version %s, security %+v", d.OpenAPI, d.Components.Security)
	}
	for name, schema := range d.Components.Schemas {
		if strings.Contains(string(schema), `"writeOnly"`) && !strings.HasSuffix(name, "Input") && name != "ErrorModel" {
			t.Errorf("%s is an answer with a secret: %s", name, schema)
		}
	}
	for _, name := range []string{"IntegrationInput", "SourceInput"} {
		if !strings.Contains(string(d.Components.Schemas[name]), `"writeOnly": true`) {
			t.Errorf("%s does not say that a secret is written only: %s", name, d.Components.Schemas[name])
		}
	}
	if bytes.Contains(raw, []byte("http://")) || bytes.Count(raw, []byte("https://")) > 3 {
		t.Error("the document leads to other hosts")
	}
}
