package diff

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"skep/generator/bundle"
)

// comparison collects what differs below one service, object or file.
type comparison struct {
	change Change
	found  []Change
}

func (c *comparison) report(kind bundle.ChangeKind, path string, old, now any) {
	change := c.change
	change.Kind, change.Path, change.Old, change.New = kind, path, old, now
	c.found = append(c.found, change)
}

// entry compares what two mappings hold under one key.
func (c *comparison) entry(path string, before, after map[string]any, key string) {
	old, was := before[key]
	now, is := after[key]
	switch {
	case !was && !is:
	case !was:
		c.report(bundle.Added, path, nil, now)
	case !is:
		c.report(bundle.Removed, path, old, nil)
	default:
		c.compare(path, old, now)
	}
}

func (c *comparison) compare(path string, old, now any) {
	if reflect.DeepEqual(old, now) {
		return
	}
	switch before := old.(type) {
	case map[string]any:
		if after, ok := now.(map[string]any); ok {
			for _, key := range keys(before, after) {
				c.entry(join(path, key), before, after, key)
			}
			return
		}
	case []any:
		if after, ok := now.([]any); ok {
			c.lists(path, before, after)
			return
		}
	}
	c.report(bundle.Changed, path, old, now)
}

func join(path, key string) string {
	switch {
	case strings.ContainsAny(key, ".[ ") && path != "":
		return path + "[" + key + "]"
	case path == "":
		return key
	}
	return path + "." + key
}

// lists compares entry by entry where entries can be told apart, else as a whole.
func (c *comparison) lists(path string, old, now []any) {
	was, ok := byIdentity(old, now)
	if !ok || isCommand(path) {
		c.report(bundle.Changed, path, old, now)
		return
	}
	before, after := was.index(old), was.index(now)
	all := keys(before, after)
	n := len(c.found)
	for _, id := range all {
		c.entry(path+"["+id+"]", before, after, id)
	}
	if len(c.found) == n {
		c.report(bundle.Changed, path, old, now) // another order
	}
}

// isCommand is true for lists of words whose order is their meaning.
func isCommand(path string) bool {
	return path == "command" || path == "entrypoint" || strings.HasSuffix(path, ".test")
}

// identity tells the entries of a list apart.
type identity func(entry any) (string, bool)

// identities are tried in order; what people recognise comes first.
var identities = []identity{
	fields("target"), fields("target", "protocol"), fields("published", "protocol"),
	fields("name"), fields("name", "type"), fields("name", "type", "content"), fields("hostname"), fields("source"), fields("subnet"), scalar,
}

func fields(names ...string) identity {
	return func(entry any) (string, bool) {
		m, ok := entry.(map[string]any)
		if !ok {
			return "", false
		}
		parts := make([]string, len(names))
		for i, name := range names {
			v, ok := m[name]
			if !ok {
				return "", false
			}
			parts[i] = fmt.Sprint(v)
		}
		return strings.Join(parts, " "), true
	}
}

// scalar is the identity of entries that are their own name.
func scalar(entry any) (string, bool) {
	switch v := entry.(type) {
	case string:
		return v, true
	case int:
		return strconv.Itoa(v), true
	}
	return "", false
}

func byIdentity(lists ...[]any) (identity, bool) {
	for _, id := range identities {
		if !slices.ContainsFunc(lists, func(l []any) bool { return !id.unique(l) }) {
			return id, true
		}
	}
	return nil, false
}

func (id identity) unique(list []any) bool {
	seen := map[string]bool{}
	for _, entry := range list {
		name, ok := id(entry)
		if !ok || seen[name] {
			return false
		}
		seen[name] = true
	}
	return true
}

func (id identity) index(list []any) map[string]any {
	out := make(map[string]any, len(list))
	for _, entry := range list {
		name, _ := id(entry)
		out[name] = entry
	}
	return out
}
