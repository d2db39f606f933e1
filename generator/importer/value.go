package importer

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// mapping is a YAML mapping that keeps its order. The other values are []any,
// string, bool, int, uint64, float64 and nil.
type mapping struct{ entries []entry }

type entry struct {
	key   string
	value any
}

func (m *mapping) len() int {
	if m == nil {
		return 0
	}
	return len(m.entries)
}

// all are the entries, none of no mapping.
func (m *mapping) all() []entry {
	if m == nil {
		return nil
	}
	return m.entries
}

func (m *mapping) find(key string) int {
	if m == nil {
		return -1
	}
	return slices.IndexFunc(m.entries, func(e entry) bool { return e.key == key })
}

func (m *mapping) has(key string) bool { return m.find(key) >= 0 }

func (m *mapping) get(key string) any {
	if i := m.find(key); i >= 0 {
		return m.entries[i].value
	}
	return nil
}

func (m *mapping) set(key string, v any) {
	if i := m.find(key); i >= 0 {
		m.entries[i].value = v
		return
	}
	m.entries = append(m.entries, entry{key, v})
}

// setFirst puts a key before all others.
func (m *mapping) setFirst(key string, v any) {
	if m.has(key) {
		m.set(key, v)
		return
	}
	m.entries = slices.Insert(m.entries, 0, entry{key, v})
}

// setOrDelete sets a mapping or list, or takes the key out when it is empty.
func (m *mapping) setOrDelete(key string, v any) {
	if !m.has(key) && empty(v) {
		return
	}
	if empty(v) {
		m.delete(key)
		return
	}
	m.set(key, v)
}

func empty(v any) bool {
	switch v := v.(type) {
	case *mapping:
		return v.len() == 0
	case []any:
		return len(v) == 0
	}
	return v == nil
}

func (m *mapping) delete(key string) {
	if m == nil {
		return
	}
	m.entries = slices.DeleteFunc(m.entries, func(e entry) bool { return e.key == key })
}

func sub(v any, path ...string) any {
	for _, key := range path {
		m, ok := v.(*mapping)
		if !ok {
			return nil
		}
		v = m.get(key)
	}
	return v
}

// equal compares values; the order of a mapping's keys says nothing.
func equal(a, b any) bool {
	switch a := a.(type) {
	case *mapping:
		b, ok := b.(*mapping)
		return ok && a.len() == b.len() && !slices.ContainsFunc(a.all(), func(e entry) bool { return !b.has(e.key) || !equal(e.value, b.get(e.key)) })
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, equal)
	}
	return a == b
}

// text is a scalar as Compose reads it.
func text(v any) string {
	switch v := v.(type) {
	case nil, *mapping, []any:
		return ""
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return fmt.Sprint(v)
	}
}

// strs is a list of scalars; one scalar stands for a list of one.
func strs(v any) []string {
	switch v := v.(type) {
	case nil, *mapping:
		return nil
	case []any:
		out := make([]string, 0, len(v))
		for _, item := range v {
			out = append(out, text(item))
		}
		return out
	}
	return []string{text(v)}
}

// asList is a list, or one value as a list of one.
func asList(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}

func list[T any](in []T) []any {
	out := make([]any, len(in))
	for i, v := range in {
		out[i] = v
	}
	return out
}

func index(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 0
}

// width is what a flow collection may fill of a line.
const width = 110

// render writes "key: value" in block style, short collections of x- keys in
// flow style; every line begins with the indent.
func render(key string, v any, indent int, flow bool) []string {
	pad := strings.Repeat(" ", indent)
	head := pad + scalar(key, false) + ":"
	switch v := v.(type) {
	case *mapping:
		if v.len() == 0 {
			return []string{head + " {}"}
		}
		if one := inline(v); flow && len(head)+1+len(one) <= width {
			return []string{head + " " + one}
		}
		out := []string{head}
		for _, e := range v.entries {
			out = append(out, render(e.key, e.value, indent+2, flow)...)
		}
		return out
	case []any:
		if len(v) == 0 {
			return []string{head + " []"}
		}
		if one := inline(v); flow && len(head)+1+len(one) <= width && !holdsMapping(v) {
			return []string{head + " " + one}
		}
		return append([]string{head}, items(v, indent+2, flow)...)
	}
	if v == nil {
		return []string{head}
	}
	return []string{head + " " + scalar(v, false)}
}

func holdsMapping(v []any) bool {
	return slices.ContainsFunc(v, func(item any) bool { _, ok := item.(*mapping); return ok })
}

func items(v []any, indent int, flow bool) []string {
	pad := strings.Repeat(" ", indent)
	var out []string
	for _, item := range v {
		switch item := item.(type) {
		case *mapping:
			one := inline(item)
			if item.len() == 0 || flow && indent+2+len(one) <= width {
				out = append(out, pad+"- "+one)
				continue
			}
			var body []string
			for _, e := range item.entries {
				body = append(body, render(e.key, e.value, indent+2, flow)...)
			}
			body[0] = pad + "- " + strings.TrimLeft(body[0], " ")
			out = append(out, body...)
		case []any:
			out = append(out, pad+"- "+inline(item))
		default:
			out = append(out, pad+"- "+scalar(item, false))
		}
	}
	return out
}

// inline writes a value in flow style.
func inline(v any) string {
	switch v := v.(type) {
	case *mapping:
		parts := make([]string, 0, v.len())
		for _, e := range v.entries {
			parts = append(parts, scalar(e.key, true)+": "+inline(e.value))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []any:
		parts := make([]string, 0, len(v))
		for _, item := range v {
			parts = append(parts, inline(item))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return scalar(v, true)
}

var (
	// bare may stand unquoted anywhere, if it does not read as something else.
	bare = regexp.MustCompile(`^[A-Za-z0-9_./][A-Za-z0-9_./@+=-]*( [A-Za-z0-9_./@+=()-]+)*$`)
	// bareBlock may stand unquoted outside of flow collections.
	bareBlock = regexp.MustCompile(`^[A-Za-z0-9_./$][A-Za-z0-9_./@+=${}:-]*( [A-Za-z0-9_./@+=(){}$-]+)*$`)
	// oldBoolean is what YAML 1.1 readers take for a boolean.
	oldBoolean = regexp.MustCompile(`^(?i:y|n|yes|no|on|off)$`)
)

func scalar(v any, flow bool) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		safe := bare
		if !flow {
			safe = bareBlock
		}
		if safe.MatchString(v) && !strings.HasSuffix(v, ":") && !oldBoolean.MatchString(v) && readsBack(v) {
			return v
		}
		return quoted(v)
	case float64:
		s := strconv.FormatFloat(v, 'g', -1, 64)
		if !strings.ContainsAny(s, ".eIN") {
			s += ".0"
		}
		return strings.NewReplacer("+Inf", ".inf", "-Inf", "-.inf", "NaN", ".nan").Replace(s)
	default:
		return fmt.Sprint(v)
	}
}

func readsBack(s string) bool {
	var v any
	if err := yaml.Unmarshal([]byte(s), &v); err != nil {
		return false
	}
	return v == s
}

// quoted is a double-quoted scalar; JSON's escapes are YAML's.
func quoted(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return strconv.Quote(s)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// marshal writes a whole document anew.
func marshal(m *mapping) []byte {
	var out []string
	for i, e := range m.entries {
		if _, ok := e.value.(*mapping); ok && i > 0 {
			out = append(out, "")
		}
		out = append(out, render(e.key, e.value, 0, false)...)
	}
	return []byte(strings.Join(out, "\n") + "\n")
}
