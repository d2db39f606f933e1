package secrets

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Lock holds the item behind each reference and its version, a positive integer
// as 1Password counts them: an item that was made anew begins at 1. A lock that
// was written by hand may leave the item out.
type Lock map[Reference]Item

const lockHeader = "# secrets.lock: written by skep, reference -> item version\n"

// LockError is something wrong in a lock file.
type LockError struct {
	Line, Column int // from one
	Err          error
}

func (e *LockError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

func (e *LockError) Unwrap() error { return e.Err }

func lockError(at *token.Position, format string, args ...any) error {
	return &LockError{Line: at.Line, Column: at.Column, Err: fmt.Errorf(format, args...)}
}

// ParseLock reads a lock file. The error joins a *LockError for each mistake.
func ParseLock(data []byte) (Lock, error) {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) && syntax.Token != nil {
			return nil, lockError(syntax.Token.Position, "%s", syntax.Message)
		}
		return nil, fmt.Errorf("read lock: %w", err)
	}
	p := lockParser{lock: Lock{}, lines: map[Reference]int{}}
	for i, document := range file.Docs {
		if i > 0 && document.Body != nil {
			p.fail(document.Body, "a lock file is one YAML document")
			break
		}
		p.document(document.Body)
	}
	if len(p.problems) > 0 {
		return nil, errors.Join(p.problems...)
	}
	return p.lock, nil
}

// Marshal writes the lock file, sorted.
func (l Lock) Marshal() []byte {
	var b bytes.Buffer
	b.WriteString(lockHeader)
	if len(l) == 0 {
		b.WriteString("references: {}\n")
		return b.Bytes()
	}
	b.WriteString("references:\n")
	for _, r := range slices.SortedFunc(maps.Keys(l), Reference.Compare) {
		entry := l[r].Version
		if id := l[r].ID; id != "" {
			entry = fmt.Sprintf("{version: %s, item: %s}", entry, strconv.Quote(id))
		}
		fmt.Fprintf(&b, "  %s: %s\n", r, entry)
	}
	return b.Bytes()
}

type lockParser struct {
	lock     Lock
	lines    map[Reference]int
	problems []error
}

func (p *lockParser) fail(at ast.Node, format string, args ...any) {
	p.problems = append(p.problems, lockError(at.GetToken().Position, format, args...))
}

func (p *lockParser) document(body ast.Node) {
	for key, value := range p.entries(body) {
		if name := keyText(key); name != "references" {
			p.fail(key, "unknown key %q: a lock file holds references", name)
			continue
		}
		for key, value := range p.entries(value) {
			p.reference(key, value)
		}
	}
}

func (p *lockParser) reference(key, value ast.Node) {
	r, err := ParseReference(keyText(key))
	if err != nil {
		p.fail(key, "%w", err)
		return
	}
	if line, ok := p.lines[r]; ok {
		p.fail(key, "%s is given twice, line %d has it too", r, line)
		return
	}
	p.lines[r] = key.GetToken().Position.Line
	var item Item
	switch value.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		item = p.item(r, value)
	default:
		item.Version = p.version(r, value)
	}
	if item.Version != "" {
		p.lock[r] = item
	}
}

// item reads {version: 3, item: "id"}.
func (p *lockParser) item(r Reference, node ast.Node) (item Item) {
	for key, value := range p.entries(node) {
		switch name := keyText(key); name {
		case "version":
			item.Version = p.version(r, value)
		case "item":
			id, ok := value.(*ast.StringNode)
			if !ok || id.Value == "" || strings.ContainsFunc(id.Value, func(c rune) bool { return !unicode.IsPrint(c) }) {
				p.fail(value, "the item of %s is %s: it must be an id in quotes", r, value)
				continue
			}
			item.ID = id.Value
		default:
			p.fail(key, "unknown key %q: a reference has a version and an item", name)
		}
	}
	if item.Version == "" && len(p.problems) == 0 {
		p.fail(node, "%s has no version", r)
	}
	return item
}

// version reads a version, empty when it is none.
func (p *lockParser) version(r Reference, node ast.Node) string {
	version, ok := node.(*ast.IntegerNode)
	if !ok || !positive(version.Token.Value) {
		p.fail(node, "the version of %s is %s: it must be a positive integer", r, node)
		return ""
	}
	return version.Token.Value
}

// positive reports whether s is a positive decimal number without leading
// zeros, so that a version has one spelling.
func positive(s string) bool {
	_, err := strconv.ParseUint(s, 10, 63)
	return err == nil && s[0] != '0'
}

// entries yields the keys and values of a mapping; nothing, for an empty one.
func (p *lockParser) entries(node ast.Node) iter.Seq2[ast.Node, ast.Node] {
	return func(yield func(key, value ast.Node) bool) {
		switch n := node.(type) {
		case nil, *ast.NullNode, *ast.CommentGroupNode:
		case *ast.MappingNode:
			for _, v := range n.Values {
				if !yield(v.Key, v.Value) {
					return
				}
			}
		case *ast.MappingValueNode:
			yield(n.Key, n.Value)
		default:
			p.fail(node, "a mapping belongs here")
		}
	}
}

func keyText(key ast.Node) string {
	if s, ok := key.(*ast.StringNode); ok {
		return s.Value
	}
	return key.String()
}
