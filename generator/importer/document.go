package importer

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"

	"skep/generator/problem"
	"skep/generator/yamlfile"
)

// MaxFileSize is what a Compose file may have, in bytes.
const MaxFileSize = yamlfile.MaxSize

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
		m := &mapping{entries: make([]entry, len(n.fields))}
		for i, f := range n.fields {
			m.entries[i] = entry{f.key, f.node.value()}
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
	content = bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n"))
	body, fault := yamlfile.Parse(content)
	if fault != nil {
		return nil, problem.List{unparsed(file, fault)}
	}
	content = bytes.TrimPrefix(content, []byte("\ufeff"))
	d := &document{file: file, lines: strings.Split(strings.TrimSuffix(string(content), "\n"), "\n"), comments: map[int]string{}}
	if err := d.readComments(content); err != nil {
		return fail(ruleSyntax, whole, "%s", err)
	}
	w := &walker{document: d, anchors: map[string]*node{}}
	var err error
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

// unparsed is the problem of a file that is no YAML document.
func unparsed(file string, f *yamlfile.Fault) problem.Problem {
	rule, remedy := ruleFile, "name the file that docker stack deploy -c takes"
	switch f.Kind {
	case yamlfile.TooDeep, yamlfile.TooMany:
		rule = ruleSyntax
	case yamlfile.Syntax, yamlfile.Tab, yamlfile.Twice:
		rule, remedy = ruleSyntax, "correct the YAML there and import again"
	case yamlfile.Second:
		rule, remedy = ruleSyntax, "import each document by itself"
	}
	return rule.At(problem.Position{File: file, Line: f.Line, Column: f.Column}, "%s", f.Message).WithRemedy("%s", remedy)
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
	line, column := yamlfile.At(n)
	return problem.Position{File: w.file, Line: line, Column: column}
}

func (w *walker) fail(n ast.Node, format string, args ...any) error {
	return &nodeError{n, fmt.Sprintf(format, args...)}
}

func (w *walker) node(n ast.Node, depth int) (*node, error) {
	w.count++
	if w.count > yamlfile.MaxNodes {
		return nil, w.fail(n, "more than %d values once aliases are expanded", yamlfile.MaxNodes)
	}
	if depth > yamlfile.MaxDepth {
		return nil, w.fail(n, "nested deeper than %d levels", yamlfile.MaxDepth)
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
	}
	v, ok := yamlfile.Scalar(n)
	if !ok {
		return nil, w.fail(n, "%s is not expected here", n.Type())
	}
	out.scalar = v
	return out, nil
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
	if w.count += target.size(); w.count > yamlfile.MaxNodes {
		return nil, w.fail(n, "more than %d values once aliases are expanded", yamlfile.MaxNodes)
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
	seen := make(map[string]bool, len(values)) // field looks through all
	for _, kv := range values {
		if kv.Key.IsMergeKey() {
			m, err := w.node(kv.Value, depth+1)
			if err != nil {
				return err
			}
			merges = append(merges, m)
			continue
		}
		key, ok := yamlfile.Key(kv.Key)
		if !ok {
			return w.fail(kv.Key, "a key must be a string")
		}
		if seen[key] {
			return w.fail(kv.Key, "key %q stands twice", key)
		}
		seen[key] = true
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
				if !seen[f.key] {
					seen[f.key], f.merged = true, true
					out.fields = append(out.fields, f)
				}
			}
		}
	}
	return nil
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
