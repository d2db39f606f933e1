package spec

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"github.com/sirupsen/logrus"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"skep/generator/problem"
)

// loadCompose turns a stack file into compose-go's project: variables
// interpolated, include, extends and env_file resolved.
func loadCompose(ctx context.Context, doc *document, path, name string, env map[string]string, profiles []string) (*types.Project, problem.List) {
	if hasVariable(doc.values) {
		if problems := unsetVariables(doc, env); len(problems) > 0 {
			return nil, problems
		}
	}
	load := composeLoader{path: path, name: name, env: env, profiles: profiles}
	var project *types.Project
	var err error
	switch {
	case doc.tagged:
		project, err = load.whole(ctx, types.ConfigFile{Filename: path, Content: doc.content})
	case doc.alone():
		project, err = load.alone(ctx, doc.values)
	default:
		project, err = load.whole(ctx, types.ConfigFile{Filename: path, Config: doc.values})
	}
	if err != nil {
		return nil, problem.List{composeProblem(doc, path, err)}
	}
	return project, nil
}

// composeProblem finds the place that one of the loader's errors speaks of.
func composeProblem(doc *document, path string, err error) problem.Problem {
	text := strings.ReplaceAll(withoutPath(err), filepath.Dir(path)+string(filepath.Separator), "")
	text = fromTheFirst(strings.Join(strings.Fields(text), " "))
	text = inBrackets.ReplaceAllString(strings.TrimPrefix(text, "decoding failed due to the following error(s): "), ".$1")
	pos := doc.positions.At()
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(" \"':,", r) }) {
		if keys := strings.Split(word, "."); len(keys) > 1 && doc.positions.Has(keys[0]) {
			pos = doc.positions.At(keys...)
			break
		}
		if doc.positions.Has("services", word) {
			pos = doc.positions.At("services", word)
		}
	}
	return ruleCompose.At(pos, "%s", text)
}

// inBrackets is how the loader's decoder writes keys: services[web].mem_limit.
var inBrackets = regexp.MustCompile(`\[([\w.-]+)\]`)

// fromTheFirst lets a circle of services begin with the first by name: the
// loader begins where its map does.
func fromTheFirst(text string) string {
	const circle, step = "Circular reference: ", " extends "
	rest, ok := strings.CutPrefix(text, circle)
	services := strings.Split(rest, step)
	last := len(services) - 1
	if !ok || last < 1 || services[0] != services[last] {
		return text
	}
	ring := services[:last]
	first := slices.Index(ring, slices.Min(ring))
	ring = slices.Concat(ring[first:], ring[:first], ring[first:first+1])
	return circle + strings.Join(ring, step)
}

// withoutPath drops the absolute path that os errors begin with.
func withoutPath(err error) string {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return fmt.Sprintf("%s: %s", filepath.Base(pe.Path), pe.Err)
	}
	return err.Error()
}

// unsetVariables finds interpolations that would silently become empty.
func unsetVariables(doc *document, env map[string]string) problem.List {
	var problems problem.List
	eachString(doc.values, nil, func(s string, path []string) {
		if !strings.Contains(s, "$") {
			return
		}
		vars := template.ExtractVariables(map[string]any{"v": s}, template.DefaultPattern)
		for _, name := range slices.Sorted(maps.Keys(vars)) {
			v := vars[name]
			if _, ok := env[name]; ok || v.DefaultValue != "" || v.PresenceValue != "" || strings.Contains(s, name+":-") || strings.Contains(s, name+"-") {
				continue
			}
			problems = append(problems, ruleVariable.At(doc.positions.At(path...), "variable %s is not set", name).
				WithRemedy("set it in .env, give a default (${%s:-value}), or write $$ for a dollar sign", name))
		}
	})
	return problems
}

// hasVariable reports whether a string below v has something to interpolate.
func hasVariable(v any) bool {
	switch v := v.(type) {
	case string:
		return strings.Contains(v, "$")
	case map[string]any:
		for _, item := range v {
			if hasVariable(item) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, hasVariable)
	}
	return false
}

