package importer

import (
	"slices"
	"strings"
)

// patch makes the file say what want says and touches no other line. Comments
// of lines that go move to the key that says it now (lifted). Where the text
// cannot be edited in place, because of anchors or flow style, the whole file
// is written anew and its comments are lost.
func (d *document) patch(want *mapping, lifted []Lift) (text []byte, commentsLost bool) {
	if equal(d.root.value(), want) {
		return []byte(strings.Join(d.lines, "\n") + "\n"), false
	}
	p := &patcher{document: d, moved: map[string]map[string][]string{}, lifted: lifted}
	if p.mapping(d.root, want, nil, len(d.lines)) {
		text := p.apply()
		if again, problems := parse(text, d.file); !problems.Failed() && equal(again.root.value(), want) {
			return text, false
		}
	}
	return marshal(want), len(d.comments) > 0
}

// edit replaces the lines from first to last, counted from one; an edit with
// last before first inserts before first.
type edit struct {
	first, last int
	text        []string
	// service and key are set for a key that takes over comments.
	service, key string
}

type patcher struct {
	*document
	edits  []edit
	lifted []Lift
	// moved are comments by service and the x- key that they go to.
	moved map[string]map[string][]string
}

// mapping edits a block mapping whose lines end at end; false means that it
// cannot be done in place.
func (p *patcher) mapping(n *node, want *mapping, path []string, end int) bool {
	if n.flow || n.borrowed || n.kind != mappingNode {
		return false
	}
	own := slices.DeleteFunc(slices.Clone(n.fields), func(f field) bool { return f.merged })
	for i, f := range own {
		last := end
		if i+1 < len(own) {
			last = own[i+1].line - 1
		}
		if last < f.line {
			return false
		}
		last = p.trim(f.line, last, f.column)
		at := append(path[:len(path):len(path)], f.key)
		if !want.has(f.key) {
			if holdsAnchor(f.node) {
				return false
			}
			if merged := p.mergedInstead(n, f.key); merged {
				return false
			}
			p.remove(f.line, last, f.column, at)
			continue
		}
		v := want.get(f.key)
		if equal(f.node.value(), v) || p.value(f, v, at, last) {
			continue
		}
		if holdsAnchor(f.node) {
			return false
		}
		p.carry(f.line, last, at)
		p.edits = append(p.edits, edit{first: f.line, last: last, text: p.render(f.key, v, f.column-1, at)})
	}
	for _, f := range n.fields {
		if f.merged && !want.has(f.key) {
			return false
		}
	}
	return p.additions(n, own, want, path, end)
}

// mergedInstead reports whether a merge key would bring the key back.
func (p *patcher) mergedInstead(n *node, key string) bool {
	return slices.ContainsFunc(n.fields, func(f field) bool { return f.merged && f.key == key })
}

// additions inserts the keys that the file does not have, and those that a
// merge key brings and that are to differ.
func (p *patcher) additions(n *node, own []field, want *mapping, path []string, end int) bool {
	if len(own) == 0 {
		return len(n.fields) == want.len() && equal(n.value(), want)
	}
	indent := own[0].column - 1
	var head, tail []entry
	for _, e := range want.entries {
		f, ok := n.field(e.key)
		switch {
		case ok && (!f.merged || equal(f.node.value(), e.value)):
		case len(path) == 0 && (e.key == "name" || e.key == "x-tier"):
			head = append(head, e)
		default:
			tail = append(tail, e)
		}
	}
	for _, e := range head {
		before := own[0].line
		if own[0].key == "name" && len(own) > 1 {
			before = p.trim(own[0].line, own[1].line-1, 1) + 1
		}
		p.edits = append(p.edits, edit{first: before, last: before - 1, text: p.render(e.key, e.value, indent, []string{e.key})})
	}
	last := own[len(own)-1]
	after := p.trim(last.line, end, last.column) + 1
	for _, e := range tail {
		in := edit{first: after, last: after - 1, text: p.render(e.key, e.value, indent, append(path[:len(path):len(path)], e.key))}
		if len(path) == 2 && path[0] == "services" {
			in.service, in.key = path[1], e.key
		}
		p.edits = append(p.edits, in)
	}
	return true
}

// value edits inside a value, where its own lines allow it.
func (p *patcher) value(f field, want any, path []string, last int) bool {
	n := f.node
	if n.flow || n.borrowed {
		return false
	}
	before, moved := len(p.edits), cloneMoved(p.moved)
	switch want := want.(type) {
	case *mapping:
		if n.kind == mappingNode && want.len() > 0 && n.line > f.line && p.mapping(n, want, path, last) {
			return true
		}
	case []any:
		if n.kind == sequenceNode && len(want) > 0 && p.items(n, want, path, last) {
			return true
		}
	}
	p.edits, p.moved = p.edits[:before], moved
	return false
}

