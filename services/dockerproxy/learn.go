package dockerproxy

import (
	"maps"
	"slices"
	"strings"
	"sync"
)

// learner remembers which routes a consumer used.
type learner struct {
	mu   sync.Mutex
	seen map[*route]bool
}

func newLearner() *learner { return &learner{seen: map[*route]bool{}} }

// saw reports whether a call is of a route that was not seen before.
func (l *learner) saw(c call) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen[c.route] {
		return false
	}
	l.seen[c.route] = true
	return true
}

// switches are the least that lets through what was seen, as NAME=value: reads
// by section, writes one by one, and what is open by default closed again.
func (l *learner) switches() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	on := map[string]bool{}
	var allow []string
	for r := range l.seen {
		if !r.reads() {
			allow = append(allow, r.String())
			continue
		}
		for _, name := range r.needs {
			on[name] = true
		}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(on)) {
		if byDefault(name) != "1" {
			out = append(out, name+"=1")
		}
	}
	for _, v := range Variables {
		if v.Group == Sections && v.Default == "1" && !on[v.Name] {
			out = append(out, v.Name+"=0")
		}
	}
	if len(allow) > 0 {
		slices.Sort(allow)
		out = append(out, "ALLOW="+strings.Join(allow, ", "))
	}
	return out
}

// Learned are the least switches for what a learning proxy has seen, and nil
// for another.
func (p *Proxy) Learned() []string {
	if p.learner == nil {
		return nil
	}
	return p.learner.switches()
}
