package spec

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/goccy/go-yaml/ast"

	"skep/generator/problem"
	"skep/generator/stack"
	"skep/generator/yamlfile"
)

// document is a YAML file as plain values, and where each of them stands.
type document struct {
	file      string // relative to the project
	values    map[string]any
	positions stack.Positions
	// tagged says that the file uses Compose's !reset or !override, which only
	// Compose's own YAML reader understands.
	tagged  bool
	content []byte
}

var errTooLarge = fmt.Errorf("larger than %d MiB", yamlfile.MaxSize>>20)

// readFile reads a regular file of bounded size.
func readFile(path string) ([]byte, error) {
	// Nobody may write to a pipe that lies there: opening it must not wait.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &os.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	}
	content, err := io.ReadAll(io.LimitReader(f, yamlfile.MaxSize+1))
	if err != nil {
		return nil, err
	}
	if len(content) > yamlfile.MaxSize {
		return nil, &os.PathError{Op: "read", Path: path, Err: errTooLarge}
	}
	return content, nil
}

// readDocument reads and parses a YAML file; name is how people know it.
func readDocument(path, name string) (*document, problem.List) {
	content, err := readFile(path)
	if err != nil {
		p := ruleFile.At(problem.Position{File: name}, "%s", withoutPath(err)).WithRemedy("check the path and its permissions")
		if errors.Is(err, errTooLarge) {
			p = p.WithRemedy("what is that large belongs into a file of its own: x-files")
		}
		return nil, problem.List{p}
	}
	return parseDocument(content, name)
}

func parseDocument(content []byte, name string) (*document, problem.List) {
	body, fault := yamlfile.Parse(content)
	if fault != nil {
		return nil, problem.List{unparsed(name, fault)}
	}
	whole := problem.Position{File: name, Line: 1, Column: 1}
	d := &document{file: name, positions: stack.NewPositions(name), content: content}
	w := walker{document: d, anchors: map[string]ast.Node{}}
	value, err := w.value(body, nil, 0)
	if err != nil {
		var at *nodeError
		if errors.As(err, &at) {
			return nil, problem.List{ruleSyntax.At(position(name, at.node), "%s", at.text)}
		}
		return nil, problem.List{ruleSyntax.At(whole, "%s", err)}
	}
	values, ok := value.(map[string]any)
	if !ok {
		p := ruleSyntax.At(whole, "the file is not a mapping of keys to values").WithRemedy("a stack file starts with `name:` and `services:`")
		if name == ClusterFile {
			p = p.WithRemedy("it starts with `name:` and `zones:`")
		}
		return nil, problem.List{p}
	}
	d.values = values
	return d, nil
}

// unparsed is the problem of a file that is no YAML document.
func unparsed(name string, f *yamlfile.Fault) problem.Problem {
	rule, remedy := ruleSyntax, ""
	switch f.Kind {
	case yamlfile.TooLarge:
		rule = ruleFile
	case yamlfile.NotText:
		rule, remedy = ruleFile, "save it as UTF-8"
	case yamlfile.TooDeep:
		remedy = "flatten it"
	case yamlfile.TooMany:
		remedy = "split it, or put it into a file of its own: x-files"
	case yamlfile.Tab:
		remedy = "indent with spaces"
	case yamlfile.Second:
		remedy = "put it into a file of its own"
	case yamlfile.Syntax:
		remedy = "look there and on the line before for a bracket, a quote or an indentation that does not fit"
	case yamlfile.Twice:
		remedy = "keep one of the two"
	case yamlfile.NoContent:
		remedy = "`skep new stack NAME` writes one to start from"
		if name == ClusterFile {
			remedy = "`skep init FOLDER` writes one to start from"
		}
	}
	return rule.At(problem.Position{File: name, Line: f.Line, Column: f.Column}, "%s", f.Message).WithRemedy("%s", remedy)
}

func position(name string, n ast.Node) problem.Position {
	line, column := yamlfile.At(n)
	return problem.Position{File: name, Line: line, Column: column}
}

// nodeError is a fault at a node.
type nodeError struct {
	node ast.Node
	text string
}

func (e *nodeError) Error() string { return e.text }

func faultAt(n ast.Node, format string, args ...any) error {
	return &nodeError{n, fmt.Sprintf(format, args...)}
}

