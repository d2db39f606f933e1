// Package diff says what differs between two bundles, in the words of Compose
// instead of lines: per stack and service, the keys and their values.
package diff

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"skep/generator/bundle"
)

// Change is one thing that differs.
type Change struct {
	// File is the bundle's file; Stack is set where it is a stack's.
	File  string `json:"file"`
	Stack string `json:"stack,omitempty"`
	// Service, or Object ("network default", "secret db"), is what it belongs to.
	Service string `json:"service,omitempty"`
	Object  string `json:"object,omitempty"`
	// Path is the key below that; empty when all of it came or went.
	Path string            `json:"path,omitempty"`
	Kind bundle.ChangeKind `json:"kind"`
	Old  any               `json:"old,omitempty"`
	New  any               `json:"new,omitempty"`
	// Lines count what came and went in a file that is no YAML.
	LinesAdded   int `json:"linesAdded,omitempty"`
	LinesRemoved int `json:"linesRemoved,omitempty"`
}

// sections are the top-level keys of a Compose file and what one entry is called.
var sections = []struct{ key, noun string }{
	{"services", ""}, {"networks", "network"}, {"volumes", "volume"}, {"configs", "config"}, {"secrets", "secret"},
}

// Files compares one file of the bundle in two versions; nil is a file that is
// not there. isStack says that it is the Compose file of a stack.
func Files(path string, isStack bool, before, after []byte) []Change {
	kind := kindOf(before == nil, after == nil)
	old, err := parse(path, before)
	now, err2 := parse(path, after)
	switch {
	case err != nil || err2 != nil: // no YAML, or not any more
		change := Change{File: path, Kind: kind}
		change.LinesAdded, change.LinesRemoved = lineCounts(before, after)
		return []Change{change}
	case isStack:
		return stackChanges(path, kind, old, now)
	case kind != bundle.Changed:
		return []Change{{File: path, Kind: kind}}
	}
	c := &comparison{change: Change{File: path}}
	c.compare("", old, now)
	if len(c.found) == 0 { // comments
		return []Change{{File: path, Kind: kind}}
	}
	return c.found
}

func kindOf(added, removed bool) bundle.ChangeKind {
	switch {
	case added:
		return bundle.Added
	case removed:
		return bundle.Removed
	}
	return bundle.Changed
}

func stackChanges(path string, kind bundle.ChangeKind, old, now any) []Change {
	name := strings.TrimSuffix(path, ".yaml")
	whole := Change{File: path, Stack: name, Kind: kind}
	if kind != bundle.Changed {
		whole.Old, whole.New = names(old), names(now)
		return []Change{whole}
	}
	before, _ := old.(map[string]any)
	after, _ := now.(map[string]any)
	var out []Change
	for _, section := range sections {
		was, _ := before[section.key].(map[string]any)
		is, _ := after[section.key].(map[string]any)
		for _, entry := range keys(was, is) {
			c := &comparison{change: Change{File: path, Stack: name}}
			if section.noun == "" {
				c.change.Service = entry
			} else {
				c.change.Object = section.noun + " " + entry
			}
			c.entry("", was, is, entry)
			out = append(out, c.found...)
		}
	}
	if before["version"] != after["version"] {
		c := &comparison{change: Change{File: path, Stack: name}}
		c.entry("version", before, after, "version")
		out = append(out, c.found...)
	}
	if len(out) == 0 { // the comment at the top names the source
		return []Change{whole}
	}
	return out
}

// names are the services of a Compose file.
func names(file any) any {
	m, _ := file.(map[string]any)
	services, ok := m["services"].(map[string]any)
	if !ok {
		return nil
	}
	return keys(services, nil)
}

var errNotYAML = errors.New("not YAML")

func parse(path string, content []byte) (any, error) {
	if !strings.HasSuffix(path, ".yaml") && !strings.HasSuffix(path, ".yml") {
		return nil, errNotYAML
	}
	var v any
	err := yaml.Unmarshal(content, &v)
	return plain(v), err
}

// plain turns what YAML knows and JSON does not into text.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, item := range v {
			v[k] = plain(item)
		}
	case map[any]any:
		out := make(map[string]any, len(v))
		for k, item := range v {
			out[fmt.Sprint(k)] = plain(item)
		}
		return out
	case []any:
		for i, item := range v {
			v[i] = plain(item)
		}
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Sprint(v)
		}
	}
	return v
}

// lineCounts are the lines that went and came, whatever their order.
func lineCounts(before, after []byte) (added, removed int) {
	count := map[string]int{}
	for line := range strings.Lines(string(after)) {
		count[line]++
	}
	for line := range strings.Lines(string(before)) {
		count[line]--
	}
	for _, n := range count {
		removed += max(0, -n)
		added += max(0, n)
	}
	return added, removed
}

func keys(a, b map[string]any) []string {
	var out []string
	for k := range a {
		out = append(out, k)
	}
	for k := range b {
		out = append(out, k)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
