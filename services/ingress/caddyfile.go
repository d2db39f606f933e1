// Package ingress knows offline what the ingress will make of a set of labels:
// the Caddyfile, Caddy's configuration, and whether Caddy would accept it.
package ingress

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/lucaslorentz/caddy-docker-proxy/v2/caddyfile"
	"github.com/moby/moby/api/types/swarm"

	"skep/generator/stack"
	"skep/services/ingress/label"
)

// Caddyfile renders what caddy-docker-proxy would hand to Caddy for these
// services, in order of their names. A service with a label that cannot be
// rendered is left out, as the ingress would, and refused.
//
// An upstream is written as stack_service, the name that Swarm gives to the
// service; the ingress writes the addresses of its tasks instead.
func Caddyfile(sets []stack.LabelSet) ([]byte, []stack.Refusal) {
	rendered, refusals := renderAll(sets)
	return join(rendered), refusals
}

// rendered is one service and its blocks. Merging changes blocks: it gets a copy.
type rendered struct {
	set    stack.LabelSet
	blocks *caddyfile.Container
}

// shared reports whether other services may depend on this one: it holds
// snippets or global options.
func (r rendered) shared() bool {
	return slices.ContainsFunc(r.blocks.Children, func(b *caddyfile.Block) bool {
		return b.IsGlobalBlock() || b.IsSnippet()
	})
}

// sites returns the addresses that the service claims.
func (r rendered) sites() []string {
	var out []string
	for _, b := range r.blocks.Children {
		if b.IsGlobalBlock() || b.IsSnippet() {
			continue
		}
		for _, key := range b.Keys {
			for address := range strings.SplitSeq(key, ",") {
				if address != "" {
					out = append(out, address)
				}
			}
		}
	}
	return out
}

func renderAll(sets []stack.LabelSet) ([]rendered, []stack.Refusal) {
	sets = slices.Clone(sets)
	slices.SortStableFunc(sets, func(a, b stack.LabelSet) int { return a.Service.Compare(b.Service) })

	var out []rendered
	var refusals []stack.Refusal
	for _, set := range sets {
		set.Labels = caddyLabels(set.Labels)
		if len(set.Labels) == 0 {
			continue
		}
		r, err := render(set)
		if err != nil {
			refusals = append(refusals, stack.Refusal{Service: set.Service, Label: unrenderable(set), Err: err})
			continue
		}
		out = append(out, r)
	}
	return out, refusals
}

// render turns labels into blocks and checks that they survive the trip
// through text that the ingress sends them on.
func render(set stack.LabelSet) (rendered, error) {
	blocks, err := fromLabels(set)
	if err != nil {
		return rendered{}, err
	}
	// Marshal also sorts, which undoes the order of the map.
	if _, err := caddyfile.Unmarshal(blocks.Marshal()); err != nil {
		return rendered{}, err
	}
	return rendered{set: set, blocks: blocks}, nil
}

// fromLabels runs the conversion of the running ingress, with stand-ins for
// what only it knows.
func fromLabels(set stack.LabelSet) (*caddyfile.Container, error) {
	service := &swarm.Service{}
	service.Spec.Name = upstreamName(set.Service)
	service.Spec.Labels = set.Labels
	return label.FromLabels(set.Labels, service, func(func(string) bool) template.FuncMap { return label.StandIns([]string{service.Spec.Name}) })
}

// upstreamName is the name that Swarm gives to the service.
func upstreamName(ref stack.ServiceRef) string { return string(ref.Stack) + "_" + string(ref.Service) }

// unrenderable finds the label that cannot be rendered.
func unrenderable(set stack.LabelSet) string {
	for _, label := range slices.Sorted(maps.Keys(set.Labels)) {
		one := stack.LabelSet{Service: set.Service, Labels: map[string]string{label: set.Labels[label]}}
		if _, err := render(one); err != nil {
			return label
		}
	}
	return ""
}

// join merges the blocks of several services into one Caddyfile: global
// options first, then snippets, then sites.
func join(services []rendered) []byte {
	all := caddyfile.CreateContainer()
	for _, s := range services {
		all.Merge(clone(s.blocks))
	}
	return all.Marshal()
}

func clone(c *caddyfile.Container) *caddyfile.Container {
	out := caddyfile.CreateContainer()
	for _, b := range c.Children {
		out.AddBlock(&caddyfile.Block{Container: clone(b.Container), Order: b.Order, Keys: slices.Clone(b.Keys)})
	}
	return out
}

var caddyLabel = regexp.MustCompile(`^caddy(_\d+)?(\.|$)`)

func caddyLabels(labels map[string]string) map[string]string {
	out := map[string]string{}
	for label, value := range labels {
		if caddyLabel.MatchString(label) {
			out[label] = value
		}
	}
	return out
}
