package importer

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"skep/generator/problem"
)

const (
	// MaxFileSize is what a Compose file may have, in bytes, as for generator/spec.
	MaxFileSize = 4 << 20
	maxDepth    = 64
	maxNodes    = 200_000 // values of a document, aliases expanded
)

// document is a Compose file: its text and what the text says where.
type document struct {
	file  string
	lines []string
	root  *node
	// comments are the texts of full-line and trailing comments, by line.
	comments map[int]string
}

// node is a value of the file and its place. Lines and columns count from one.
type node struct {
	scalar any // when fields and items are nil
	kind   nodeKind
	fields []field
	items  []*node

	line, column int
	flow         bool // written in { } or [ ]
	// borrowed says that the text belongs to an anchor elsewhere.
	borrowed bool
	anchored bool // carries an anchor itself, so others may depend on its text
}

type nodeKind int

const (
	scalarNode nodeKind = iota
	mappingNode
	sequenceNode
)

type field struct {
	key          string
	line, column int
	node         *node
	merged       bool // comes from a merge key
}

func (n *node) field(key string) (field, bool) {
	for _, f := range n.fields {
		if f.key == key {
			return f, true
		}
	}
	return field{}, false
}

// value is the node as a plain value of its own.
func (n *node) value() any {
	switch n.kind {
	case mappingNode:
		m := &mapping{}
		for _, f := range n.fields {
			m.set(f.key, f.node.value())
		}
		return m
	case sequenceNode:
		out := make([]any, len(n.items))
		for i, item := range n.items {
			out[i] = item.value()
		}
		return out
	}
	return n.scalar
}

// at is where a path stands, or the nearest place above it.
func (d *document) at(path ...string) problem.Position {
	pos := problem.Position{File: d.file, Line: 1, Column: 1}
	n := d.root
	for _, key := range path {
		switch n.kind {
		case mappingNode:
			f, ok := n.field(key)
			if !ok {
				return pos
			}
			pos.Line, pos.Column, n = f.line, f.column, f.node
		case sequenceNode:
			i, ok := index(key)
			if !ok || i >= len(n.items) {
				return pos
			}
			n = n.items[i]
			pos.Line, pos.Column = n.line, n.column
		default:
			return pos
		}
	}
	return pos
}

// parse reads a file with comments and places.
func parse(content []byte, file string) (*document, problem.List) {
	whole := problem.Position{File: file, Line: 1, Column: 1}
	fail := func(rule problem.Rule, pos problem.Position, format string, args ...any) (*document, problem.List) {
		return nil, problem.List{rule.At(pos, format, args...).WithRemedy("name the file that docker stack deploy -c takes")}
	}
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	switch {
	case len(content) > MaxFileSize:
		return fail(ruleFile, whole, "the file is larger than %d MiB", MaxFileSize>>20)
	case bytes.IndexByte(content, 0) >= 0 || !utf8.Valid(content):
		return fail(ruleFile, whole, "the file is not UTF-8 text")
	case len(bytes.TrimSpace(content)) == 0:
		return fail(ruleFile, whole, "the file is empty")
	}
	content = bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n"))
	if line, ok := tooDeep(content); ok {
		return fail(ruleSyntax, problem.Position{File: file, Line: line, Column: 1}, "nested deeper than %d levels", maxDepth)
	}
	tree, err := parseTree(content)
	if err != nil {
		pos, message := whole, err.Error()
		var se yaml.Error
		if errors.As(err, &se) {
			message = se.GetMessage()
			if t := se.GetToken(); t != nil && t.Position != nil {
				pos.Line, pos.Column = t.Position.Line, t.Position.Column
			}
		}
		message, _, _ = strings.Cut(message, "\n")
		if strings.Contains(message, "'\t'") {
			message = "a tab where YAML wants spaces"
		}
		return nil, problem.List{ruleSyntax.At(pos, "%s", message).WithRemedy("correct the YAML there and import again")}
	}
	d := &document{file: file, lines: strings.Split(strings.TrimSuffix(string(content), "\n"), "\n"), comments: map[int]string{}}
	if err := d.readComments(content); err != nil {
		return fail(ruleSyntax, whole, "%s", err)
	}
	w := &walker{document: d, anchors: map[string]*node{}}
	var body ast.Node
	for _, doc := range tree.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if body != nil {
			p := ruleSyntax.At(w.position(doc.Body), "a second document in one file")
			return nil, problem.List{p.WithRemedy("import each document by itself")}
		}
		body = doc.Body
	}
	if body == nil || body.Type() == ast.NullType {
		return fail(ruleFile, whole, "the file holds no document")
	}
	d.root, err = w.node(body, 0)
	if err != nil {
		pos := whole
		var at *nodeError
		if errors.As(err, &at) {
			pos = w.position(at.node)
		}
		return fail(ruleSyntax, pos, "%s", err)
	}
	if d.root.kind != mappingNode {
		return fail(ruleCompose, whole, "the file is not a mapping of keys to values")
	}
	return d, nil
}

