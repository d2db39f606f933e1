package graph

import (
	"fmt"
	"strings"

	"skep/generator/stack"
)

// Mermaid writes the graph as a flow chart (https://mermaid.js.org), which
// GitHub draws in Markdown.
func (g Graph) Mermaid() string {
	var out strings.Builder
	out.WriteString("flowchart LR\n")
	for _, z := range g.Zones {
		fmt.Fprintf(&out, "  %s([\"%s<br/>%s\"])\n", id("zone", z.Name), z.Name, z.Domain)
	}
	for _, s := range g.Stacks {
		fmt.Fprintf(&out, "  subgraph %s[\"%s (%s)\"]\n", id("stack", s.Name), s.Name, s.Tier)
		for _, service := range s.Services {
			fmt.Fprintf(&out, "    %s[\"%s\"]\n", serviceID(s.Name, service), service)
		}
		out.WriteString("  end\n")
	}
	for _, n := range g.Networks {
		fmt.Fprintf(&out, "  %s{{\"%s\"}}\n", id("network", n.Name), n.label("<br/>"))
	}
	for _, r := range g.Routes {
		fmt.Fprintf(&out, "  %s -->|\"%s\"| %s\n", id("zone", r.Zone), strings.Join(r.Hosts, "<br/>"), refID(r.Service))
	}
	for _, l := range g.Links {
		fmt.Fprintf(&out, "  %s --- %s\n", refID(l.Service), id("network", l.Network))
	}
	return out.String()
}

// DOT writes the graph for Graphviz.
func (g Graph) DOT() string {
	var out strings.Builder
	out.WriteString("digraph skep {\n  rankdir=LR\n  node [shape=box, style=rounded, fontname=\"sans-serif\"]\n  edge [fontname=\"sans-serif\", fontsize=10]\n")
	for _, z := range g.Zones {
		fmt.Fprintf(&out, "  %s [shape=cds, style=solid, label=\"%s\\n%s\"]\n", id("zone", z.Name), z.Name, z.Domain)
	}
	for _, s := range g.Stacks {
		fmt.Fprintf(&out, "  subgraph cluster_%s {\n    label=\"%s (%s)\"\n", id("stack", s.Name), s.Name, s.Tier)
		for _, service := range s.Services {
			fmt.Fprintf(&out, "    %s [label=\"%s\"]\n", serviceID(s.Name, service), service)
		}
		out.WriteString("  }\n")
	}
	for _, n := range g.Networks {
		fmt.Fprintf(&out, "  %s [shape=hexagon, style=solid, label=\"%s\"]\n", id("network", n.Name), n.label(`\n`))
	}
	for _, r := range g.Routes {
		fmt.Fprintf(&out, "  %s -> %s [label=\"%s\"]\n", id("zone", r.Zone), refID(r.Service), strings.Join(r.Hosts, `\n`))
	}
	for _, l := range g.Links {
		fmt.Fprintf(&out, "  %s -> %s [dir=none]\n", refID(l.Service), id("network", l.Network))
	}
	out.WriteString("}\n")
	return out.String()
}

func (n Network) label(newline string) string {
	var traits []string
	if n.Internal {
		traits = append(traits, "internal")
	}
	if n.Encrypted {
		traits = append(traits, "encrypted")
	}
	if len(traits) == 0 {
		return n.Name
	}
	return n.Name + newline + strings.Join(traits, ", ")
}

func refID(r stack.ServiceRef) string { return serviceID(string(r.Stack), string(r.Service)) }

func serviceID(stack, service string) string { return id("service", stack, service) }

// id makes an identifier that both languages take; different names give
// different ones.
func id(parts ...string) string {
	var out strings.Builder
	for i, part := range parts {
		if i > 0 {
			out.WriteString("__")
		}
		for _, b := range []byte(part) {
			if b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' {
				out.WriteByte(b)
			} else {
				fmt.Fprintf(&out, "_%02x", b)
			}
		}
	}
	return out.String()
}
