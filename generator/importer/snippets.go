package importer

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// importOf is the snippet that a label imports.
func importOf(key, value string) (name string, ok bool) {
	_, last := splitKey(key)
	m := labelName.FindStringSubmatch(last)
	name, _, _ = strings.Cut(strings.TrimSpace(value), " ")
	return name, m != nil && m[2] == "import" && name != ""
}

// keptImport is the value of a label that stays: it imports by its new name a
// snippet whose name Skep needs.
func (im *importer) keptImport(l label) string {
	if name, ok := importOf(l.key, l.value); ok && reserved(name) && im.snippet(name) != nil {
		return strings.Replace(l.value, name, "kept-"+name, 1)
	}
	return l.value
}

// rawImports notes which snippets are needed by labels that stay.
func (im *importer) rawImports(raw map[*service][]*directive) {
	im.result.facts.imports = map[string]bool{}
	add := func(key, value string) {
		if name, ok := importOf(key, value); ok {
			im.result.facts.imports[strings.TrimPrefix(name, "kept-")] = true
		}
	}
	for _, s := range im.live() {
		for _, b := range raw[s] {
			for _, i := range b.labels {
				l := &s.labels[i]
				add(l.key, l.value)
				if value := im.keptImport(*l); value != l.value {
					l.value, s.renamed = value, true
				}
			}
		}
		for _, r := range s.routes {
			for _, e := range r.raw {
				add(e.key, text(e.value))
			}
		}
	}
}

// snippetName is the name of a block that sites import.
func snippetName(b *directive) (string, bool) {
	name := b.arg(0)
	return strings.Trim(name, "()"), strings.HasPrefix(name, "(") && strings.HasSuffix(name, ")")
}

// snippet finds a snippet that one of the files defines.
func (im *importer) snippet(name string) *directive {
	if own := im.result.facts.snippets[name]; own != nil {
		return own
	}
	return im.across.snippets[name]
}

// reserved are the names of snippets that Skep writes itself.
func reserved(name string) bool {
	return slices.Contains([]string{"sso", "security", "maintenance"}, name) || strings.HasPrefix(name, "allow-")
}

// shared reads global options and snippets of the ingress; it reports whether
// they stay as labels.
func (im *importer) shared(s *service, b *directive) bool {
	facts := &im.result.facts
	l := &lifter{im: im, s: s, d: b, matchers: map[string]*directive{}, notes: new([]Note)}
	claim := func(d *directive, to string) {
		for _, i := range d.labels {
			im.claim(s, i, to)
		}
	}
	if len(b.args) > 0 {
		name, _ := snippetName(b)
		if isSSO(b) && (im.Cluster == nil || im.Cluster.SSO != nil) {
			auth := b.child("forward_auth")
			facts.sso = append(facts.sso, withScheme(auth.args[len(auth.args)-1]))
			if h := auth.child("copy_headers"); h != nil {
				facts.headers = append(facts.headers, h.args...)
			}
			if !facts.imports[name] && !im.across.imports[name] {
				claim(b, "sso of the cluster file")
				return false
			}
		}
		why := "snippets have no key; it stays as labels"
		if reserved(name) {
			why = "Skep writes a snippet of that name itself; this one is (kept-" + name + ") now"
			for i := range b.labels {
				if at := &s.labels[b.labels[i]]; at.key == b.path {
					at.value, s.renamed = "(kept-"+name+")", true
				}
			}
		}
		im.note(s.labels[b.labels[0]].pos, s.name, "snippet ("+name+")", why, "")
		return true
	}
	for _, c := range b.children {
		switch {
		case c.name == "email" && len(c.args) == 1 && (im.Cluster == nil || im.Cluster.Ingress.Email == c.value):
			facts.email = c.value
			claim(c, "ingress.email of the cluster file")
		case c.name == "servers" && len(c.children) == 1 && c.children[0].name == "trusted_proxies" && im.Cluster == nil && c.children[0].arg(0) == "static" && len(c.children[0].children) == 0:
			if ranges, ok := l.ranges(c.children[0].args[1:]); ok {
				facts.trusted = ranges
				claim(c, "ingress.trusted_proxies of the cluster file")
				continue
			}
			fallthrough
		default:
			im.note(s.labels[c.labels[0]].pos, s.name, "global option "+c.name, "it has no key; it stays as a label", "")
		}
	}
	return slices.ContainsFunc(b.labels, func(i int) bool { return !s.claimed[i] })
}

var blockName = regexp.MustCompile(`^caddy(_\d+)?`)

// renumber moves blocks that stay as labels out of the way of those that Skep
// writes: it counts from caddy or caddy_0 on.
func (im *importer) renumber(s *service, blocks []*directive) {
	if len(blocks) == 0 || !s.caddy && len(s.routes) == 0 {
		return
	}
	slices.SortStableFunc(blocks, func(a, b *directive) int { return a.first - b.first })
	for n, b := range blocks {
		to := fmt.Sprintf("caddy_%d", 100+n)
		for _, i := range b.labels {
			if !s.claimed[i] {
				s.labels[i].key = blockName.ReplaceAllString(s.labels[i].key, to)
			}
		}
	}
	s.renamed = true
}
