package diff

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"skep/generator/bundle"
	"skep/generator/problem"
)

// WriteText writes changes for people, grouped by stack and service.
func WriteText(w io.Writer, paint problem.Paint, changes []Change) error {
	out := bufio.NewWriter(w)
	var file, subject string
	for _, c := range changes {
		if c.File != file {
			file, subject = c.File, ""
			if c.whole() {
				fmt.Fprintf(out, "%s %s%s\n", mark(paint, c.Kind), paint.Bold(title(c)), detail(c))
				continue
			}
			fmt.Fprintln(out, paint.Bold(title(c)))
		}
		indent := "  "
		if s := c.subject(); s != "" {
			if c.Path == "" {
				fmt.Fprintf(out, "  %s %s%s\n", mark(paint, c.Kind), s, brief(c))
				subject = s
				continue
			}
			if s != subject {
				fmt.Fprintf(out, "  %s\n", s)
			}
			subject, indent = s, "    "
		}
		fmt.Fprintf(out, "%s%s %s%s\n", indent, mark(paint, c.Kind), problem.Printable(c.Path), values(c))
	}
	return out.Flush()
}

// whole reports whether the change is about the file itself.
func (c Change) whole() bool { return c.subject() == "" && c.Path == "" }

func (c Change) subject() string {
	if c.Service != "" {
		return "service " + c.Service
	}
	return c.Object
}

func title(c Change) string {
	if c.Stack != "" {
		return "stack " + c.Stack
	}
	return c.File
}

func mark(paint problem.Paint, kind bundle.ChangeKind) string {
	switch kind {
	case bundle.Added:
		return paint.Green("+")
	case bundle.Removed:
		return paint.Red("-")
	}
	return paint.Yellow("~")
}

func detail(c Change) string {
	switch {
	case c.Stack != "" && c.Kind == bundle.Changed:
		return " (comments)"
	case c.Stack != "":
		services := c.New
		if services == nil {
			services = c.Old
		}
		if list, ok := services.([]string); ok {
			return " (" + strings.Join(list, ", ") + ")"
		}
	case c.LinesAdded+c.LinesRemoved > 0 && c.Kind == bundle.Changed:
		return fmt.Sprintf(" (+%d -%d lines)", c.LinesAdded, c.LinesRemoved)
	}
	return ""
}

// brief names the image of a service that came or went.
func brief(c Change) string {
	v := c.New
	if v == nil {
		v = c.Old
	}
	if m, ok := v.(map[string]any); ok {
		if image, ok := m["image"].(string); ok {
			return " (" + problem.Printable(image) + ")"
		}
	}
	return ""
}

func values(c Change) string {
	switch {
	case c.Kind == bundle.Changed:
		return ": " + show(c.Old) + " -> " + show(c.New)
	case c.Kind == bundle.Added && !named(c.Path, c.New):
		return ": " + show(c.New)
	case c.Kind == bundle.Removed && !named(c.Path, c.Old):
		return ": " + show(c.Old)
	}
	return ""
}

// named is true for an entry of a list whose path already says its value.
func named(path string, v any) bool {
	return strings.HasSuffix(path, "["+fmt.Sprint(v)+"]")
}

// maxShown is the longest value that is written in full.
const maxShown = 120

// show writes a value on one line, as JSON, which is YAML too.
func show(v any) string {
	if s, ok := v.(string); ok && !strings.ContainsAny(s, "\n\t\"") && strings.TrimSpace(s) == s && s != "" {
		return shorten(problem.Printable(s))
	}
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil { // a time before the year 0
		return shorten(problem.Printable(fmt.Sprint(v)))
	}
	return shorten(strings.TrimSpace(out.String()))
}

func shorten(s string) string {
	if r := []rune(s); len(r) > maxShown {
		return string(r[:maxShown]) + "..."
	}
	return s
}
