package deploy

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"skep/generator/problem"
)

// WriteText writes a plan for people.
func (p Plan) WriteText(w io.Writer, paint problem.Paint) error {
	out := bufio.NewWriter(w)
	if len(p.Networks) > 0 {
		fmt.Fprintln(out, paint.Bold("shared networks"))
		writeChanges(out, paint, p.Networks)
	}
	for _, s := range p.Stacks {
		if s.Empty() && len(s.Orphans) == 0 {
			continue
		}
		fmt.Fprintln(out, paint.Bold("stack "+string(s.Stack)))
		if s.Unfinished != 0 {
			fmt.Fprintf(out, "  %s revision %d is unfinished: its services are waited for\n", paint.Yellow("~"), s.Unfinished)
		}
		writeChanges(out, paint, s.Changes)
		for _, o := range s.Orphans {
			fmt.Fprintf(out, "  %s\n", paint.Dim("? "+o+" is not in the project; --prune removes it"))
		}
	}
	for _, n := range p.Names {
		n.writeText(out, paint)
	}
	for _, name := range p.Absent {
		fmt.Fprintf(out, "%s\n", paint.Dim(fmt.Sprintf("? stack %s is not in the project; `skep down %s` removes it", name, name)))
	}
	for _, text := range p.Problems {
		fmt.Fprintf(out, "%s %s\n", paint.Red("!"), problem.Printable(text))
	}
	fmt.Fprintln(out, p.Summary())
	return out.Flush()
}

// Summary is the plan in a line.
func (p Plan) Summary() string {
	problems := ""
	switch n := len(p.Problems); {
	case n == 1:
		problems = "A problem stands in the way."
	case n > 1:
		problems = fmt.Sprintf("%d problems stand in the way.", n)
	}
	switch {
	case p.Empty() && problems != "":
		return problems
	case p.Empty():
		return "No changes: the Swarm runs what the project says."
	}
	counts := map[Action]int{}
	restarts, drift, unchanged := 0, 0, 0
	count := func(changes []Change) {
		for _, c := range changes {
			counts[c.Action]++
			if c.Restart && (c.Kind == KindService || c.Kind == KindJob) && c.Action != Remove {
				restarts++
			}
			if c.Drift {
				drift++
			}
		}
	}
	count(p.Networks)
	for _, s := range p.Stacks {
		count(s.Changes)
		unchanged += s.Unchanged
	}
	out := fmt.Sprintf("Plan: %d to create, %d to update, %d to replace, %d to remove, %d unchanged.",
		counts[Create], counts[Update], counts[Replace], counts[Remove], unchanged)
	if restarts > 0 {
		out += fmt.Sprintf(" Restarts: %d.", restarts)
	}
	if drift > 0 {
		out += fmt.Sprintf(" Changed by hand: %d.", drift)
	}
	if names := p.nameChanges(); names > 0 {
		out += fmt.Sprintf(" Names: %d.", names)
	}
	if problems != "" {
		out += " " + problems
	}
	return out
}

func writeChanges(out io.Writer, paint problem.Paint, changes []Change) {
	for _, c := range changes {
		fmt.Fprintf(out, "  %s %s %s%s\n", mark(paint, c.Action), c.Kind, problem.Printable(c.Name), note(paint, c))
		for _, f := range c.Fields {
			fmt.Fprintf(out, "      %s\n", f.line(paint))
		}
	}
}

func (p NamesPlan) writeText(out io.Writer, paint problem.Paint) {
	if len(p.Changes)+len(p.Notes) > 0 {
		fmt.Fprintln(out, paint.Bold(problem.Printable(p.title())))
	}
	for _, c := range p.Changes {
		fmt.Fprintf(out, "  %s %s\n", mark(paint, c.Action), problem.Printable(c.line()))
		if c.Why != "" {
			fmt.Fprintf(out, "      %s\n", paint.Dim(problem.Printable(c.Why)))
		}
	}
	for _, note := range p.Notes {
		fmt.Fprintf(out, "  %s %s\n", paint.Yellow("!"), problem.Printable(note))
	}
	if p.Unread != "" {
		fmt.Fprintln(out, paint.Dim(problem.Printable(fmt.Sprintf("? %s could not be read, and is left alone: %s", p.title(), p.Unread))))
	}
}

func (c NameChange) line() string {
	line := c.subject()
	switch {
	case c.removes() && c.Old != "":
		line += " -> " + c.Old
	case c.Old != "" && c.Old != c.New:
		line += ": " + c.Old + " -> " + c.New
	case c.New != "":
		line += " -> " + c.New
	}
	if c.Owner != "" {
		line += " (" + c.Owner + ")"
	}
	return line
}

func (p Plan) nameChanges() (n int) {
	for _, names := range p.Names {
		n += len(names.Changes)
	}
	return n
}

func mark(paint problem.Paint, a Action) string {
	switch a {
	case Create:
		return paint.Green("+")
	case Remove:
		return paint.Red("-")
	case Retire:
		return paint.Yellow("-")
	case Replace:
		return paint.Red("-") + "/" + paint.Green("+")
	}
	return paint.Yellow("~")
}

// note says what follows from a change.
func note(paint problem.Paint, c Change) string {
	var notes []string
	if c.Drift {
		notes = append(notes, "changed by hand")
	}
	if c.Why != "" {
		notes = append(notes, c.Why)
	}
	if c.Action == Update && c.Kind == KindService {
		if reasons := c.restartReasons(); len(reasons) > 0 {
			notes = append(notes, "restarts for "+strings.Join(reasons, ", "))
		} else if len(c.Fields) > 0 {
			notes = append(notes, "no restart")
		}
	}
	if c.Action == Update && c.Kind == KindJob {
		notes = append(notes, "runs again")
	}
	if len(notes) == 0 {
		return ""
	}
	return paint.Dim(" (" + problem.Printable(strings.Join(notes, "; ")) + ")")
}

// restartReasons are the settings, without what is in brackets, whose change
// replaces tasks.
func (c Change) restartReasons() []string {
	var out []string
	for _, f := range c.Fields {
		name, _, _ := strings.Cut(f.Path, "[")
		if f.Restarts && (len(out) == 0 || out[len(out)-1] != name) {
			out = append(out, name)
		}
	}
	return out
}

// maxShown is the longest value that is written in full.
const maxShown = 100

func (f Field) line(paint problem.Paint) string {
	sign := paint.Yellow("~")
	value := shorten(f.Old) + " -> " + shorten(f.New)
	switch {
	case f.Old == "":
		sign, value = paint.Green("+"), shorten(f.New)
	case f.New == "":
		sign, value = paint.Red("-"), shorten(f.Old)
	}
	line := fmt.Sprintf("%s %s: %s", sign, problem.Printable(f.Path), value)
	if f.Drift {
		line += paint.Dim(" (by hand)")
	}
	return line
}

func shorten(s string) string {
	s = problem.Printable(oneLine(s))
	if r := []rune(s); len(r) > maxShown {
		return string(r[:maxShown]) + "..."
	}
	return s
}
