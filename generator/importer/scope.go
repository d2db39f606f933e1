package importer

import (
	"maps"
	"slices"
	"strings"
)

// branch is a raw directive that some requests end in. It stands where the
// requests arrive that no other route took.
type branch struct {
	draft   // its raw labels
	matcher string
	outpost bool
}

// scope reads a block: what holds for all of it, and the routes in it.
func (l *lifter) scope(block *directive, depth int) (props draft, routes []draft, err error) {
	for _, c := range block.children {
		if strings.HasPrefix(c.name, "@") {
			if _, ok := l.matchers[c.name]; ok {
				return props, nil, cannot("the matcher %s stands twice", c.name)
			}
			l.matchers[c.name] = c
		}
	}
	denied, refuses := false, (*directive)(nil)
	ordered := kindsOf(block)
	if ordered.route && ordered.handle {
		return props, nil, cannot("route stands beside handle, which Caddy runs first")
	}
	var later []*directive
	for _, c := range block.children {
		switch c.name {
		case "import":
			err = l.imports(c, &props)
		case "forward_auth":
			err = l.forwardAuth(c, &props)
		case "tls":
			if depth > 0 {
				return props, nil, cannot("tls stands inside of %s", block.name)
			}
			l.tls(c, &props)
		case "request_body":
			l.requestBody(c, &props)
		case "rate_limit":
			l.rateLimit(c, &props)
		case "uri":
			if len(c.args) == 2 && c.args[0] == "strip_prefix" && len(c.children) == 0 && props.strip == "" && strings.HasPrefix(c.args[1], "/") {
				props.strip = c.args[1]
			} else {
				l.raw(c, &props)
			}
		case "respond", "error", "abort":
			var all bool
			all, err = l.deny(c, &props)
			denied = denied || all
			refuses = c
		case "handle", "handle_path", "route", "reverse_proxy":
			later = append(later, c)
		case "handle_errors":
			props.ownErrors = true
			l.raw(c, &props)
		default:
			if !strings.HasPrefix(c.name, "@") {
				l.raw(c, &props)
			}
		}
		if err != nil {
			return props, nil, err
		}
	}
	for _, c := range later {
		found, denies, err := l.branch(c, &props, depth)
		if err != nil {
			return props, nil, err
		}
		denied = denied || denies
		routes = append(routes, found...)
	}
	if props.strip != "" && slices.ContainsFunc(routes, func(r draft) bool { return len(r.paths) > 0 }) {
		return props, nil, cannot("uri takes a prefix off before the paths are told apart")
	}
	if denied {
		for _, r := range routes {
			if len(r.allow) == 0 && len(r.paths) == 0 {
				return props, nil, cannot("some requests are refused without a matcher, and some are not")
			}
			if len(r.allow) == 0 {
				l.note(block, "other paths of the host", "they answered with an error and answer with an empty page now", "add a route of the host to a service that answers them")
				break
			}
		}
		if len(routes) == 0 && depth > 0 {
			return props, nil, errDenies
		}
	}
	if refuses != nil && (ordered.handle || ordered.route) && len(props.allow) > 0 {
		l.note(refuses, "label "+refuses.path+": "+refuses.value, refusesNow, "")
	}
	if depth == 0 {
		err = l.finishSite(&props, routes)
	} else if len(props.branches) > 0 {
		err = cannot("%s stands within %s", props.branches[0].raw[0].key, block.name)
	}
	return props, routes, err
}

// kinds are the blocks of a scope that Caddy runs before what refuses requests.
// https://caddyserver.com/docs/caddyfile/directives#directive-order
type kinds struct{ handle, route bool }

func kindsOf(block *directive) kinds {
	var out kinds
	for _, c := range block.children {
		out.handle = out.handle || c.name == "handle" || c.name == "handle_path"
		out.route = out.route || c.name == "route"
	}
	return out
}

const refusesNow = "Caddy ran it after the handles, where it refused nobody; now it does"

// errDenies is for a handle that does nothing but refuse.
var errDenies = unliftable("it refuses every request")

