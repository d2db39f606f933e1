package importer

import (
	"regexp"
	"slices"
	"strings"
)

var constraint = regexp.MustCompile(`^\s*(node\.(?:hostname|role|labels\.[^\s=!]+))\s*==\s*(\S+)\s*$`)

// pin lifts placement constraints.
func (im *importer) pin(s *service) {
	if s.def.has("x-pin") {
		return
	}
	deploy, _ := s.def.get("deploy").(*mapping)
	placement, _ := deploy.get("placement").(*mapping)
	constraints, ok := placement.get("constraints").([]any)
	if !ok {
		return
	}
	var keep, labels []any
	var node, role string
	for i, c := range constraints {
		m := constraint.FindStringSubmatch(text(c))
		at := im.at(s, "deploy", "placement", "constraints", itoa(i))
		switch {
		case m == nil:
		case m[1] == "node.hostname" && node == "" && im.knownNode(m[2]):
			node = m[2]
			im.result.facts.nodes = append(im.result.facts.nodes, im.resolve(node))
		case m[1] == "node.role" && role == "" && (m[2] == "manager" || m[2] == "worker"):
			role = m[2]
		case strings.HasPrefix(m[1], "node.labels."):
			labels = append(labels, strings.TrimPrefix(m[1], "node.labels.")+"="+m[2])
		default:
			if m[1] == "node.hostname" && node == "" {
				im.note(at, s.name, "constraint "+text(c), "the cluster file lists no node "+m[2], "add it to nodes, and write x-pin: "+m[2])
			}
			m = nil
		}
		if m == nil {
			keep = append(keep, c)
			continue
		}
		im.lift(at, s.name, "constraint "+text(c), "x-pin")
	}
	if len(keep) == len(constraints) {
		return
	}
	out := &mapping{}
	if node != "" {
		out.set("nodes", []any{node})
	}
	if len(labels) > 0 {
		out.set("label", labels)
	}
	if len(labels) == 1 {
		out.set("label", labels[0])
	}
	if role != "" {
		out.set("role", role)
	}
	if out.len() == 1 && node != "" {
		s.def.set("x-pin", node)
	} else {
		s.def.set("x-pin", out)
	}
	placement.setOrDelete("constraints", keep)
	deploy.setOrDelete("placement", placement)
	s.def.setOrDelete("deploy", deploy)
}

func (im *importer) knownNode(name string) bool {
	return im.Cluster == nil || len(im.Cluster.Nodes) == 0 || slices.Contains(im.Cluster.Nodes, im.resolve(name))
}