// eachString visits every string below v with its path.
func eachString(v any, path []string, visit func(s string, path []string)) {
	switch v := v.(type) {
	case string:
		visit(v, path)
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			eachString(v[k], append(path[:len(path):len(path)], k), visit)
		}
	case []any:
		for i, item := range v {
			eachString(item, append(path[:len(path):len(path)], itoa(i)), visit)
		}
	}
}

// environment reads .env files, the later ones winning. Their values are nobody's
// to show: what is wrong is said without them.
func environment(name func(path string) string, files ...string) (map[string]string, *problem.Problem) {
	env := map[string]string{}
	for _, file := range files {
		content, err := readFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		pos := problem.Position{File: name(file)}
		if err != nil {
			p := ruleFile.At(pos, "%s", withoutPath(err)).WithRemedy("check the path and its permissions")
			return nil, &p
		}
		values, err := dotenv.ParseWithLookup(bytes.NewReader(content), func(k string) (string, bool) {
			v, ok := env[k]
			return v, ok
		})
		if err != nil {
			if m := dotenvLine.FindStringSubmatch(err.Error()); m != nil {
				pos.Column = 1
				pos.Line, _ = strconv.Atoi(m[1])
			}
			p := ruleFile.At(pos, "no line NAME=value, or a quote that does not end").WithRemedy("a name holds letters, digits and _; a value with # or a quote in it stands in quotes")
			return nil, &p
		}
		maps.Copy(env, values)
	}
	return env, nil
}

var dotenvLine = regexp.MustCompile(`\bline (\d+)\b`)

// composeSchemaURL is where the compiler finds its own schemas. What is there it
// does not hold against the schema of schemas, which is half of the time that it
// takes; TestComposeSchemaIsValid does.
const composeSchemaURL = "https://json-schema.org/compose-spec.json"

var composeSchema = sync.OnceValues(func() (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(schema.Schema))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(composeSchemaURL, doc); err != nil {
		return nil, err
	}
	return c.Compile(composeSchemaURL)
})

// checkSchema holds a document against the Compose specification and reports
// every fault, not the first alone.
func checkSchema(doc *document) (problem.List, error) {
	s, err := composeSchema()
	if err != nil {
		return nil, fmt.Errorf("compile the Compose schema: %w", err)
	}
	err = s.Validate(doc.values)
	if err == nil {
		return nil, nil
	}
	var ve *jsonschema.ValidationError
	if !errors.As(err, &ve) {
		return nil, err
	}
	var problems problem.List
	for _, leaf := range leaves(ve) {
		problems = append(problems, schemaProblem(doc, leaf)...)
	}
	return problems, nil
}

// serviceKeyNames are Compose's keys of a service and Skep's.
func serviceKeyNames() []string {
	known := slices.Concat(composeKeys()["service"], composeKeys()["container_spec"], composeKeys()["workload_spec"])
	return append(known, fieldsOf(serviceKeysType).keys...)
}

// leaves are the faults that have no finer cause. Of alternatives that all
// failed, the one that got furthest speaks.
func leaves(e *jsonschema.ValidationError) []*jsonschema.ValidationError {
	if len(e.Causes) == 0 {
		return []*jsonschema.ValidationError{e}
	}
	switch e.ErrorKind.(type) {
	case *kind.OneOf, *kind.AnyOf:
		var best []*jsonschema.ValidationError
		for _, cause := range e.Causes {
			l := leaves(cause)
			if best == nil || depthOf(l) > depthOf(best) {
				best = l
			}
		}
		if depthOf(best) == len(e.InstanceLocation) {
			return mergeTypes(e)
		}
		return best
	}
	var out []*jsonschema.ValidationError
	for _, cause := range e.Causes {
		out = append(out, leaves(cause)...)
	}
	return out
}

func depthOf(l []*jsonschema.ValidationError) int {
	d := 0
	for _, e := range l {
		d = max(d, len(e.InstanceLocation))
	}
	return d
}