// finishSite holds the routes of a site against what Skep can say.
func (l *lifter) finishSite(props *draft, routes []draft) error {
	var seen []string
	split := len(routes) > 1
	for _, r := range routes {
		split = split || len(r.paths) > 0
		key := strings.Join(r.paths, " ")
		if slices.Contains(seen, key) {
			return cannot("two routes answer for the same paths, told apart by something else")
		}
		seen = append(seen, key)
	}
	if err := placeBranches(props, routes); err != nil {
		return err
	}
	if len(props.ssoOnly) > 0 && (split || props.sso) {
		return cannot("a login is asked for on some paths, and other directives have paths too")
	}
	if split {
		if name, ok := siteOnly(props.raw); ok {
			return cannot("%s belongs to the site as a whole, and its paths go different ways", name)
		}
		if _, ok := holds(props.raw, "redir"); ok && !slices.ContainsFunc(routes, func(r draft) bool { return len(r.paths) == 0 }) {
			return cannot("redir answers where no route does")
		}
	}
	return nil
}

// placeBranches gives what no route says to the route that answers for the
// rest of the host.
func placeBranches(props *draft, routes []draft) error {
	sso := props.sso || slices.ContainsFunc(routes, func(r draft) bool { return r.sso })
	for _, b := range props.branches {
		if b.outpost && sso {
			continue // Skep brings the outpost's paths itself
		}
		rest := slices.IndexFunc(routes, func(r draft) bool { return len(r.paths) == 0 })
		if rest < 0 || b.matcher == "" {
			return cannot("%s answers beside the service", b.raw[0].key)
		}
		for _, r := range routes {
			if len(r.paths) > 0 && (!strings.HasPrefix(b.matcher, "/") || covered(b.matcher, r.paths) || overlaps(b.matcher, r.paths)) {
				return cannot("%s and other routes of the host answer for the same paths", b.raw[0].key)
			}
		}
		if r := routes[rest]; r.sso || len(r.allow) > 0 || r.strip != "" || r.rate != "" {
			return cannot("%s answers beside the service, without the service's login, addresses or limits", b.raw[0].key)
		}
		routes[rest].raw = append(routes[rest].raw, b.raw...)
		routes[rest].rawLabels = append(routes[rest].rawLabels, b.rawLabels...)
	}
	props.branches = nil
	return nil
}

// overlaps reports whether the pattern covers one of the others.
func overlaps(pattern string, others []string) bool {
	return slices.ContainsFunc(others, func(p string) bool { return covered(p, []string{pattern}) })
}

// siteOnly finds a raw label that cannot stand in a handle.
func siteOnly(raw []entry) (string, bool) {
	return holds(raw, "tls", "log", "bind", "handle_errors", "uri", "rewrite", "try_files")
}

// holds finds one of the directives among raw labels.
func holds(raw []entry, names ...string) (string, bool) {
	for _, e := range raw {
		first, _, _ := strings.Cut(e.key, ".")
		if m := labelName.FindStringSubmatch(first); m != nil && slices.Contains(names, m[2]) {
			return m[2], true
		}
	}
	return "", false
}

