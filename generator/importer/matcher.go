package importer

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// match is what a matcher chooses requests by.
type match struct{ paths, not, allow, notFrom []string }

// match reads a matcher; false means that it looks at something else.
func (l *lifter) match(token string) (match, bool) {
	switch {
	case token == "" || token == "*":
		return match{}, true
	case strings.HasPrefix(token, "/"):
		return match{paths: []string{token}}, true
	}
	d := l.matchers[token]
	if d == nil {
		return match{}, false
	}
	var m match
	if !l.condition(d.args, false, &m) {
		return m, false
	}
	for _, c := range d.children {
		args := append([]string{c.name}, c.args...)
		if c.name == "not" && len(c.args) == 0 {
			for _, inner := range c.children {
				if len(inner.children) > 0 || !l.condition(append([]string{inner.name}, inner.args...), true, &m) {
					return m, false
				}
			}
			// "not" around several conditions means: not all of them.
			if len(c.children) != 1 {
				return m, false
			}
			continue
		}
		if len(c.children) > 0 || !l.condition(args, false, &m) {
			return m, false
		}
	}
	for _, p := range append(slices.Clone(m.paths), m.not...) {
		if !strings.HasPrefix(p, "/") {
			return m, false
		}
	}
	return m, len(m.paths)+len(m.not)+len(m.allow)+len(m.notFrom) > 0
}

func (l *lifter) condition(args []string, not bool, m *match) bool {
	if len(args) == 0 {
		return true
	}
	if args[0] == "not" && !not {
		return len(args) > 2 && l.condition(args[1:], true, m)
	}
	var into *[]string
	values := args[1:]
	switch args[0] {
	case "path":
		into = &m.paths
		if not {
			into = &m.not
		}
	case "remote_ip", "client_ip":
		into = &m.allow
		if not {
			into = &m.notFrom
		}
		var ok bool
		if values, ok = l.ranges(values); !ok {
			return false
		}
	default:
		return false
	}
	if len(values) == 0 || len(*into) > 0 {
		return false
	}
	*into = values
	return true
}

// privateRanges is what private_ranges stands for.
// https://caddyserver.com/docs/caddyfile/matchers#remote-ip
var privateRanges = []string{"192.168.0.0/16", "172.16.0.0/12", "10.0.0.0/8", "127.0.0.0/8", "fd00::/8", "::1"}

func (l *lifter) ranges(in []string) ([]string, bool) {
	var out []string
	for _, s := range in {
		switch {
		case s == "forwarded":
		case s == "private_ranges":
			out = append(out, privateRanges...)
		case strings.Contains(s, "$"):
			if strings.ContainsAny(l.im.resolve(s), " $") {
				return nil, false
			}
			out = append(out, s)
		default:
			if _, err := netip.ParsePrefix(s); err != nil {
				if _, err := netip.ParseAddr(s); err != nil {
					return nil, false
				}
			}
			out = append(out, s)
		}
	}
	return out, len(out) > 0
}

// raw keeps a directive as labels under x-ingress.caddy, with the matchers
// that it names.
func (l *lifter) raw(d *directive, into *draft) {
	l.rawAt(d, "", into)
	for _, i := range d.labels {
		for _, word := range lex(l.s.labels[i].value) {
			m := l.matchers[word]
			if m == nil {
				continue
			}
			if !slices.ContainsFunc(into.rawLabels, func(n int) bool { return slices.Contains(m.labels, n) }) {
				l.rawAt(m, "", into)
			}
		}
	}
}

// generated are the names of labels that Skep writes itself; a raw one of the
// same name needs another number.
var generated = regexp.MustCompile(`^(import|handle|error|uri|tls|reverse_proxy|request_body|rate_limit)(_\d+)?$`)

// rawAt keeps the labels of a directive below the given path.
func (l *lifter) rawAt(d *directive, below string, into *draft) {
	_, last := splitKey(d.path)
	key := last
	if below == "" && generated.MatchString(last) {
		for n := 50; ; n++ {
			key = fmt.Sprintf("%s_%d", d.name, n)
			if !slices.ContainsFunc(into.raw, func(e entry) bool { return e.key == key || strings.HasPrefix(e.key, key+".") }) {
				break
			}
		}
	}
	if below != "" {
		key = below + "." + last
		for n := 50; slices.ContainsFunc(into.raw, func(e entry) bool { return e.key == key }); n++ {
			key = fmt.Sprintf("%s.%s_%d", below, d.name, n)
		}
	}
	for _, i := range d.labels {
		rest := strings.TrimPrefix(l.s.labels[i].key, d.path)
		value := l.im.keptImport(l.s.labels[i])
		into.raw = append(into.raw, entry{renameMatchers(key + rest), renameMatchers(value)})
		into.rawLabels = append(into.rawLabels, i)
	}
}

var ownMatchers = regexp.MustCompile(`@(denied|login)\b`)

// renameMatchers keeps a raw matcher apart from those that Skep writes.
func renameMatchers(s string) string { return ownMatchers.ReplaceAllString(s, "@kept-$1") }

// onlyPaths reports whether a matcher looks at paths alone, in one way.
func onlyPaths(m match) bool {
	return len(m.allow)+len(m.notFrom) == 0 && (len(m.paths) == 0 || len(m.not) == 0)
}
