package spec

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/schema"
)

type object = map[string]any

// shortForms are the short spellings of types whose shorthand method takes
// them, as JSON Schemas.
var shortForms = map[reflect.Type][]any{
	reflect.TypeFor[stringList]():  {object{"type": "string"}},
	reflect.TypeFor[ingressList](): {ref(reflect.TypeFor[ingress]())},
	reflect.TypeFor[auth]():        {object{"type": "boolean"}, object{"enum": []any{"sso", "none"}}},
	reflect.TypeFor[rate]():        {object{"type": "string", "pattern": `^[0-9]+/[0-9a-z]+$`}},
	reflect.TypeFor[health]():      {object{"type": "string"}},
	reflect.TypeFor[maintenance](): {object{"type": "boolean"}},
	reflect.TypeFor[dockerAPI]():   {object{"type": "array", "items": object{"enum": anyStrings(DockerSections)}}},
	reflect.TypeFor[file]():        {object{"type": "string", "pattern": "^[^:]+:/.+$"}},
	reflect.TypeFor[job]():         {object{"const": true}},
	reflect.TypeFor[pin]():         {object{"type": "string"}, object{"type": "array", "items": object{"type": "string"}}},
	reflect.TypeFor[homepage]():    {object{"type": "boolean"}},
	reflect.TypeFor[monitor]():     {object{"type": "boolean"}},
	reflect.TypeFor[metrics]():     {object{"type": "integer"}},
}

func ref(t reflect.Type) any { return object{"$ref": "#/definitions/skep-" + t.Name()} }

func anyStrings(in []string) []any {
	out := make([]any, len(in))
	for i, s := range in {
		out[i] = s
	}
	return out
}

// schemas collects the definitions of the file types.
type schemas struct{ definitions object }