// branch reads a directive that requests may end in.
func (l *lifter) branch(c *directive, props *draft, depth int) (routes []draft, denies bool, err error) {
	token, rest := c.matcher()
	m, ok := l.match(token)
	if c.name == "reverse_proxy" {
		if l.outpost(c) && props.sso {
			return nil, false, nil
		}
		if !ok || len(m.not) > 0 {
			l.aside(c, props)
			return nil, false, nil
		}
		r := draft{paths: m.paths, allow: m.allow}
		if err := l.proxy(c, rest, &r); err != nil {
			if token != "" {
				l.aside(c, props)
				return nil, false, nil
			}
			return nil, false, err
		}
		return []draft{r}, false, nil
	}
	inner := &lifter{im: l.im, s: l.s, d: l.d, matchers: maps.Clone(l.matchers), notes: l.notes}
	if c.name == "handle_path" && (!strings.HasPrefix(token, "/") || len(rest) > 0) {
		return nil, false, cannot("handle_path has no path")
	}
	own, found, err := inner.scope(c, depth+1)
	if err == errDenies && token == "" {
		return nil, true, nil
	}
	if err != nil {
		if c.name != "route" && !l.holdsUpstream(c) {
			l.aside(c, props)
			return nil, false, nil
		}
		return nil, false, err
	}
	if len(found) == 0 {
		l.aside(c, props) // it answers by itself
		return nil, false, nil
	}
	if !ok || len(m.not) > 0 {
		return nil, false, cannot("%s %s chooses requests by something else than paths and addresses", c.name, token)
	}
	strip := ""
	if c.name == "handle_path" {
		strip = strings.TrimSuffix(strings.TrimSuffix(token, "*"), "/")
		if strip == "" {
			strip = "/"
		}
		if !strings.HasSuffix(token, "/*") {
			strip = strings.TrimSuffix(token, "*")
		}
	}
	for _, r := range found {
		r, err := combine(own, r)
		if err != nil {
			return nil, false, err
		}
		if len(r.ssoOnly) > 0 {
			return nil, false, cannot("a login is asked for on some paths of %s", c.name)
		}
		if r, err = combine(draft{paths: m.paths, allow: m.allow, strip: strip}, r); err != nil {
			return nil, false, err
		}
		routes = append(routes, r)
	}
	return routes, false, nil
}

// aside keeps a directive that answers requests beside the routes.
func (l *lifter) aside(c *directive, props *draft) {
	b := branch{}
	b.raw = slices.Clone(props.raw) // numbers are unique in the block
	for _, other := range props.branches {
		b.raw = append(b.raw, other.raw...)
	}
	n := len(b.raw)
	l.raw(c, &b.draft)
	b.raw = b.raw[n:]
	b.matcher, _ = c.matcher()
	b.outpost = l.outpost(c) && !l.holdsUpstream(c)
	props.branches = append(props.branches, b)
}

// combine adds to a route what the block around it says.
func combine(outer, r draft) (draft, error) {
	one := func(what string, a, b string) (string, error) {
		if a != "" && b != "" && a != b {
			return "", cannot("%s is set twice for one route", what)
		}
		if a != "" {
			return a, nil
		}
		return b, nil
	}
	var err error
	if len(outer.paths) > 0 && len(r.paths) > 0 {
		return r, cannot("paths stand within paths")
	}
	r.paths = append(slices.Clone(outer.paths), r.paths...)
	if len(outer.allow) > 0 && len(r.allow) > 0 && !slices.Equal(outer.allow, r.allow) {
		return r, cannot("two lists of addresses hold for one route")
	}
	if len(r.allow) == 0 {
		r.allow = outer.allow
	}
	if outer.strip != "" && r.strip != "" {
		return r, cannot("a path prefix is taken off twice")
	}
	if r.strip, err = one("strip_prefix", outer.strip, r.strip); err != nil {
		return r, err
	}
	if r.rate, err = one("rate_limit", outer.rate, r.rate); err != nil {
		return r, err
	}
	if r.body, err = one("request_body", outer.body, r.body); err != nil {
		return r, err
	}
	if r.tls, err = one("tls", outer.tls, r.tls); err != nil {
		return r, err
	}
	switch {
	case outer.sso && r.sso:
		r.bypass = slices.DeleteFunc(slices.Clone(outer.bypass), func(p string) bool { return !slices.Contains(r.bypass, p) })
	case outer.sso:
		r.sso, r.bypass = true, outer.bypass
	}
	r.ssoOnly = append(slices.Clone(outer.ssoOnly), r.ssoOnly...)
	r.ownErrors = r.ownErrors || outer.ownErrors
	r.raw = append(slices.Clone(outer.raw), r.raw...)
	r.rawLabels = append(slices.Clone(outer.rawLabels), r.rawLabels...)
	return r, nil
}

// holdsUpstream reports whether requests in this block reach the service.
func (l *lifter) holdsUpstream(c *directive) bool {
	for _, i := range c.labels {
		if strings.Contains(l.s.labels[i].value, "{{") && strings.Contains(l.s.labels[i].value, "upstreams") {
			return true
		}
	}
	return false
}
