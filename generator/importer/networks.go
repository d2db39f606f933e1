package importer

import (
	"regexp"
	"slices"
	"strings"

	"skep/networks"
)

// ownDefault is the identity of the stack's own network.
const ownDefault = "own:default"

// network is a network that the file declares.
type network struct {
	key      string
	name     string // in the Swarm
	external bool
	internal bool // no way out
	def      *mapping
}

// id tells networks apart across files for shared ones, within for own ones.
func (n *network) id() string {
	if n.external {
		return "shared:" + n.name
	}
	return "own:" + n.key
}

// readNetworks reads the networks of the file and who is on them.
func (im *importer) readNetworks() {
	im.nets = map[string]*network{}
	im.result.facts.internal = map[string]bool{}
	declared, _ := im.values.get("networks").(*mapping)
	if declared != nil {
		for _, e := range declared.entries {
			def, _ := e.value.(*mapping)
			n := &network{key: e.key, def: def, name: im.resolve(text(def.get("name")))}
			switch external := def.get("external").(type) {
			case bool:
				n.external = external
			case *mapping:
				n.external = true
				if n.name == "" {
					n.name = im.resolve(text(external.get("name")))
				}
			}
			named := n.name != ""
			if n.name == "" {
				n.name = e.key
				if !n.external {
					n.name = string(im.result.Name) + "_" + e.key
				}
			}
			n.internal = def.get("internal") == true
			if !n.external && n.internal {
				im.result.facts.internal[n.name] = true
			}
			if !n.external && im.isShared(n, named) {
				n.external = true
				im.result.facts.own(n.name, string(im.result.Name), n.internal)
			}
			im.nets[e.key] = n
		}
	}
	if im.nets["default"] == nil {
		im.nets["default"] = &network{key: "default", name: string(im.result.Name) + "_default"}
	}
	for _, s := range im.services {
		for _, key := range im.attached(s) {
			if n := im.nets[key]; n != nil && !slices.Contains(s.wasOn, n.id()) {
				s.wasOn = append(s.wasOn, n.id())
			}
		}
	}
	im.ingress = im.findIngress()
}

// isShared reports whether other stacks use a network that this file creates.
func (im *importer) isShared(n *network, named bool) bool {
	if slices.Contains(im.across.networks, n.name) {
		return true
	}
	if im.Cluster != nil {
		_, ok := im.Cluster.Network(networks.Name(n.name))
		return ok
	}
	return named && n.key != "default" && n.name != string(im.result.Name)+"_"+n.key
}

// attached are the keys of the networks that Compose puts the service on.
func (im *importer) attached(s *service) []string {
	if s.def.has("network_mode") {
		return nil
	}
	var keys []string
	switch v := s.def.get("networks").(type) {
	case *mapping:
		for _, e := range v.entries {
			keys = append(keys, e.key)
		}
	default:
		keys = strs(v)
	}
	if len(keys) == 0 {
		keys = []string{"default"}
	}
	return keys
}

var ingressName = regexp.MustCompile(`(?i)caddy|proxy|ingress|edge|public|web|frontend`)

// findIngress finds the network between the ingress and the services.
func (im *importer) findIngress() string {
	shared := func(name string) bool {
		for _, n := range im.nets {
			if n.external && n.name == name {
				return true
			}
		}
		return false
	}
	if im.Cluster != nil && shared(string(im.Cluster.Ingress.Network)) {
		return string(im.Cluster.Ingress.Network)
	}
	for _, s := range im.services {
		for _, name := range append(strings.FieldsFunc(im.variable(s, "CADDY_INGRESS_NETWORKS"), func(r rune) bool { return r == ',' || r == ' ' }), im.labelValue(s, "caddy_ingress_network")) {
			if shared(name) {
				return name
			}
			for _, n := range im.nets { // by its name in a file that creates it
				if name != "" && n.name == name && slices.ContainsFunc(im.services, func(s *service) bool { return slices.Contains(s.wasOn, n.id()) }) && n.key != "default" {
					im.share(n)
					return name
				}
			}
		}
	}
	if im.across.ingress != "" && shared(im.across.ingress) {
		return im.across.ingress
	}
	var candidates []string
	first := true
	for _, s := range im.services {
		if !slices.ContainsFunc(s.labels, func(l label) bool { return caddyLabel.MatchString(l.key) }) && !s.def.has("x-ingress") {
			continue
		}
		var on []string
		for _, key := range im.attached(s) {
			if n := im.nets[key]; n != nil && n.external {
				on = append(on, n.name)
			}
		}
		if first {
			candidates, first = on, false
			continue
		}
		candidates = slices.DeleteFunc(candidates, func(c string) bool { return !slices.Contains(on, c) })
	}
	for _, c := range candidates {
		if ingressName.MatchString(c) {
			return c
		}
	}
	if len(candidates) == 1 {
		return candidates[0]
	}
	return ""
}