// items takes items out of a list; anything else is not done in place.
func (p *patcher) items(n *node, want []any, path []string, end int) bool {
	next := 0
	for i, item := range n.items {
		last := end
		if i+1 < len(n.items) {
			last = n.items[i+1].line - 1
		}
		if last < item.line {
			return false
		}
		if next < len(want) && equal(item.value(), want[next]) {
			next++
			continue
		}
		if holdsAnchor(item) {
			return false
		}
		p.remove(item.line, p.trim(item.line, last, item.column), item.column, path)
	}
	return next == len(want)
}

func cloneMoved(in map[string]map[string][]string) map[string]map[string][]string {
	out := map[string]map[string][]string{}
	for service, keys := range in {
		out[service] = map[string][]string{}
		for key, lines := range keys {
			out[service][key] = slices.Clone(lines)
		}
	}
	return out
}

// holdsAnchor reports whether text elsewhere may depend on the node's.
func holdsAnchor(n *node) bool {
	if n.borrowed {
		return false
	}
	return n.anchored || slices.ContainsFunc(n.items, holdsAnchor) ||
		slices.ContainsFunc(n.fields, func(f field) bool { return !f.merged && holdsAnchor(f.node) })
}

// trim leaves out what stands at the end of an entry's lines and belongs to
// what follows: blank lines, and comments that are not indented deeper.
func (p *patcher) trim(first, last, column int) int {
	last = min(last, len(p.lines))
	for ; last > first; last-- {
		line := p.lines[last-1]
		body := strings.TrimLeft(line, " \t")
		if body == "" || body == "..." || strings.HasPrefix(body, "#") && len(line)-len(body) < column {
			continue
		}
		break
	}
	return last
}

// remove takes lines out, and the comment lines right above them.
func (p *patcher) remove(first, last, column int, path []string) {
	for first > 2 { // what stands at the top speaks of the whole file
		above := p.lines[first-2]
		body := strings.TrimLeft(above, " ")
		if !strings.HasPrefix(body, "#") || len(above)-len(body) != column-1 || p.taken(first-1) {
			break
		}
		first--
	}
	p.carry(first, last, path)
	p.edits = append(p.edits, edit{first: first, last: last})
}

func (p *patcher) taken(line int) bool {
	return slices.ContainsFunc(p.edits, func(e edit) bool { return e.first <= line && line <= e.last })
}

// carry moves the comments of lines that go to the x- key that says it now.
func (p *patcher) carry(first, last int, path []string) {
	if len(path) < 3 || path[0] != "services" {
		return
	}
	service := path[1]
	for line := first; line <= last; line++ {
		comment := p.comments[line]
		if comment == "" {
			continue
		}
		to := ""
		for _, l := range p.lifted {
			if l.Service == service && l.Line >= line && l.Line <= last {
				to = l.To
				break
			}
		}
		if p.moved[service] == nil {
			p.moved[service] = map[string][]string{}
		}
		p.moved[service][to] = append(p.moved[service][to], comment)
	}
}

// render writes an entry; what Skep adds is compact.
func (p *patcher) render(key string, v any, indent int, path []string) []string {
	compact := strings.HasPrefix(key, "x-") || len(path) < 3 || path[0] != "services" || key == "networks"
	return render(key, v, indent, compact && key != "services")
}

// apply makes the edits, the last first.
func (p *patcher) apply() []byte {
	for service, keys := range p.moved {
		// What has no key of its own goes above the first that was added.
		homeless := keys[""]
		placed := false
		for i := range p.edits {
			e := &p.edits[i]
			if e.service != service {
				continue
			}
			comments := slices.Clone(keys[e.key])
			if !placed {
				for _, key := range sortedKeys(keys) {
					if key != "" && !slices.ContainsFunc(p.edits, func(o edit) bool { return o.service == service && o.key == key }) {
						homeless = append(homeless, keys[key]...)
					}
				}
				comments, placed = append(homeless, comments...), true
			}
			pad := e.text[0][:len(e.text[0])-len(strings.TrimLeft(e.text[0], " "))]
			for n, c := range comments {
				e.text = slices.Insert(e.text, n, pad+"# "+c)
			}
		}
	}
	slices.SortStableFunc(p.edits, func(a, b edit) int { return a.first - b.first })
	var out []string
	line := 1
	for _, e := range p.edits {
		if e.first > line {
			out = append(out, p.lines[line-1:min(e.first-1, len(p.lines))]...)
		}
		line = max(line, e.first)
		out = append(out, e.text...)
		line = max(line, e.last+1)
		// One of two blank lines that meet where text went is enough.
		if len(e.text) == 0 && len(out) > 0 && out[len(out)-1] == "" && line <= len(p.lines) && p.lines[line-1] == "" {
			line++
		}
	}
	if line <= len(p.lines) {
		out = append(out, p.lines[line-1:]...)
	}
	return []byte(strings.TrimRight(strings.Join(out, "\n"), "\n") + "\n")
}
