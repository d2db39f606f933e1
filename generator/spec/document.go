package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"skep/generator/problem"
	"skep/generator/stack"
)

const (
	maxFileSize = 4 << 20 // bytes; Swarm itself takes no spec larger than gRPC's 4 MiB
	maxDepth    = 64
	maxNodes    = 200_000 // values of a document, aliases expanded
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
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxFileSize {
		return nil, fmt.Errorf("%s is larger than %d MiB", path, maxFileSize>>20)
	}
	return content, nil
}

// readDocument reads and parses a YAML file; name is how people know it.
func readDocument(path, name string) (*document, problem.List) {
	content, err := readFile(path)
	if err != nil {
		return nil, problem.List{ruleFile.At(problem.Position{File: name}, "%s", withoutPath(err)).
			WithRemedy("check the path and its permissions")}
	}
	return parseDocument(content, name)
}

func parseDocument(content []byte, name string) (*document, problem.List) {
	whole := problem.Position{File: name, Line: 1, Column: 1}
	content = bytes.TrimPrefix(content, []byte("\ufeff")) // some editors mark UTF-8 so
	if bytes.IndexByte(content, 0) >= 0 || !utf8.Valid(content) {
		return nil, problem.List{ruleFile.At(whole, "the file is not UTF-8 text").WithRemedy("save it as UTF-8")}
	}
	if line, ok := tooDeep(content); ok {
		return nil, problem.List{ruleSyntax.At(problem.Position{File: name, Line: line, Column: 1}, "nested deeper than %d levels", maxDepth).
			WithRemedy("flatten it")}
	}
	tree, err := parser.ParseBytes(content, 0)
	if err != nil {
		return nil, problem.List{syntaxProblem(name, err)}
	}
	var body ast.Node
	for _, doc := range tree.Docs {
		if doc.Body == nil {
			continue
		}
		if body != nil {
			return nil, problem.List{ruleSyntax.At(position(name, doc.Body), "a second document in one file").
				WithRemedy("put it into a file of its own")}
		}
		body = doc.Body
	}
	if body == nil || body.Type() == ast.NullType || body.Type() == ast.CommentType {
		return nil, problem.List{ruleSyntax.At(whole, "the file is empty").WithRemedy("`skep new stack NAME` writes one to start from")}
	}
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
		return nil, problem.List{ruleSyntax.At(whole, "the file is not a mapping of keys to values").
			WithRemedy("a stack file starts with `name:` and `services:`")}
	}
	d.values = values
	return d, nil
}

// tooDeep finds nesting that would exhaust a recursive parser, before one runs.
// It overestimates: brackets inside strings count.
func tooDeep(content []byte) (line int, found bool) {
	flow := 0
	for i, row := range bytes.Split(content, []byte("\n")) {
		indent := len(row) - len(bytes.TrimLeft(row, " "))
		block := 0
		for rest := row[indent:]; len(rest) > 1 && (rest[0] == '-' || rest[0] == '?') && rest[1] == ' '; rest = bytes.TrimLeft(rest[2:], " ") {
			block++
		}
		deepest := flow
		for _, c := range row {
			switch c {
			case '[', '{':
				flow++
				deepest = max(deepest, flow)
			case ']', '}':
				flow = max(0, flow-1)
			}
		}
		row = row[indent:]
		if block > maxDepth || deepest > 4*maxDepth || (indent > 8*maxDepth && len(row) > 0 && row[0] != '#') {
			return i + 1, true
		}
	}
	return 0, false
}

func syntaxProblem(name string, err error) problem.Problem {
	pos := problem.Position{File: name, Line: 1, Column: 1}
	message := err.Error()
	var se yaml.Error
	if errors.As(err, &se) {
		message = se.GetMessage()
		if t := se.GetToken(); t != nil && t.Position != nil {
			pos = tokenPosition(name, t)
		}
	}
	if i := strings.IndexByte(message, '\n'); i > 0 {
		message = message[:i]
	}
	if strings.Contains(message, "'\t'") {
		return ruleSyntax.At(pos, "a tab where YAML wants spaces").WithRemedy("indent with spaces")
	}
	return ruleSyntax.At(pos, "%s", message)
}

func position(name string, n ast.Node) problem.Position {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return tokenPosition(name, t)
	}
	return problem.Position{File: name, Line: 1, Column: 1}
}

func tokenPosition(name string, t *token.Token) problem.Position {
	return problem.Position{File: name, Line: t.Position.Line, Column: t.Position.Column}
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
	if w.nodes > maxNodes {
		return nil, faultAt(n, "more than %d values once aliases are expanded", maxNodes)
	}
	if depth > maxDepth {
		return nil, faultAt(n, "nested deeper than %d levels", maxDepth)
	}
	switch n := n.(type) {
	case nil:
		return nil, nil
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
	case *ast.LiteralNode:
		return n.Value.Value, nil
	case *ast.StringNode:
		return n.Value, nil
	case *ast.NullNode:
		return nil, nil
	case *ast.IntegerNode:
		switch v := n.GetValue().(type) {
		case int64:
			return int(v), nil
		case uint64:
			if v <= 1<<62 {
				return int(v), nil
			}
			return v, nil
		default:
			return v, nil
		}
	case ast.ScalarNode:
		return n.GetValue(), nil
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
		key, err := keyText(kv.Key)
		if err != nil {
			return nil, err
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

func keyText(k ast.MapKeyNode) (string, error) {
	switch k := k.(type) {
	case *ast.StringNode:
		return k.Value, nil
	case *ast.MappingKeyNode:
		if s, ok := k.Value.(ast.ScalarNode); ok {
			return s.GetToken().Value, nil
		}
		return "", faultAt(k, "a key must be a string")
	case ast.ScalarNode:
		return k.GetToken().Value, nil
	}
	return "", faultAt(k, "a key must be a string")
}
