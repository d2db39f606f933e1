package secrets

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Lock holds the version of the item behind each reference, a positive integer
// as 1Password counts them.
type Lock map[Reference]string

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
		fmt.Fprintf(&b, "  %s: %s\n", r, l[r])
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
	version, ok := value.(*ast.IntegerNode)
	if !ok || !positive(version.Token.Value) {
		p.fail(value, "the version of %s is %s: it must be a positive integer", r, value)
		return
	}
	p.lock[r] = version.Token.Value
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
