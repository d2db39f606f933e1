// Package problem holds what a person is told about their files: where, which
// rule, what is wrong and what to do about it.
package problem

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
)

// Position is a place in a file of the project. Line and Column count from
// one; a Line of zero means the file as a whole.
type Position struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return p.File + ":" + strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Column)
}

// Compare orders positions by file, line and column.
func (p Position) Compare(o Position) int {
	return cmp.Or(cmp.Compare(p.File, o.File), cmp.Compare(p.Line, o.Line), cmp.Compare(p.Column, o.Column))
}

// Severity says how much a problem matters. Errors stop a bundle from being
// written; warnings do not.
type Severity string

const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Rule is one thing that Skep looks for. Doc is its page: Markdown, a
// paragraph on why it matters and one on how to fix it.
type Rule struct {
	ID       string
	Severity Severity
	Title    string
	Doc      string
}

// Problem is one finding.
type Problem struct {
	Position
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
	Remedy   string   `json:"remedy,omitempty"`
	// Subject is "stack/service", or a stack, where the problem has one.
	Subject string `json:"subject,omitempty"`
}

func (p Problem) String() string {
	return fmt.Sprintf("%s: %s: %s", p.Position, p.Rule, p.Message)
}

// At makes a problem of this rule.
func (r Rule) At(pos Position, format string, args ...any) Problem {
	return Problem{Position: pos, Rule: r.ID, Severity: r.Severity, Message: fmt.Sprintf(format, args...)}
}

// WithRemedy says what to do about it.
func (p Problem) WithRemedy(format string, args ...any) Problem {
	p.Remedy = fmt.Sprintf(format, args...)
	return p
}

// About names the stack or service that the problem belongs to.
func (p Problem) About(subject fmt.Stringer) Problem {
	p.Subject = subject.String()
	return p
}

// List is the problems of one run.
type List []Problem

// Sorted returns the list in order of position, each finding once.
func (l List) Sorted() List {
	out := slices.Clone(l)
	slices.SortStableFunc(out, func(a, b Problem) int {
		return cmp.Or(a.Position.Compare(b.Position), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(out)
}

// Count returns how many problems have this severity.
func (l List) Count(s Severity) int {
	n := 0
	for _, p := range l {
		if p.Severity == s {
			n++
		}
	}
	return n
}

// Failed reports whether there is an error among them.
func (l List) Failed() bool { return l.Count(Error) > 0 }
