package secrets

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Template is text that holds references, read as `op inject` reads it.
// https://developer.1password.com/docs/cli/secrets-template-syntax
//
//   - {{ op://vault/item/field }} is a reference, spaces and query included.
//   - op:// outside braces starts one unless a letter, a digit, -, +, \ or .
//     stands before it; it ends before the first character that is no letter,
//     digit, -, _, ., / or ?, and = once a ? was seen.
//   - {{ "text" }} is the text, with \" for a quote; no reference in it counts.
//
// Other braces are text. A string that is a reference from its first character
// to its last is that reference, spaces included. Variables ($NAME) are not
// replaced: Compose has done so before.
type Template struct {
	source   string
	segments []segment
}

// segment is a stretch of text, or a reference if isReference.
type segment struct {
	text        string
	reference   Reference
	isReference bool
}

// TemplateError is a malformed reference in a template.
type TemplateError struct {
	Offset int // in bytes, of the reference or of the braces around it
	Err    error
}

func (e *TemplateError) Error() string { return fmt.Sprintf("offset %d: %v", e.Offset, e.Err) }

func (e *TemplateError) Unwrap() error { return e.Err }

// HasReference is a fast test for whether a string is worth parsing: false
// means that it holds no reference.
func HasReference(s string) bool { return strings.Contains(s, scheme) }

// ParseTemplate reads a string. The error joins a *TemplateError for each
// malformed reference.
func ParseTemplate(s string) (Template, error) {
	if !HasReference(s) {
		return Template{source: s, segments: []segment{{text: s}}}, nil
	}
	if r, err := ParseReference(s); err == nil {
		return Template{source: s, segments: []segment{{reference: r, isReference: true}}}, nil
	}
	p := templateParser{source: s}
	p.parse()
	if len(p.problems) > 0 {
		return Template{}, errors.Join(p.problems...)
	}
	return Template{source: s, segments: p.segments}, nil
}

// String is the template as it was written.
func (t Template) String() string { return t.source }

// Sole returns the reference if the template is one and nothing else.
func (t Template) Sole() (Reference, bool) {
	if len(t.segments) != 1 || !t.segments[0].isReference {
		return Reference{}, false
	}
	return t.segments[0].reference, true
}

// References returns each reference once, sorted.
func (t Template) References() []Reference {
	var out []Reference
	for _, s := range t.segments {
		if s.isReference {
			out = append(out, s.reference)
		}
	}
	slices.SortFunc(out, Reference.Compare)
	return slices.Compact(out)
}

// Render puts something in the place of each reference: its value, or where
// the value is to be found. The first error of value ends it.
func (t Template) Render(value func(Reference) (string, error)) (string, error) {
	var b strings.Builder
	for _, s := range t.segments {
		if s.isReference {
			v, err := value(s.reference)
			if err != nil {
				return "", fmt.Errorf("resolve %s: %w", s.reference, err)
			}
			b.WriteString(v)
			continue
		}
		b.WriteString(s.text)
	}
	return b.String(), nil
}

// Fill puts values in the place of the references. The first error of value
// ends it. The result is the caller's to wipe, as are the values.
func (t Template) Fill(value func(Reference) (Value, error)) (Value, error) {
	parts := make([][]byte, len(t.segments))
	size := 0
	for i, s := range t.segments {
		parts[i] = []byte(s.text)
		if s.isReference {
			v, err := value(s.reference)
			if err == nil {
				parts[i], err = v.Bytes()
			}
			if err != nil {
				return Value{}, fmt.Errorf("resolve %s: %w", s.reference, err)
			}
		}
		size += len(parts[i])
	}
	// Sized at once: growing would leave copies behind.
	out := make([]byte, 0, size)
	for _, part := range parts {
		out = append(out, part...)
	}
	return NewValue(out), nil
}

type templateParser struct {
	source   string
	at       int // next byte to read
	pending  int // start of text that no segment holds yet
	segments []segment
	problems []error
}

var (
	enclosedStart = regexp.MustCompile(`^\{\{[ \t]*op://`)
	quoted        = regexp.MustCompile(`^\{\{[ \t]*"((?s:[^"\\]|\\.)*)"[ \t]*\}\}`)
)

func (p *templateParser) parse() {
	for {
		next := strings.IndexAny(p.source[p.at:], "{o")
		if next < 0 {
			break
		}
		p.at += next
		rest := p.source[p.at:]
		switch {
		case enclosedStart.MatchString(rest):
			p.enclosed(rest)
		case strings.HasPrefix(rest, "{{"):
			if m := quoted.FindStringSubmatchIndex(rest); m != nil {
				p.add(m[1], segment{text: strings.ReplaceAll(rest[m[2]:m[3]], `\"`, `"`)})
			} else {
				p.at++
			}
		case strings.HasPrefix(rest, scheme) && (p.at == 0 || !bindsScheme(p.source[p.at-1])):
			p.bare(rest)
		default:
			p.at++
		}
	}
	p.flush(len(p.source))
}

func (p *templateParser) enclosed(rest string) {
	line, _, _ := strings.Cut(rest, "\n")
	end := strings.Index(line, "}}")
	if end < 0 {
		p.fail(errors.New("}} is missing after {{ op://"))
		p.at += len(line)
		return
	}
	r, err := ParseReference(strings.Trim(line[2:end], " \t"))
	if err != nil {
		p.fail(err)
	}
	p.add(end+2, segment{reference: r, isReference: true})
}

func (p *templateParser) bare(rest string) {
	end, query := len(scheme), false
	for end < len(rest) {
		c := rest[end]
		if !bareByte(c) && c != '/' && c != '?' && (!query || c != '=') {
			break
		}
		query = query || c == '?'
		end++
	}
	r, err := ParseReference(rest[:end])
	if err != nil {
		if end < len(rest) {
			next, _ := utf8.DecodeRuneInString(rest[end:])
			err = fmt.Errorf("%w (the reference ends before %q)%s", err, next, bareRemedy(next))
		}
		p.fail(err)
	}
	p.add(end, segment{reference: r, isReference: true})
}

func bareRemedy(next rune) string {
	switch next {
	case ' ':
		return "; inside other text, write one with spaces as {{ op://... }}"
	case '$':
		return "; a reference is never filled in, write it out"
	}
	return ""
}

// add appends a segment for the next n bytes, after any text before them.
func (p *templateParser) add(n int, s segment) {
	p.flush(p.at)
	p.segments = append(p.segments, s)
	p.at += n
	p.pending = p.at
}

func (p *templateParser) flush(end int) {
	if p.pending < end {
		p.segments = append(p.segments, segment{text: p.source[p.pending:end]})
	}
}

func (p *templateParser) fail(err error) {
	p.problems = append(p.problems, &TemplateError{Offset: p.at, Err: err})
}

// bareByte reports whether c may stand in a name outside braces.
func bareByte(c byte) bool {
	return alphanumeric(c) || c == '-' || c == '_' || c == '.'
}

// bindsScheme reports whether op:// right after c is part of another word.
func bindsScheme(c byte) bool {
	return alphanumeric(c) || c == '-' || c == '+' || c == '\\' || c == '.'
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
