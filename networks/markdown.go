package networks

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Markdown is the page network.md: an inventory, who is on each network and
// why, and a diagram.
func (m Map) Markdown() string {
	m = m.Sorted()
	var b strings.Builder
	b.WriteString("# Networks\n\n" +
		"The overlay networks of the cluster, who is on each and why.\n" +
		"Skep generates this page from the stack files; change those, not this.\n\n")
	if len(m) == 0 {
		b.WriteString("There are none.\n")
		return b.String()
	}
	b.WriteString("| network | scope | subnet | internal | encrypted | members |\n|---|---|---|---|---|--:|\n")
	for _, o := range m {
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s | %s | %s | %d |\n", o.Name, strings.ToLower(string(o.Name)),
			o.Scope, o.subnet(), yes(o.Internal), yes(o.Encrypted), o.services())
	}
	b.WriteString("\n## Members\n")
	for _, o := range m {
		fmt.Fprintf(&b, "\n### %s\n\n%s\n", o.Name, o.describe())
		if len(o.Members) == 0 {
			continue
		}
		b.WriteString("\n| service | why |\n|---|---|\n")
		for _, v := range o.Members {
			fmt.Fprintf(&b, "| %s/%s | %s |\n", cell(v.Stack), cell(v.Service), cell(v.Why))
		}
	}
	b.WriteString("\n## Diagram\n\n")
	b.WriteString(m.diagram())
	return b.String()
}

func (o Overlay) subnet() string {
	if !o.Subnet.IsValid() {
		return "Docker's choice"
	}
	return o.Subnet.String()
}

// services counts each service once, however many reasons it has.
func (o Overlay) services() int {
	seen := map[Member]bool{}
	for _, v := range o.Members {
		seen[Member{Stack: v.Stack, Service: v.Service}] = true
	}
	return len(seen)
}

func (o Overlay) describe() string {
	var b strings.Builder
	switch o.Scope {
	case StackScope:
		b.WriteString("Own network")
	case SharedScope:
		b.WriteString("Shared network")
	case ProxyScope:
		b.WriteString("Docker proxy's network")
	}
	if o.Owner != "" {
		b.WriteString(" of stack " + o.Owner)
	}
	if o.Internal {
		b.WriteString(", without a way out")
	}
	if o.Encrypted {
		b.WriteString(", encrypted between nodes")
	}
	if o.Attachable {
		b.WriteString(", open to plain containers")
	}
	if len(o.Members) == 0 {
		b.WriteString("; nobody is on it")
	}
	return b.String() + "."
}

func yes(v bool) string {
	if v {
		return "yes"
	}
	return ""
}

var cellReplacer = strings.NewReplacer("|", `\|`, "<", "&lt;", "\r", "", "\n", " ")

func cell(s string) string { return cellReplacer.Replace(s) }

// Where Mermaid stops drawing, as GitHub runs it.
// https://mermaid.js.org/config/schema-docs/config.html
const (
	maxEdges   = 500
	maxDrawing = 50_000 // characters
)

func (m Map) diagram() string {
	if drawing, ok := m.mermaid(); ok {
		return drawing
	}
	shared := slices.DeleteFunc(slices.Clone(m), func(o Overlay) bool { return o.Scope != SharedScope })
	if drawing, ok := shared.mermaid(); ok {
		return "Shared networks only; with the others it would be too large to draw.\n\n" + drawing
	}
	return "There are too many attachments to draw.\n"
}

// mermaid draws stacks as boxes that hold their services and their own
// networks; not ok says that the drawing is too large. The map is sorted.
func (m Map) mermaid() (drawing string, ok bool) {
	ids := mermaidIDs{ids: map[string]string{}, used: map[string]bool{}}
	boxes := map[string][]string{} // lines by stack
	var outside, edges []string
	for _, o := range m {
		network, _ := ids.of("network", string(o.Name))
		line := fmt.Sprintf("%s([%s])", network, quoted(string(o.Name)))
		if o.Scope != SharedScope && o.Owner != "" {
			boxes[o.Owner] = append(boxes[o.Owner], line)
		} else {
			outside = append(outside, line)
		}
		last := ""
		for _, v := range o.Members {
			service, isNew := ids.of("service", v.Stack+"/"+v.Service)
			if isNew {
				boxes[v.Stack] = append(boxes[v.Stack], fmt.Sprintf("%s[%s]", service, quoted(v.Service)))
			}
			if service != last { // members are sorted, reasons side by side
				edges = append(edges, service+" --- "+network)
			}
			last = service
		}
	}
	var b strings.Builder
	b.WriteString("```mermaid\ngraph LR\n")
	for _, stack := range slices.Sorted(maps.Keys(boxes)) {
		id, _ := ids.of("stack", stack)
		fmt.Fprintf(&b, "  subgraph %s[%s]\n", id, quoted(stack))
		for _, line := range boxes[stack] {
			b.WriteString("    " + line + "\n")
		}
		b.WriteString("  end\n")
	}
	for _, line := range append(outside, edges...) {
		b.WriteString("  " + line + "\n")
	}
	b.WriteString("```\n")
	return b.String(), len(edges) <= maxEdges && b.Len() <= maxDrawing
}

func quoted(label string) string { return `"` + strings.ReplaceAll(label, `"`, "#quot;") + `"` }

type mermaidIDs struct {
	ids  map[string]string
	used map[string]bool
}

var idGaps = regexp.MustCompile(`[^a-zA-Z0-9]`)

// of returns the id of a thing, and whether it is a new one. The kind in front
// keeps ids apart from each other and from Mermaid's own words.
func (m mermaidIDs) of(kind, name string) (id string, isNew bool) {
	key := kind + "_" + name
	if id, ok := m.ids[key]; ok {
		return id, false
	}
	base := idGaps.ReplaceAllString(key, "_")
	id = base
	for n := 2; m.used[id]; n++ {
		id = base + "_" + strconv.Itoa(n)
	}
	m.ids[key], m.used[id] = id, true
	return id, true
}
