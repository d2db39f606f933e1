// Package yamlfile parses YAML that people write, within limits and with places.
// What the values of a document become is its callers' affair: generator/spec
// keeps values and positions apart, generator/importer edits the text.
package yamlfile

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Limits of a file.
const (
	MaxSize  = 4 << 20 // bytes; Swarm itself takes no spec larger than gRPC's 4 MiB
	MaxDepth = 64
	MaxNodes = 200_000 // values of a document, aliases expanded
	MaxKeys  = 5000    // of one mapping in block style; the parser's time grows with their square
)

// Kind is what is wrong with a file.
type Kind int

const (
	TooLarge Kind = iota
	NotText       // no UTF-8
	TooDeep
	TooMany   // keys of one mapping
	Syntax    // no YAML
	Tab       // a tab where YAML wants spaces
	Twice     // a key of a mapping
	NoContent // nothing, or comments alone
	Second    // another document in the same file
)

// Fault is why a file cannot be read.
type Fault struct {
	Kind         Kind
	Line, Column int // from one
	Message      string
}

// Parse returns the one document of a file, or what is wrong with it.
func Parse(content []byte) (ast.Node, *Fault) {
	content = bytes.TrimPrefix(content, []byte("\ufeff")) // some editors mark UTF-8 so
	switch {
	case len(content) > MaxSize:
		return nil, &Fault{TooLarge, 1, 1, fmt.Sprintf("the file is larger than %d MiB", MaxSize>>20)}
	case bytes.IndexByte(content, 0) >= 0 || !utf8.Valid(content):
		return nil, &Fault{NotText, 1, 1, "the file is not UTF-8 text"}
	}
	if line, ok := tooDeep(content); ok {
		return nil, &Fault{TooDeep, line, 1, fmt.Sprintf("nested deeper than %d levels", MaxDepth)}
	}
	if line, ok := tooMany(content); ok {
		return nil, &Fault{TooMany, line, 1, fmt.Sprintf("more than %d keys in one mapping", MaxKeys)}
	}
	tree, err := parse(content)
	if err != nil {
		return nil, syntaxFault(err)
	}
	var body ast.Node
	for _, doc := range tree.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if body != nil {
			line, column := At(doc.Body)
			return nil, &Fault{Second, line, column, "a second document in one file"}
		}
		body = doc.Body
	}
	if body == nil || body.Type() == ast.NullType {
		return nil, &Fault{NoContent, 1, 1, "the file is empty"}
	}
	return body, nil
}

// parse runs the parser, which panics on some malformed input.
func parse(content []byte) (tree *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("not YAML: %v", r)
		}
	}()
	return parser.ParseBytes(content, 0)
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
		if block > MaxDepth || deepest > 4*MaxDepth || (indent > 8*MaxDepth && len(row) > 0 && row[0] != '#') {
			return i + 1, true
		}
	}
	return 0, false
}

// tooMany finds a mapping of more keys than the parser has time for. Lines of a
// block scalar are no keys.
func tooMany(content []byte) (line int, found bool) {
	type level struct{ indent, keys int }
	var open []level
	scalar := -1 // the indentation of the line that a block scalar hangs on
	for i, row := range bytes.Split(content, []byte("\n")) {
		text := bytes.TrimLeft(row, " ")
		indent := len(row) - len(text)
		text = bytes.TrimRight(text, " \r")
		if len(text) == 0 || text[0] == '#' || scalar >= 0 && indent > scalar {
			continue
		}
		scalar = -1
		if blockScalar.Match(text) {
			scalar = indent
		}
		for len(open) > 0 && open[len(open)-1].indent > indent {
			open = open[:len(open)-1]
		}
		if len(open) == 0 || open[len(open)-1].indent < indent {
			open = append(open, level{indent: indent})
		}
		if text[0] == '-' || !bytes.Contains(text, []byte(":")) {
			continue
		}
		top := &open[len(open)-1]
		if top.keys++; top.keys > MaxKeys {
			return i + 1, true
		}
	}
	return 0, false
}

// blockScalar is the end of a line below which text stands (YAML 1.2.2, 8.1).
var blockScalar = regexp.MustCompile(`[|>][-+0-9]{0,2}( +#.*)?$`)

func syntaxFault(err error) *Fault {
	f := &Fault{Syntax, 1, 1, err.Error()}
	var syntax yaml.Error
	if errors.As(err, &syntax) {
		f.Message = syntax.GetMessage()
		if t := syntax.GetToken(); t != nil && t.Position != nil {
			f.Line, f.Column = t.Position.Line, t.Position.Column
		}
	}
	f.Message, _, _ = strings.Cut(f.Message, "\n")
	switch {
	case strings.Contains(f.Message, "'\t'"):
		f.Kind, f.Message = Tab, "a tab where YAML wants spaces"
	case strings.Contains(f.Message, "already defined"):
		f.Kind = Twice
	}
	return f
}

// At is where a node stands, from one.
func At(n ast.Node) (line, column int) {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line, t.Position.Column
	}
	return 1, 1
}

// Key is the text of a mapping's key; a key that is no scalar has none.
func Key(k ast.MapKeyNode) (string, bool) {
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

// Scalar is a node's value: nil, a string, a boolean or a number, which is an
// int where it fits. A node with values of its own, an anchor, an alias or a
// tag is none.
func Scalar(n ast.Node) (value any, ok bool) {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return nil, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode:
		switch v := n.GetValue().(type) {
		case int64:
			return int(v), true
		case uint64:
			if v <= 1<<62 {
				return int(v), true
			}
			return v, true
		default:
			return v, true
		}
	case ast.ScalarNode:
		return n.GetValue(), true
	}
	return nil, false
}
