package deploy

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"skep/generator/problem"
)

// WriteMarkdown writes a plan for a pull request.
func (p Plan) WriteMarkdown(w io.Writer) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "### Plan for %s\n\n%s\n", escapeMarkdown(p.Cluster), p.Summary())
	for _, text := range p.Problems {
		fmt.Fprintf(out, "\n> [!CAUTION]\n> %s\n", escapeMarkdown(text))
	}
	if len(p.Networks) > 0 {
		section(out, "shared networks", p.Networks)
	}
	for _, s := range p.Stacks {
		if len(s.Changes) > 0 {
			section(out, "stack "+string(s.Stack), s.Changes)
		}
		if s.Unfinished != 0 {
			fmt.Fprintf(out, "\nRevision %d of %s is unfinished: its services are waited for.\n", s.Unfinished, escapeMarkdown(string(s.Stack)))
		}
	}
	for _, n := range p.Names {
		n.writeMarkdown(out)
	}
	p.strangers(out)
	return out.Flush()
}

// strangers are what the project does not have, and the plan leaves alone.
func (p Plan) strangers(out io.Writer) {
	var lines []string
	for _, s := range p.Stacks {
		for _, o := range s.Orphans {
			lines = append(lines, fmt.Sprintf("- %s of stack %s: `--prune` removes it", code(o), escapeMarkdown(string(s.Stack))))
		}
	}
	for _, name := range p.Absent {
		lines = append(lines, fmt.Sprintf("- stack %s: %s removes it", escapeMarkdown(string(name)), code("skep down "+string(name))))
	}
	if len(lines) > 0 {
		fmt.Fprintf(out, "\nNot in the project:\n\n%s\n", strings.Join(lines, "\n"))
	}
}

func (p NamesPlan) writeMarkdown(out io.Writer) {
	if len(p.Changes) > 0 {
		fmt.Fprintf(out, "\n<details open><summary><b>%s</b></summary>\n\n| | name | now | then |\n|---|---|---|---|\n", escapeMarkdown(p.title()))
		for _, c := range p.Changes {
			why := ""
			if c.Why != "" {
				why = " (" + escapeMarkdown(c.Why) + ")"
			}
			fmt.Fprintf(out, "| %s | %s%s | %s | %s |\n", c.Action, code(c.subject()), why, code(c.Old), code(c.New))
		}
		fmt.Fprint(out, "\n</details>\n")
	}
	for _, note := range p.Notes {
		fmt.Fprintf(out, "\n> [!WARNING]\n> %s: %s\n", escapeMarkdown(p.title()), escapeMarkdown(note))
	}
	if p.Unread != "" {
		fmt.Fprintf(out, "\n> [!NOTE]\n> %s could not be read, and is left alone: %s\n", escapeMarkdown(p.title()), escapeMarkdown(p.Unread))
	}
}

func section(out io.Writer, title string, changes []Change) {
	fmt.Fprintf(out, "\n<details open><summary><b>%s</b></summary>\n\n| | what | setting | now | then |\n|---|---|---|---|---|\n", escapeMarkdown(title))
	for _, c := range changes {
		fmt.Fprintf(out, "| %s | %s %s%s | | | |\n", c.Action, c.Kind, code(c.Name), escapeMarkdown(note(problem.Paint{}, c)))
		for _, f := range c.Fields {
			hand := ""
			if f.Drift {
				hand = " (by hand)"
			}
			fmt.Fprintf(out, "| | | %s%s | %s | %s |\n", code(f.Path), hand, code(f.Old), code(f.New))
		}
	}
	fmt.Fprint(out, "\n</details>\n")
}

// code writes a value as code in a cell of a table.
func code(s string) string {
	if s == "" {
		return ""
	}
	s = strings.NewReplacer("|", "\\|", "`", "'").Replace(shorten(s))
	return "`" + s + "`"
}

func escapeMarkdown(s string) string {
	return strings.NewReplacer("|", "\\|", "<", "&lt;", ">", "&gt;", "`", "'", "*", "\\*", "_", "\\_").Replace(problem.Printable(s))
}