// walker turns syntax into values and notes positions on the way.
type walker struct {
	*document
	anchors map[string]ast.Node
	nodes   int
	// open are the anchors being expanded, against aliases that hold themselves.
	open []string
}

func (w *walker) value(n ast.Node, path []string, depth int) (any, error) {
	w.nodes++
	if w.nodes > yamlfile.MaxNodes {
		return nil, faultAt(n, "more than %d values once aliases are expanded", yamlfile.MaxNodes)
	}
	if depth > yamlfile.MaxDepth {
		return nil, faultAt(n, "nested deeper than %d levels", yamlfile.MaxDepth)
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return w.mapping(n.Values, path, depth)
	case *ast.MappingValueNode:
		return w.mapping([]*ast.MappingValueNode{n}, path, depth)
	case *ast.SequenceNode:
		out := make([]any, 0, len(n.Values))
		for i, item := range n.Values {
			itemPath := append(path[:len(path):len(path)], itoa(i))
			w.positions.Set(position(w.file, item), itemPath...)
			v, err := w.value(item, itemPath, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	case *ast.AnchorNode:
		name := n.Name.GetToken().Value
		w.anchors[name] = n.Value
		w.open = append(w.open, name)
		v, err := w.value(n.Value, path, depth)
		w.open = w.open[:len(w.open)-1]
		return v, err
	case *ast.AliasNode:
		return w.alias(n, path, depth)
	case *ast.TagNode:
		return w.tag(n, path, depth)
	}
	if v, ok := yamlfile.Scalar(n); ok {
		return v, nil
	}
	return nil, faultAt(n, "%s is not expected here", n.Type())
}

func (w *walker) alias(n *ast.AliasNode, path []string, depth int) (any, error) {
	name := n.Value.GetToken().Value
	target, ok := w.anchors[name]
	if !ok {
		return nil, faultAt(n, "alias *%s has no anchor &%s before it", name, name)
	}
	for _, open := range w.open {
		if open == name {
			return nil, faultAt(n, "alias *%s holds itself", name)
		}
	}
	return w.value(target, path, depth+1)
}

func (w *walker) tag(n *ast.TagNode, path []string, depth int) (any, error) {
	switch tag := n.Start.Value; tag {
	case "!reset", "!override":
		w.tagged = true
		return w.value(n.Value, path, depth)
	case "!!str":
		v, err := w.value(n.Value, path, depth)
		if err != nil || v == nil {
			return "", err
		}
		if s, ok := n.Value.(ast.ScalarNode); ok {
			return s.GetToken().Value, nil
		}
		return v, nil
	case "!!map", "!!seq", "!!int", "!!float", "!!bool", "!!null":
		return w.value(n.Value, path, depth)
	default:
		return nil, faultAt(n, "tag %s is not one that Compose knows", tag)
	}
}

func (w *walker) mapping(values []*ast.MappingValueNode, path []string, depth int) (any, error) {
	out := make(map[string]any, len(values))
	var merges []ast.Node
	for _, kv := range values {
		if kv.Key.IsMergeKey() {
			merges = append(merges, kv.Value)
			continue
		}
		key, ok := yamlfile.Key(kv.Key)
		if !ok {
			return nil, faultAt(kv.Key, "a key must be a string")
		}
		if _, ok := out[key]; ok {
			return nil, faultAt(kv.Key, "key %q stands twice", key)
		}
		keyPath := append(path[:len(path):len(path)], key)
		w.positions.Set(position(w.file, kv.Key), keyPath...)
		v, err := w.value(kv.Value, keyPath, depth+1)
		if err != nil {
			return nil, err
		}
		out[key] = v
	}
	for _, m := range merges {
		if err := w.merge(out, m, path, depth+1); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// merge brings in what a merge key (<<) names; keys of the mapping itself win
// (https://yaml.org/type/merge.html).
func (w *walker) merge(into map[string]any, n ast.Node, path []string, depth int) error {
	v, err := w.value(n, path, depth)
	if err != nil {
		return err
	}
	sources, ok := v.([]any)
	if !ok {
		sources = []any{v}
	}
	for _, source := range sources {
		m, ok := source.(map[string]any)
		if !ok {
			return faultAt(n, "<< merges mappings only")
		}
		for k, v := range m {
			if _, ok := into[k]; !ok {
				into[k] = v
			}
		}
	}
	return nil
}
