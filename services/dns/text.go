package dns

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"skep/generator/problem"
	"skep/networks"
)

// changeJSON is a change as machines read it.
type changeJSON struct {
	Action Action           `json:"action"`
	Record networks.Record  `json:"record"`
	Before *networks.Record `json:"before,omitempty"`
	Reason string           `json:"reason,omitempty"`
	Due    *time.Time       `json:"due,omitempty"`
}

// MarshalJSON leaves out what only the provider needs.
func (c Change) MarshalJSON() ([]byte, error) {
	out := changeJSON{Action: c.Action, Record: c.Record, Reason: c.Reason}
	if c.Old != nil && c.Action == Update {
		out.Before = &c.Old.Record
	}
	if !c.Due.IsZero() {
		out.Due = &c.Due
	}
	return json.Marshal(out)
}

type planJSON struct {
	Zone      string     `json:"zone"`
	Domain    string     `json:"domain"`
	Provider  string     `json:"provider"`
	Changes   []Change   `json:"changes"`
	Held      []Change   `json:"held"`
	Waiting   []Change   `json:"waiting"`
	Conflicts []Conflict `json:"conflicts"`
	Unchanged int        `json:"unchanged"`
	Foreign   int        `json:"foreign"`
}

// MarshalJSON writes empty lists as such.
func (p Plan) MarshalJSON() ([]byte, error) {
	out := planJSON(p)
	for _, list := range []*[]Change{&out.Changes, &out.Held, &out.Waiting} {
		if *list == nil {
			*list = []Change{}
		}
	}
	if out.Conflicts == nil {
		out.Conflicts = []Conflict{}
	}
	return json.Marshal(out)
}

// Line says a change in one line.
func (c Change) Line(paint problem.Paint) string {
	what := fmt.Sprintf("%-5s %s", c.Record.Type, c.Record.Name)
	if c.Record.Content != "" {
		what += " -> " + c.Record.Content
	}
	if c.Record.Proxied {
		what += " (proxied)"
	}
	var notes []string
	if c.Record.Owner != "" {
		notes = append(notes, c.Record.Owner)
	}
	if c.Reason != "" {
		notes = append(notes, c.Reason)
	}
	if !c.Due.IsZero() && c.Action != Remove {
		notes = append(notes, "to be removed after "+c.Due.UTC().Format(time.RFC3339))
	}
	mark := map[Action]string{
		Create: paint.Green("create "), Update: paint.Yellow("update "), Restore: paint.Green("restore"),
		Retire: paint.Yellow("retire "), Remove: paint.Red("remove "),
	}[c.Action]
	line := mark + "  " + problem.Printable(what)
	if len(notes) > 0 {
		line += "  " + paint.Dim(problem.Printable(strings.Join(notes, "; ")))
	}
	return line
}

// WriteText tells a person what the plan does.
func (p Plan) WriteText(w io.Writer, paint problem.Paint) error {
	var out strings.Builder
	fmt.Fprintf(&out, "%s (%s, %s): %d to change, %d waiting to go, %d unchanged", p.Domain, p.Zone, p.Provider, len(p.Changes), len(p.Waiting), p.Unchanged)
	if p.Foreign > 0 {
		fmt.Fprintf(&out, ", %d made by somebody else", p.Foreign)
	}
	out.WriteString("\n")
	for _, c := range p.Changes {
		out.WriteString("  " + c.Line(paint) + "\n")
	}
	for _, c := range p.Waiting {
		note := c.Reason
		if !c.Due.IsZero() {
			note = "until " + c.Due.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(&out, "  %s  %-5s %s  %s\n", paint.Dim("waits  "), c.Record.Type, c.Record.Name, paint.Dim(note))
	}
	for _, c := range p.Held {
		fmt.Fprintf(&out, "  %s  %-5s %s  %s\n", paint.Red("held   "), c.Record.Type, c.Record.Name, paint.Dim("too many records would go at once"))
	}
	for _, c := range p.Conflicts {
		fmt.Fprintf(&out, "  %s  %-5s %s  %s\n", paint.Red("refused"), c.Record.Type, problem.Printable(c.Record.Name), problem.Printable(c.Reason))
	}
	_, err := io.WriteString(w, out.String())
	return err
}