// share makes a network that this file creates a shared one.
func (im *importer) share(n *network) {
	before := n.id()
	n.external = true
	im.result.facts.own(n.name, string(im.result.Name), n.internal)
	for _, s := range im.services {
		for i, id := range s.wasOn {
			if id == before {
				s.wasOn[i] = n.id()
			}
		}
	}
}

func (im *importer) labelValue(s *service, key string) string {
	if i := s.find(key); i >= 0 {
		return im.resolve(s.labels[i].value)
	}
	return ""
}

// metricsNetwork is the shared network that scrapes travel on.
func (im *importer) metricsNetwork() string {
	if im.Cluster != nil {
		return string(im.Cluster.Metrics)
	}
	var common []string
	first := true
	for _, s := range im.live() {
		if s.find("prometheus.port") < 0 && !s.metrics {
			continue
		}
		var on []string
		for _, id := range s.wasOn {
			if name, ok := strings.CutPrefix(id, "shared:"); ok && name != im.ingress {
				on = append(on, name)
			}
		}
		if first {
			common, first = on, false
			continue
		}
		common = slices.DeleteFunc(common, func(n string) bool { return !slices.Contains(on, n) })
	}
	for _, name := range common {
		if strings.Contains(name, "metric") || strings.Contains(name, "monitor") || strings.Contains(name, "prom") {
			return name
		}
	}
	return ""
}

// topLevel leaves the networks that services still name.
func (im *importer) topLevel() {
	declared, ok := im.values.get("networks").(*mapping)
	if !ok {
		return
	}
	named := map[string]bool{}
	for _, s := range im.live() {
		if s.def.has("network_mode") {
			continue
		}
		for _, key := range im.attached(s) {
			named[key] = true
		}
	}
	for _, e := range slices.Clone(declared.entries) {
		n := im.nets[e.key]
		def, _ := e.value.(*mapping)
		switch {
		case n.external && !named[e.key], n.external && e.key == "default" && !im.namesDefault():
			declared.delete(e.key)
		case !n.external && !named[e.key]:
			declared.delete(e.key)
		case n.external && def.get("external") == nil:
			// It belongs to the cluster file now.
			m := &mapping{}
			m.set("external", true)
			if im.clusterName(n.name) != e.key {
				m.set("name", im.clusterName(n.name))
			}
			declared.set(e.key, m)
		case n.external && im.clusterName(n.name) != n.name:
			m := &mapping{}
			m.set("external", true)
			m.set("name", im.clusterName(n.name))
			declared.set(e.key, m)
		case !n.external && def != nil:
			im.ownNetwork(declared, e.key, def)
		}
	}
	im.values.setOrDelete("networks", declared)
}

// namesDefault reports whether a service names the network "default".
func (im *importer) namesDefault() bool {
	return slices.ContainsFunc(im.live(), func(s *service) bool {
		return s.def.has("networks") && slices.Contains(im.attached(s), "default")
	})
}

// ownNetwork takes out what Skep settles itself.
func (im *importer) ownNetwork(declared *mapping, key string, def *mapping) {
	if driver := text(def.get("driver")); driver == "bridge" || driver == "overlay" && key == "default" {
		def.delete("driver")
	}
	if name := text(def.get("name")); name != "" && key == "default" {
		def.delete("name")
	}
	switch {
	case def.len() == 0 && key == "default":
		declared.delete(key)
	case def.len() == 0:
		declared.set(key, nil)
	}
}
