package importer

import (
	"slices"

	"skep/generator/check"
)

// plan is where a service will be.
type plan struct {
	s       *service
	named   []string         // keys that stay under networks
	aliases map[string][]any // by key
	uses    []string         // shared networks, by name
	shared  []string         // keys of shared networks that it no longer names
	on      []string         // identities, as Skep will attach it
}

// networks says who meets whom in Skep's words.
func (im *importer) networks() {
	var plans []*plan
	for _, s := range im.live() {
		if s.def.has("network_mode") {
			continue
		}
		plans = append(plans, im.planNetworks(s))
	}
	for _, p := range plans {
		im.place(p)
	}
	im.keepApart(plans)
	for _, p := range plans {
		im.writeNetworks(p)
	}
	im.egress(plans)
}

// planNetworks sorts the networks of a service.
func (im *importer) planNetworks(s *service) *plan {
	p := &plan{s: s, aliases: map[string][]any{}}
	explicit := s.def.get("networks")
	keys := im.attached(s)
	for _, key := range keys {
		n := im.nets[key]
		if n == nil {
			p.named = append(p.named, key) // the loader speaks of it
			continue
		}
		if m, ok := explicit.(*mapping); ok {
			if aliases, ok := sub(m.get(key), "aliases").([]any); ok && len(aliases) > 0 {
				p.aliases[key] = aliases
			}
			if settings, ok := m.get(key).(*mapping); ok {
				for _, e := range settings.entries {
					if e.key != "aliases" {
						im.note(im.at(s, "networks", key, e.key), s.name, e.key+" on network "+key, "Swarm gives addresses itself", "")
					}
				}
			}
		}
		switch {
		case !n.external && !im.stillUsed(n):
			// A docker proxy's own network, and the proxy is gone.
			im.lift(im.at(s, "networks"), s.name, "network "+key, "x-docker-api")
		case !n.external:
			p.named = append(p.named, key)
		default:
			name := im.clusterName(n.name)
			im.result.SharedNetworks = append(im.result.SharedNetworks, name)
			p.shared = append(p.shared, key)
			if n.name == im.ingress && (len(s.routes) > 0 || s.caddy || s.def.has("x-ingress")) {
				im.lift(im.at(s, "networks"), s.name, "network "+key, "x-ingress")
			} else {
				metrics := s.metrics && im.Cluster != nil && name == string(im.Cluster.Metrics)
				if !metrics {
					p.uses = append(p.uses, name)
				}
				im.lift(im.at(s, "networks"), s.name, "network "+key, "x-uses")
			}
			if len(p.aliases[key]) > 0 {
				p.named = append(p.named, key)
			}
		}
	}
	if slices.Equal(p.named, []string{"default"}) && len(p.aliases["default"]) == 0 {
		p.named = nil
	}
	return p
}

// stillUsed reports whether an own network is needed: no docker proxy is gone
// from it, or it is where some of those that stay meet.
func (im *importer) stillUsed(n *network) bool {
	if n.key == "default" {
		return true
	}
	proxied := false
	var stay []*service
	for _, s := range im.services {
		switch {
		case !slices.Contains(s.wasOn, n.id()):
		case !s.gone:
			stay = append(stay, s)
		case check.IsDockerProxy(text(s.def.get("image"))):
			proxied = true
		}
	}
	if !proxied {
		return true
	}
	for i, a := range stay {
		elsewhere := slices.DeleteFunc(slices.Clone(a.wasOn), func(id string) bool { return id == n.id() })
		if slices.ContainsFunc(stay[:i], func(b *service) bool { return !meet(elsewhere, b.wasOn) }) {
			return true
		}
	}
	return slices.ContainsFunc(stay, func(s *service) bool { return !s.def.has("x-docker-api") })
}

// place computes where Skep will attach the service.
func (im *importer) place(p *plan) {
	p.on = nil
	add := func(id string) {
		if !slices.Contains(p.on, id) {
			p.on = append(p.on, id)
		}
	}
	named := p.named
	if len(named) == 0 {
		named = []string{"default"}
	}
	for _, key := range named {
		if n := im.nets[key]; n != nil {
			if key == "default" && n.external && !slices.Contains(p.named, "default") {
				add(ownDefault) // its declaration goes
				continue
			}
			add(n.id())
		}
	}
	for _, name := range p.uses {
		add("shared:" + im.sourceName(name))
	}
	if len(p.s.routes) > 0 || p.s.caddy || p.s.def.has("x-ingress") {
		add("shared:" + im.ingress)
	}
	if p.s.metrics {
		add("shared:" + im.result.facts.metrics)
	}
}

// sourceName undoes clusterName.
func (im *importer) sourceName(name string) string {
	if im.Cluster != nil && name == string(im.Cluster.Ingress.Network) && im.ingress != "" {
		return im.ingress
	}
	return name
}

// keepApart names networks again where the stack's own network would bring
// together services that did not meet.
func (im *importer) keepApart(plans []*plan) {
	for range plans {
		changed := false
		for _, p := range plans {
			if len(p.named) > 0 || slices.Contains(p.s.wasOn, ownDefault) || !slices.Contains(p.on, ownDefault) {
				continue
			}
			stranger := slices.IndexFunc(plans, func(o *plan) bool {
				return o != p && slices.Contains(o.on, ownDefault) && !meet(o.s.wasOn, p.s.wasOn)
			})
			if stranger < 0 {
				continue
			}
			p.named = slices.Clone(p.shared)
			if len(p.named) == 0 {
				// It was on a docker proxy's network alone, and stays there by itself.
				for _, key := range im.attached(p.s) {
					if n := im.nets[key]; n != nil && !n.external && !slices.Contains(p.named, key) {
						p.named = append(p.named, key)
					}
				}
			}
			im.place(p)
			changed = true
		}
		if !changed {
			return
		}
	}
}

func meet(a, b []string) bool {
	return slices.ContainsFunc(a, func(id string) bool { return slices.Contains(b, id) })
}

func (im *importer) writeNetworks(p *plan) {
	uses := strs(p.s.def.get("x-uses"))
	for _, name := range p.uses {
		if !slices.Contains(uses, name) {
			uses = append(uses, name)
		}
	}
	if len(uses) > 0 {
		p.s.def.set("x-uses", list(uses))
	}
	before := p.s.def.get("networks")
	switch before := before.(type) {
	case nil:
		if len(p.named) > 0 && !slices.Equal(p.named, []string{"default"}) {
			p.s.def.set("networks", list(p.named))
		}
	case *mapping:
		out := &mapping{}
		for _, e := range before.entries {
			if slices.Contains(p.named, e.key) {
				out.entries = append(out.entries, e)
			}
		}
		p.s.def.setOrDelete("networks", out)
	default:
		p.s.def.setOrDelete("networks", list(p.named))
	}
}