// mergeTypes says "string or list" where each alternative wants its own type.
func mergeTypes(e *jsonschema.ValidationError) []*jsonschema.ValidationError {
	var want []string
	var got string
	for _, cause := range e.Causes {
		for _, l := range leaves(cause) {
			k, ok := l.ErrorKind.(*kind.Type)
			if !ok {
				return []*jsonschema.ValidationError{l}
			}
			want, got = append(want, k.Want...), k.Got
		}
	}
	slices.Sort(want)
	return []*jsonschema.ValidationError{{
		SchemaURL: e.SchemaURL, InstanceLocation: e.InstanceLocation,
		ErrorKind: &kind.Type{Got: got, Want: slices.Compact(want)},
	}}
}

// namedSections hold things by names of the author's own.
var namedSections = []string{"services", "networks", "volumes", "configs", "secrets"}

// inWords calls the types of JSON as people who write YAML do.
func inWords(types []string) string {
	words := make([]string, len(types))
	for i, t := range types {
		words[i] = cmp.Or(map[string]string{
			"object": "a mapping", "array": "a list", "null": "empty", "string": "a string", "number": "a number", "integer": "a whole number",
			"boolean": "true or false",
		}[t], t)
	}
	return strings.Join(words, " or ")
}

var english = message.NewPrinter(language.English)

func schemaProblem(doc *document, e *jsonschema.ValidationError) problem.List {
	path := e.InstanceLocation
	switch k := e.ErrorKind.(type) {
	case *kind.AdditionalProperties:
		var out problem.List
		for _, key := range k.Properties {
			if len(path) == 1 && slices.Contains(namedSections, path[0]) { // its name is all that can be wrong
				p := ruleValue.At(doc.positions.At(path[0], key), "%q is no name for one of %s", key, path[0])
				out = append(out, p.WithRemedy("a name holds letters, digits, ., _ and -"))
				continue
			}
			p := ruleKey.At(doc.positions.At(append(slices.Clone(path), key)...), "Compose has no key %q here", key)
			out = append(out, p.WithRemedy("%s", suggestComposeKey(path, key)))
		}
		return out
	case *kind.FalseSchema: // a key beside the known ones, or a known one with a fault that has its own leaf
		if len(path) != 3 || path[0] != "services" || slices.Contains(serviceKeyNames(), path[2]) {
			return nil
		}
		p := ruleKey.At(doc.positions.At(path...), "Compose has no key %q here", path[2])
		return problem.List{p.WithRemedy("%s", suggestComposeKey(path[:2], path[2]))}
	case *kind.Type:
		return problem.List{ruleSchema.At(doc.positions.At(path...), "%s must be %s, not %s", describe(path), inWords(k.Want), inWords([]string{k.Got}))}
	default:
		return problem.List{ruleSchema.At(doc.positions.At(path...), "%s: %s", describe(path), e.ErrorKind.LocalizedString(english))}
	}
}

// composeKeys are the keys that the Compose specification knows, by the
// definition that holds them.
var composeKeys = sync.OnceValue(func() map[string][]string {
	out := map[string][]string{}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(schema.Schema))
	if err != nil {
		return out
	}
	root, _ := doc.(map[string]any)
	properties := func(v any) []string {
		m, _ := v.(map[string]any)
		p, _ := m["properties"].(map[string]any)
		return slices.Sorted(maps.Keys(p))
	}
	out[""] = properties(root)
	defs, _ := root["definitions"].(map[string]any)
	if defs == nil {
		defs, _ = root["$defs"].(map[string]any)
	}
	for name, def := range defs {
		out[name] = properties(def)
	}
	return out
})

func suggestComposeKey(path []string, key string) string {
	var known []string
	switch {
	case len(path) == 0:
		known = composeKeys()[""]
	case len(path) == 2 && path[0] == "services":
		known = serviceKeyNames()
	case len(path) == 3 && path[0] == "services" && path[2] == "deploy":
		known = composeKeys()["deployment"]
	case len(path) == 3 && path[0] == "services" && path[2] == "healthcheck":
		known = composeKeys()["healthcheck"]
	}
	if near, ok := nearest(key, known); ok {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return "see https://docs.docker.com/reference/compose-file/"
}

func init() {
	// compose-go logs through logrus' global logger; what it has to say reaches
	// people as problems.
	logrus.SetOutput(io.Discard)
}