// parseTree runs the YAML parser, which panics on some malformed input.
func parseTree(content []byte) (tree *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("not YAML: %v", r)
		}
	}()
	return parser.ParseBytes(content, 0)
}

// tooDeep finds nesting that would exhaust a recursive parser, before one runs.
func tooDeep(content []byte) (line int, found bool) {
	flow := 0
	for i, row := range bytes.Split(content, []byte("\n")) {
		indent := len(row) - len(bytes.TrimLeft(row, " "))
		block := 0
		for rest := row[indent:]; len(rest) > 1 && (rest[0] == '-' || rest[0] == '?') && rest[1] == ' '; rest = bytes.TrimLeft(rest[2:], " ") {
			block++
		}
		flow = max(0, flow+bytes.Count(row, []byte("["))+bytes.Count(row, []byte("{"))-
			bytes.Count(row, []byte("]"))-bytes.Count(row, []byte("}")))
		row = row[indent:]
		if block > maxDepth || flow > 4*maxDepth || (indent > 8*maxDepth && len(row) > 0 && row[0] != '#') {
			return i + 1, true
		}
	}
	return 0, false
}

type nodeError struct {
	node ast.Node
	text string
}

func (e *nodeError) Error() string { return e.text }

// walker makes nodes of the syntax tree, with merge keys and aliases resolved.
type walker struct {
	*document
	anchors map[string]*node
	open    []string
	count   int
}

func (w *walker) position(n ast.Node) problem.Position {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return problem.Position{File: w.file, Line: t.Position.Line, Column: t.Position.Column}
	}
	return problem.Position{File: w.file, Line: 1, Column: 1}
}

func (w *walker) fail(n ast.Node, format string, args ...any) error {
	return &nodeError{n, fmt.Sprintf(format, args...)}
}

