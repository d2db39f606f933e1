// Package graph draws a cluster: its stacks and services, the shared networks
// that they meet on, and the routes that lead in.
package graph

import (
	"slices"

	"skep/generator/stack"
	"skep/networks"
)

// Graph is what is drawn. Docker proxies and networks of one stack are left
// out: they connect nothing that its box does not. So is what a route implies,
// the attachment to the ingress network.
type Graph struct {
	Zones    []Zone    `json:"zones"`
	Stacks   []Stack   `json:"stacks"`
	Networks []Network `json:"networks"`
	Routes   []Route   `json:"routes"`
	Links    []Link    `json:"links"`
}

// Zone is where routes come from.
type Zone struct {
	Name   string `json:"name"`
	Domain string `json:"domain"`
}

// Stack is a box of services.
type Stack struct {
	Name     string   `json:"name"`
	Tier     string   `json:"tier"`
	Services []string `json:"services"`
}

// Network is a shared overlay.
type Network struct {
	Name      string `json:"name"`
	Internal  bool   `json:"internal,omitempty"`
	Encrypted bool   `json:"encrypted,omitempty"`
}

// Route leads from a zone to a service.
type Route struct {
	Zone    string           `json:"zone"`
	Service stack.ServiceRef `json:"service"`
	Hosts   []string         `json:"hosts"`
}

// Link is a service on a shared network.
type Link struct {
	Service stack.ServiceRef `json:"service"`
	Network string           `json:"network"`
}

// Of makes the graph of a cluster whose networks are overlays.
func Of(c *stack.Cluster, overlays networks.Map) Graph {
	g := Graph{Zones: []Zone{}, Stacks: []Stack{}, Networks: []Network{}, Routes: []Route{}, Links: []Link{}}
	routed := map[stack.ServiceRef]bool{c.Ingress.Service: true}
	used := map[string]bool{}
	for _, tier := range c.Tiers {
		for _, s := range c.Stacks {
			if s.Tier != tier {
				continue
			}
			box := Stack{Name: string(s.Name), Tier: string(s.Tier)}
			for _, service := range s.Services {
				box.Services = append(box.Services, string(service.Ref.Service))
				for _, r := range routesOf(service) {
					g.Routes = append(g.Routes, r)
					used[r.Zone], routed[service.Ref] = true, true
				}
			}
			g.Stacks = append(g.Stacks, box)
		}
	}
	for _, z := range c.Zones {
		if used[z.Name] {
			g.Zones = append(g.Zones, Zone{Name: z.Name, Domain: string(z.Domain)})
		}
	}
	for _, o := range overlays.Sorted() {
		if o.Scope != networks.SharedScope {
			continue
		}
		var links []Link
		for _, m := range o.Members {
			ref := stack.ServiceRef{Stack: stack.Name(m.Stack), Service: stack.ServiceName(m.Service)}
			if o.Name == c.Ingress.Network && routed[ref] {
				continue
			}
			links = append(links, Link{Service: ref, Network: string(o.Name)})
		}
		if len(links) > 0 {
			g.Networks = append(g.Networks, Network{Name: string(o.Name), Internal: o.Internal, Encrypted: o.Encrypted})
			g.Links = append(g.Links, slices.Compact(links)...)
		}
	}
	return g
}

// routesOf joins the routes of a service that come from one zone.
func routesOf(s *stack.Service) []Route {
	var out []Route
	for _, r := range s.Routes {
		i := slices.IndexFunc(out, func(o Route) bool { return o.Zone == r.Zone.Name })
		if i < 0 {
			i = len(out)
			out = append(out, Route{Zone: r.Zone.Name, Service: s.Ref})
		}
		if host := string(r.Host); !slices.Contains(out[i].Hosts, host) {
			out[i].Hosts = append(out[i].Hosts, host)
		}
	}
	return out
}
