// Package trace says of each line of an emitted Compose file where it comes
// from.
package trace

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"skep/generator/bundle"
	"skep/generator/stack"
)

// Line is a line of an emitted file.
type Line struct {
	Number int // from one
	Text   string
	// Path is the key that the line belongs to, from the top of the file.
	Path []string
	// Origin is where it comes from, if Known; lines such as `version` come
	// from no file.
	Origin bundle.Origin
	Known  bool
}

// Key is the path as people write it.
func (l Line) Key() string { return strings.Join(l.Path, ".") }

// Lines reads what bundle.Stack.Encode wrote and looks up every line.
func Lines(content []byte, origins *bundle.Origins) ([]Line, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(content, &root); err != nil {
		return nil, fmt.Errorf("read the emitted file: %w", err)
	}
	paths := map[int][]string{}
	locate(&root, nil, paths)

	var lines []Line
	var last []string
	for text := range strings.Lines(string(content)) {
		line := Line{Number: len(lines) + 1, Text: strings.TrimSuffix(text, "\n")}
		if path, ok := paths[line.Number]; ok {
			last = path
		}
		// A line without a key continues a text.
		line.Path = last
		if len(last) > 0 {
			line.Origin, line.Known = origins.At(last...)
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// locate notes the deepest path that starts on each line.
func locate(n *yaml.Node, path []string, paths map[int][]string) {
	switch n.Kind {
	case yaml.DocumentNode:
		for _, c := range n.Content {
			locate(c, path, paths)
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := append(path[:len(path):len(path)], n.Content[i].Value)
			paths[n.Content[i].Line] = key
			locate(n.Content[i+1], key, paths)
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			key := append(path[:len(path):len(path)], strconv.Itoa(i))
			paths[item.Line] = key
			locate(item, key, paths)
		}
	}
}

// Of reports whether the line belongs to a service.
func (l Line) Of(service stack.ServiceName) bool {
	return len(l.Path) > 1 && l.Path[0] == "services" && l.Path[1] == string(service)
}
