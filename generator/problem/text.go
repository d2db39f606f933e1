package problem

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text writes problems for people: a line each that editors can jump to, and
// the remedy below it.
type Text struct {
	// Color marks with ANSI colours and shows the source line.
	Color bool
	// Path turns a file of the project into what the reader calls it; nil
	// leaves it as it is.
	Path func(file string) string
	// Source reads a file of the project; nil, or an error, shows no source.
	Source func(file string) ([]byte, error)
}

// Write writes the list in its order.
func (t Text) Write(w io.Writer, l List) error {
	out := bufio.NewWriter(w)
	paint := Paint{On: t.Color}
	var last string
	var source [][]byte
	for _, p := range l {
		if t.Color && p.File != last {
			if last != "" {
				fmt.Fprintln(out)
			}
			source = t.lines(p.File)
		}
		last = p.File
		pos := p.Position
		if t.Path != nil {
			pos.File = t.Path(pos.File)
		}
		rule, suffix := paint.Red(p.Rule), ""
		if p.Severity == Warning {
			rule, suffix = paint.Yellow(p.Rule), " (warning)"
		}
		fmt.Fprintf(out, "%s: %s: %s%s\n", paint.Bold(pos.String()), rule, Printable(p.Message), suffix)
		if line, caret, ok := excerpt(source, p.Position); ok {
			margin := fmt.Sprintf("%5d | ", p.Line)
			fmt.Fprintf(out, "%s%s\n%s%s\n", paint.Dim(margin), line, paint.Dim(strings.Repeat(" ", len(margin)-2)+"| "), paint.Red(caret))
		}
		for line := range strings.Lines(p.Remedy) {
			fmt.Fprintf(out, "    %s\n", paint.Dim(Printable(strings.TrimRight(line, "\n"))))
		}
	}
	return out.Flush()
}

// maxSource is the largest file that is read again to show a line of it.
const maxSource = 4 << 20

func (t Text) lines(file string) [][]byte {
	if t.Source == nil {
		return nil
	}
	content, err := t.Source(file)
	if err != nil || len(content) > maxSource || !utf8.Valid(content) {
		return nil
	}
	return bytes.Split(content, []byte("\n"))
}

// maxExcerpt is the longest source line that is worth showing.
const maxExcerpt = 160

// excerpt is a source line and a caret below what starts at the position.
func excerpt(lines [][]byte, pos Position) (line, caret string, ok bool) {
	if pos.Line < 1 || pos.Column < 1 || pos.Line > len(lines) {
		return "", "", false
	}
	line = strings.TrimRight(string(lines[pos.Line-1]), "\r")
	runes := []rune(line)
	if len(runes) > maxExcerpt || pos.Column > len(runes) {
		return "", "", false
	}
	var pad strings.Builder
	for _, r := range runes[:pos.Column-1] {
		if r != '\t' {
			r = ' '
		}
		pad.WriteRune(r)
	}
	n := 0
	for _, r := range runes[pos.Column-1:] {
		if unicode.IsSpace(r) || (r == ':' && n > 0) {
			break
		}
		n++
	}
	return Printable(line), pad.String() + strings.Repeat("^", max(1, n)), true
}

// Printable replaces control characters, which a file may hold and a terminal
// would obey.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && unicode.IsControl(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// Paint colours text for a terminal, when On.
type Paint struct{ On bool }

func (p Paint) wrap(code, s string) string {
	if !p.On || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// Bold, Dim, Red, Green, Yellow and Cyan mark s.
func (p Paint) Bold(s string) string   { return p.wrap("1", s) }
func (p Paint) Dim(s string) string    { return p.wrap("2", s) }
func (p Paint) Red(s string) string    { return p.wrap("31", s) }
func (p Paint) Green(s string) string  { return p.wrap("32", s) }
func (p Paint) Yellow(s string) string { return p.wrap("33", s) }
func (p Paint) Cyan(s string) string   { return p.wrap("36", s) }

// Summary counts problems: "3 errors, 1 warning in 12 stacks".
func (l List) Summary(stacks int) string {
	var parts []string
	if n := l.Count(Error); n > 0 {
		parts = append(parts, plural(n, "error"))
	}
	if n := l.Count(Warning); n > 0 {
		parts = append(parts, plural(n, "warning"))
	}
	if len(parts) == 0 {
		parts = []string{"no problems"}
	}
	return strings.Join(parts, ", ") + " in " + plural(stacks, "stack")
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
