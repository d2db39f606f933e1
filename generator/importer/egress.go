package importer

import (
	"regexp"
	"slices"
	"strings"

	"skep/generator/stack"
	"skep/networks"
)

// dataStores are images that serve others and call nobody.
var dataStores = regexp.MustCompile(`(?i)^(postgres|postgresql|pgvector|timescaledb|postgis|mariadb|mysql|mongo|mongodb|redis|valkey|keydb|dragonfly|memcached|rabbitmq|nats|cadvisor|node-exporter|[a-z0-9-]+[-_]exporter)$`)

// egress keeps the way out of services that had one: Skep's own networks have
// none.
func (im *importer) egress(plans []*plan) {
	var out []*plan
	for _, p := range plans {
		if !im.leads(p.s.wasOn, true) || im.leads(p.on, false) || p.s.def.has("x-egress") || !empty(p.s.def.get("ports")) {
			if !empty(p.s.def.get("ports")) || p.s.def.get("x-egress") == true {
				out = append(out, p)
			}
			continue
		}
		if dataStores.MatchString(stack.ImageName(text(p.s.def.get("image")))) {
			im.note(im.at(p.s), p.s.name, "way to the Internet", "a data store calls nobody, and Skep's networks are internal", "x-egress: true if it must")
			continue
		}
		p.s.def.set("x-egress", true)
		im.lift(im.at(p.s), p.s.name, "network with a way out", "x-egress")
		out = append(out, p)
	}
	im.egressApart(out)
}

// egressApart gives a service that would meet strangers on the stack's network
// to the Internet a way out on a network of its own.
func (im *importer) egressApart(out []*plan) {
	for i, a := range out {
		stranger := slices.IndexFunc(out[:i], func(b *plan) bool { return b != nil && !meet(a.s.wasOn, b.s.wasOn) })
		if stranger < 0 {
			continue
		}
		b := out[stranger]
		own := slices.IndexFunc(a.named, func(key string) bool {
			n := im.nets[key]
			return n != nil && !n.external && !n.internal && key != "default"
		})
		if own < 0 || !empty(a.s.def.get("ports")) || a.s.def.get("x-egress") == nil {
			im.note(im.at(a.s), a.s.name, "networks of "+a.s.name+" and "+b.s.name, "they meet on the stack's network to the Internet now, and did not before", "leave x-egress or ports out of one of them")
			continue
		}
		n := im.nets[a.named[own]]
		if n.def == nil {
			n.def = &mapping{}
		}
		n.def.set("internal", false)
		declared, _ := im.values.get("networks").(*mapping)
		declared.set(n.key, n.def)
		a.s.def.delete("x-egress")
		im.lift(im.doc.at("networks", n.key), a.s.name, "network with a way out", "internal: false")
		out[i] = nil
	}
}

// leads reports whether one of the networks has a way to the Internet; before
// is for networks as the source declares them.
func (im *importer) leads(ids []string, before bool) bool {
	return slices.ContainsFunc(ids, func(id string) bool {
		name, shared := strings.CutPrefix(id, "shared:")
		if shared {
			if im.Cluster != nil {
				if n, ok := im.Cluster.Network(networks.Name(im.clusterName(name))); ok {
					return !n.Internal
				}
			}
			return !im.across.internal[name] && !im.internal(name)
		}
		n := im.nets[strings.TrimPrefix(id, "own:")]
		if n == nil {
			return before
		}
		if before {
			return !n.internal
		}
		return n.def.get("internal") == false
	})
}

// clusterName is what the cluster calls a shared network of the file.
func (im *importer) clusterName(name string) string {
	if name == im.ingress && im.Cluster != nil {
		return string(im.Cluster.Ingress.Network)
	}
	return name
}

// internal reports whether the file creates a shared network without a way out.
func (im *importer) internal(name string) bool {
	for _, n := range im.nets {
		if n.name == name && n.internal {
			return true
		}
	}
	return false
}