func (w *walker) node(n ast.Node, depth int) (*node, error) {
	w.count++
	if w.count > maxNodes {
		return nil, w.fail(n, "more than %d values once aliases are expanded", maxNodes)
	}
	if depth > maxDepth {
		return nil, w.fail(n, "nested deeper than %d levels", maxDepth)
	}
	if n == nil {
		return &node{}, nil
	}
	pos := w.position(n)
	out := &node{line: pos.Line, column: pos.Column}
	switch n := n.(type) {
	case *ast.MappingNode:
		out.kind, out.flow = mappingNode, n.IsFlowStyle
		return out, w.mapping(out, n.Values, depth)
	case *ast.MappingValueNode:
		out.kind = mappingNode
		return out, w.mapping(out, []*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		out.kind, out.flow = sequenceNode, n.IsFlowStyle
		for i, item := range n.Values {
			v, err := w.node(item, depth+1)
			if err != nil {
				return nil, err
			}
			if i < len(n.Entries) && n.Entries[i] != nil && !n.IsFlowStyle {
				if t := n.Entries[i].Start; t != nil && t.Position != nil {
					v.line, v.column = t.Position.Line, t.Position.Column
				}
			}
			out.items = append(out.items, v)
		}
		return out, nil
	case *ast.AnchorNode:
		name := n.Name.GetToken().Value
		w.open = append(w.open, name)
		v, err := w.node(n.Value, depth)
		w.open = w.open[:len(w.open)-1]
		if err != nil {
			return nil, err
		}
		v.anchored = true
		w.anchors[name] = v
		return v, nil
	case *ast.AliasNode:
		return w.alias(n)
	case *ast.TagNode:
		v, err := w.node(n.Value, depth)
		if err == nil && n.Start.Value == "!!str" && v.kind == scalarNode {
			v.scalar = ""
			if s, ok := n.Value.(ast.ScalarNode); ok {
				v.scalar = s.GetToken().Value
			}
		}
		return v, err
	case *ast.LiteralNode:
		out.scalar = n.Value.Value
	case *ast.StringNode:
		out.scalar = n.Value
	case *ast.NullNode:
	case *ast.IntegerNode:
		out.scalar = integer(n)
	case ast.ScalarNode:
		out.scalar = n.GetValue()
	default:
		return nil, w.fail(n, "%s is not expected here", n.Type())
	}
	return out, nil
}

func integer(n *ast.IntegerNode) any {
	switch v := n.GetValue().(type) {
	case int64:
		return int(v)
	case uint64:
		if v <= 1<<62 {
			return int(v)
		}
		return v
	default:
		return v
	}
}

func (w *walker) alias(n *ast.AliasNode) (*node, error) {
	name := n.Value.GetToken().Value
	for _, open := range w.open {
		if open == name {
			return nil, w.fail(n, "alias *%s holds itself", name)
		}
	}
	target, ok := w.anchors[name]
	if !ok {
		return nil, w.fail(n, "alias *%s has no anchor &%s before it", name, name)
	}
	if w.count += target.size(); w.count > maxNodes {
		return nil, w.fail(n, "more than %d values once aliases are expanded", maxNodes)
	}
	copied := *target
	copied.borrowed, copied.anchored = true, false
	return &copied, nil
}

// size counts the values that a node stands for.
func (n *node) size() int {
	total := 1
	for _, f := range n.fields {
		total += f.node.size()
	}
	for _, item := range n.items {
		total += item.size()
	}
	return total
}

func (w *walker) mapping(out *node, values []*ast.MappingValueNode, depth int) error {
	var merges []*node
	for _, kv := range values {
		if kv.Key.IsMergeKey() {
			m, err := w.node(kv.Value, depth+1)
			if err != nil {
				return err
			}
			merges = append(merges, m)
			continue
		}
		key, ok := keyText(kv.Key)
		if !ok {
			return w.fail(kv.Key, "a key must be a string")
		}
		if _, ok := out.field(key); ok {
			return w.fail(kv.Key, "key %q stands twice", key)
		}
		v, err := w.node(kv.Value, depth+1)
		if err != nil {
			return err
		}
		pos := w.position(kv.Key)
		out.fields = append(out.fields, field{key: key, line: pos.Line, column: pos.Column, node: v})
	}
	for _, m := range merges {
		sources := []*node{m}
		if m.kind == sequenceNode {
			sources = m.items
		}
		for _, source := range sources {
			if source.kind != mappingNode {
				return &nodeError{values[0], "<< merges mappings only"}
			}
			for _, f := range source.fields {
				if _, ok := out.field(f.key); !ok {
					f.merged = true
					out.fields = append(out.fields, f)
				}
			}
		}
	}
	return nil
}

func keyText(k ast.MapKeyNode) (string, bool) {
	switch k := k.(type) {
	case *ast.StringNode:
		return k.Value, true
	case *ast.MappingKeyNode:
		if s, ok := k.Value.(ast.ScalarNode); ok {
			return s.GetToken().Value, true
		}
	case ast.ScalarNode:
		return k.GetToken().Value, true
	}
	return "", false
}

// readComments notes the comments, so that those of a line that goes can stay.
func (d *document) readComments(content []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("not YAML: %v", r)
		}
	}()
	for _, t := range lexer.Tokenize(string(content)) {
		if t.Type == token.CommentType && t.Position != nil {
			d.comments[t.Position.Line] = strings.TrimSpace(t.Value)
		}
	}
	return nil
}