func (s *schemas) of(t reflect.Type) any {
	if t.Kind() == reflect.Pointer {
		return s.of(t.Elem())
	}
	switch t {
	case reflect.TypeFor[duration]():
		return object{"type": "string", "pattern": `^([0-9.]+(ns|us|ms|s|m|h))+$`}
	case reflect.TypeFor[byteSize]():
		return object{"type": []any{"string", "integer"}}
	}
	var long any
	switch t.Kind() {
	case reflect.Struct:
		name := "skep-" + t.Name()
		if _, ok := s.definitions[name]; !ok {
			s.definitions[name] = object{} // against types that hold themselves
			s.definitions[name] = s.alternatives(t, s.structure(t))
		}
		return ref(t)
	case reflect.Slice:
		long = object{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		long = object{"type": "object", "additionalProperties": s.of(t.Elem())}
		if t.Elem().Kind() == reflect.String {
			long = object{"type": "object", "additionalProperties": object{"type": []any{"string", "number", "boolean"}}}
		}
	case reflect.Bool:
		long = object{"type": "boolean"}
	case reflect.Int, reflect.Int64, reflect.Uint16, reflect.Uint64:
		long = object{"type": "integer"}
	case reflect.String:
		long = object{"type": []any{"string", "number", "boolean"}}
	default:
		long = object{}
	}
	return s.alternatives(t, long)
}

func (s *schemas) alternatives(t reflect.Type, long any) any {
	short, ok := shortForms[t]
	if !ok {
		return long
	}
	return object{"anyOf": append([]any{long}, short...)}
}

func (s *schemas) structure(t reflect.Type) object {
	properties, required := s.properties(t)
	out := object{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

func (s *schemas) properties(t reflect.Type) (properties object, required []any) {
	properties = object{}
	fields := fieldsOf(t)
	for _, key := range fields.keys {
		f := fields.byKey[key]
		p := s.of(f.typ)
		if len(f.enum) > 0 {
			p = object{"enum": anyStrings(f.enum)}
		}
		text := f.doc
		if f.def != "" {
			text += " Default: " + f.def + "."
		}
		// A $ref hides its neighbours in older drafts, so it stands apart.
		property := object{"allOf": []any{p}, "description": text}
		if f.example != "" {
			property["examples"] = []any{f.example}
		}
		properties[key] = property
		if f.required {
			required = append(required, key)
		}
	}
	return properties, required
}

// ClusterSchema is the JSON Schema of cluster.yaml.
func ClusterSchema() ([]byte, error) {
	s := &schemas{definitions: object{}}
	out := s.structure(reflect.TypeFor[clusterFile]())
	out["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	out["title"] = "Skep cluster file"
	out["patternProperties"] = object{"^x-": object{}}
	out["definitions"] = s.definitions
	return json.MarshalIndent(out, "", "  ")
}

// StackSchema is the JSON Schema of a stack file: the Compose specification's
// own with Skep's keys beside it.
func StackSchema() ([]byte, error) {
	var out object
	if err := json.Unmarshal([]byte(schema.Schema), &out); err != nil {
		return nil, fmt.Errorf("read the Compose schema: %w", err)
	}
	definitions, _ := out["definitions"].(object)
	key := "definitions"
	if definitions == nil {
		definitions, _ = out["$defs"].(object)
		key = "$defs"
	}
	service, _ := definitions["service"].(object)
	root, _ := out["properties"].(object)
	if service == nil || root == nil {
		return nil, fmt.Errorf("the Compose schema has no service definition")
	}
	s := &schemas{definitions: object{}}
	top, _ := s.properties(stackKeysType)
	for k, v := range top {
		root[k] = v
	}
	properties, _ := service["properties"].(object)
	own, _ := s.properties(serviceKeysType)
	for k, v := range own {
		properties[k] = v
	}
	for k, v := range s.definitions {
		definitions[k] = v
	}
	out["title"] = "Skep stack file"
	delete(out, "$id")
	text, err := json.MarshalIndent(out, "", "  ")
	if key != "definitions" {
		text = []byte(strings.ReplaceAll(string(text), "#/definitions/skep-", "#/"+key+"/skep-"))
	}
	return text, err
}

// KeysReference is the page that describes every key of both files.
func KeysReference() string {
	var out strings.Builder
	out.WriteString("# Keys\n\nEvery key that Skep reads, made from the code that reads them. All else in a stack file is\n" +
		"[Compose](https://docs.docker.com/reference/compose-file/).\n\n- [Stack file](#stack-file)\n- [Service](#service)\n- [Cluster file](#cluster-file)\n\n")
	p := &page{out: &out, done: map[reflect.Type]bool{}}
	p.section("Stack file", "At the top level of `stack.yaml`, beside Compose's own keys.", stackKeysType)
	p.section("Service", "In a service of `stack.yaml`, beside Compose's own keys.", serviceKeysType)
	p.section("Cluster file", "The keys of `cluster.yaml`.", reflect.TypeFor[clusterFile]())
	return strings.TrimRight(out.String(), "\n") + "\n"
}

type page struct {
	out  *strings.Builder
	done map[reflect.Type]bool
}

func (p *page) section(title, intro string, t reflect.Type) {
	fmt.Fprintf(p.out, "## %s\n\n%s\n\n", title, intro)
	p.table(t)
	p.below(t, "")
}

func (p *page) table(t reflect.Type) {
	p.out.WriteString("| key | says | default | example |\n|---|---|---|---|\n")
	fields := fieldsOf(t)
	for _, key := range fields.keys {
		f := fields.byKey[key]
		doc := f.doc
		if len(f.enum) > 0 {
			doc += " One of `" + strings.Join(f.enum, "`, `") + "`."
		}
		def := f.def
		if f.required {
			def = "**required**"
		}
		example := ""
		if f.example != "" {
			example = "`" + f.example + "`"
		}
		fmt.Fprintf(p.out, "| `%s` | %s | %s | %s |\n", key, cell(doc), cell(def), cell(example))
	}
	p.out.WriteString("\n")
}

// below describes the mappings that keys of t hold.
func (p *page) below(t reflect.Type, prefix string) {
	fields := fieldsOf(t)
	for _, key := range fields.keys {
		inner := fields.byKey[key].typ
		name := prefix + key
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice || inner.Kind() == reflect.Map {
			if inner.Kind() == reflect.Map {
				name += ".NAME"
			}
			inner = inner.Elem()
		}
		if inner.Kind() != reflect.Struct || p.done[inner] {
			continue
		}
		p.done[inner] = true
		fmt.Fprintf(p.out, "### `%s`\n\n", name)
		p.table(inner)
		p.below(inner, name+".")
	}
}

func cell(s string) string {
	if _, err := strconv.Atoi(s); err == nil {
		return "`" + s + "`"
	}
	return strings.ReplaceAll(s, "|", `\|`)
}
