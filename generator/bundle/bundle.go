// Package bundle is what the generator makes: Compose files for Swarm and the
// files beside them, as values and on disk.
package bundle

import (
	"maps"
	"slices"
	"strings"

	composetypes "github.com/docker/cli/cli/compose/types"

	"skep/generator/problem"
	"skep/generator/stack"
	"skep/networks"
	"skep/secrets"
)

// Bundle is the whole output of one run.
type Bundle struct {
	Stacks   []*Stack // in deploy order
	Zones    []networks.Zone
	Networks networks.Map
	Secrets  []Secret
	Files    []File // everything that is written, by path; the Compose files once they are encoded

	// Keep has Validate leave what Docker's loader makes of the stacks in
	// Stack.Loaded, for a deploy that goes on with it. It takes memory.
	Keep bool
}

// Stack is one Compose file for `docker stack deploy`.
type Stack struct {
	Name Name
	Tier stack.Tier
	// Source is the stack file, relative to the project.
	Source string
	// Compose makes the file's content, which is the caller's. Each call is an
	// expansion of the stack: the content of all stacks at once is most of what
	// a large project needs of memory, and nobody needs it at once.
	Compose func() Compose
	// Origins finds where the content comes from, by one more expansion.
	Origins func() *Origins
	// Loaded is what Docker's loader made of the content, if it was kept. It is
	// not to be changed.
	Loaded *composetypes.Config
}

// Compose is the content of a Compose file; every value below is a
// map[string]any, []any, string, bool, int or float64.
type Compose map[string]any

// Name is the name of a stack.
type Name = stack.Name

// File is one file of the bundle. Path is relative, with slashes.
type File struct {
	Path    string
	Content []byte
}

// Secret is an external Swarm secret that a stack expects.
type Secret struct {
	Name     string // in the Swarm
	Stack    stack.Name
	Template secrets.Template
	Services []stack.ServiceName
	Preview  string // that it is made for, empty for none
}

// Origin says where a line of the output comes from: a place in a stack file
// or the cluster file, and the key or default that derived it.
type Origin struct {
	Pos problem.Position
	By  string
}

// Origins says where the paths of a Compose file come from. A path without an
// entry comes from the nearest one above it. A nil Origins records nothing.
type Origins struct{ paths map[string]Origin }

const separator = "\x00"

// Set records the origin of a path; the first record stays.
func (o *Origins) Set(origin Origin, path ...string) {
	if o == nil {
		return
	}
	if o.paths == nil {
		o.paths = map[string]Origin{}
	}
	key := strings.Join(path, separator)
	if _, ok := o.paths[key]; !ok {
		o.paths[key] = origin
	}
}

// At finds the origin of a path.
func (o *Origins) At(path ...string) (Origin, bool) {
	if o == nil {
		return Origin{}, false
	}
	for n := len(path); n > 0; n-- {
		if origin, ok := o.paths[strings.Join(path[:n], separator)]; ok {
			return origin, true
		}
	}
	return Origin{}, false
}

// Services returns the services of the file by name, sorted.
func (c Compose) Services() []stack.ServiceName {
	services, _ := c["services"].(map[string]any)
	out := make([]stack.ServiceName, 0, len(services))
	for _, name := range slices.Sorted(maps.Keys(services)) {
		out = append(out, stack.ServiceName(name))
	}
	return out
}

// Labels returns the deploy labels of a service.
func (c Compose) Labels(service stack.ServiceName) map[string]string {
	labels := map[string]string{}
	services, _ := c["services"].(map[string]any)
	def, _ := services[string(service)].(map[string]any)
	deploy, _ := def["deploy"].(map[string]any)
	in, _ := deploy["labels"].(map[string]any)
	for k, v := range in {
		labels[k], _ = v.(string)
	}
	return labels
}

// LabelSets are the deploy labels of every service that has any.
func (b *Bundle) LabelSets() []stack.LabelSet {
	var out []stack.LabelSet
	for _, s := range b.Stacks {
		content := s.Compose()
		for _, name := range content.Services() {
			if labels := content.Labels(name); len(labels) > 0 {
				out = append(out, stack.LabelSet{Service: stack.ServiceRef{Stack: s.Name, Service: name}, Labels: labels})
			}
		}
	}
	slices.SortFunc(out, func(a, b stack.LabelSet) int { return a.Service.Compare(b.Service) })
	return out
}
