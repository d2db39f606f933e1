package importer

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// authName is how people call the snippet that asks for a login.
var authName = regexp.MustCompile(`(?i)^(sso|authentik|auth|forward[-_]?auth)([-_](sso|authentik|auth|forward[-_]?auth|required))?$`)

// imports reads the import of a snippet.
func (l *lifter) imports(c *directive, props *draft) error {
	name := c.arg(0)
	snippet := l.im.snippet(name)
	switch {
	case snippet != nil && isSSO(snippet):
		return l.importSSO(snippet, c.args[1:], props)
	case snippet == nil && authName.MatchString(name):
		return l.importUnknown(c, props)
	default:
		l.raw(c, props)
	}
	return nil
}

// importSSO reads a snippet that asks for a login as if it stood in full.
func (l *lifter) importSSO(snippet *directive, args []string, props *draft) error {
	inner := &lifter{im: l.im, s: l.s, d: l.d, matchers: maps.Clone(l.matchers), notes: l.notes}
	var auth *directive
	for _, c := range snippet.children {
		c := c.with(args)
		switch {
		case strings.HasPrefix(c.name, "@"):
			inner.matchers[c.name] = c
		case c.name == "forward_auth":
			auth = c
		}
	}
	who, ok := inner.login(auth)
	if !ok {
		return cannot("who has to log in is chosen by %s", strings.Join(auth.args, " "))
	}
	return props.ask(who)
}

// importUnknown reads the import of a snippet that no file defines and that
// is called like a login.
func (l *lifter) importUnknown(c *directive, props *draft) error {
	im := l.im
	who := match{}
	ok := true
	switch args := c.args[1:]; {
	case c.arg(0) == "sso" && im.Cluster != nil && im.Cluster.SSO != nil:
		return props.ask(match{not: args}) // Skep's own: the paths that need none
	case len(args) == 1:
		who, ok = l.match(args[0])
		ok = ok && onlyPaths(who)
	case len(args) > 1:
		ok = false
	}
	if !ok {
		who = match{}
		l.note(c, "label "+c.path+": "+c.value,
			"what the arguments of the snippet mean is known to the ingress alone; the whole route asks for a login now",
			"name the paths that need none: auth: {sso: true, bypass: [\"/api/*\"]}")
	} else {
		im.noteOnce(l.s.labels[c.labels[0]].pos, "snippet ("+c.arg(0)+")", "no file defines it, and it is taken for the login of the cluster's sso",
			"import the file that runs Caddy too, or check each `auth`")
	}
	return props.ask(who)
}

// ask notes who has to log in.
func (props *draft) ask(who match) error {
	if props.sso || len(props.ssoOnly) > 0 {
		return cannot("two logins are asked for")
	}
	if len(who.paths) > 0 {
		props.ssoOnly = who.paths
		return nil
	}
	props.sso = true
	for _, p := range who.not {
		if p != outpostPaths { // Skep lets them through itself
			props.bypass = append(props.bypass, p)
		}
	}
	return nil
}

// outpostPaths are those of the SSO outpost on every host.
const outpostPaths = "/outpost.goauthentik.io/*"

// login reads who a forward_auth asks for a login.
func (l *lifter) login(auth *directive) (match, bool) {
	token, rest := auth.matcher()
	m, ok := l.match(token)
	return m, ok && onlyPaths(m) && len(rest) == 1
}

// argument is a snippet's argument: {args[0]}, {args.0}, {args[:]}.
var argument = regexp.MustCompile(`\{args(?:\.(\d+)|\[(\d*)(:?)(\d*)\])\}`)

// with is the directive with a snippet's arguments filled in.
func (d *directive) with(args []string) *directive {
	out := *d
	var filled []string
	for _, a := range d.args {
		filled = append(filled, lex(fill(a, args))...)
	}
	out.args, out.value = filled, strings.Join(filled, " ")
	out.children = nil
	for _, c := range d.children {
		out.children = append(out.children, c.with(args))
	}
	return &out
}

func fill(s string, args []string) string {
	return argument.ReplaceAllStringFunc(s, func(v string) string {
		m := argument.FindStringSubmatch(v)
		from, to := 0, len(args)
		if n, ok := index(m[1] + m[2]); ok {
			from = n
			if m[3] == "" {
				to = n + 1
			}
		}
		if n, ok := index(m[4]); ok {
			to = n
		}
		if from >= to || to > len(args) {
			return ""
		}
		return strings.Join(args[from:to], " ")
	})
}

// isSSO reports whether a snippet is Authentik's forward auth and nothing else.
func isSSO(snippet *directive) bool {
	for _, c := range snippet.children {
		switch {
		case c.name == "forward_auth", strings.HasPrefix(c.name, "@"):
		case c.name == "reverse_proxy" && strings.HasPrefix(c.arg(0), "/outpost.goauthentik.io"):
		case c.name == "request_header" && len(c.args) == 2 && strings.HasPrefix(strings.ToLower(c.args[1]), "-x-authentik-"):
		default:
			return false
		}
	}
	auth := snippet.child("forward_auth")
	return auth != nil && len(auth.args) > 0 && authentik(auth)
}

// authentik reports whether a forward_auth asks Authentik, and nothing more.
func authentik(auth *directive) bool {
	for _, c := range auth.children {
		if !slices.Contains([]string{"uri", "copy_headers", "trusted_proxies", "header_up"}, c.name) || len(c.children) > 0 {
			return false
		}
	}
	uri := auth.child("uri")
	return uri != nil && strings.Contains(uri.value, "goauthentik")
}

func withScheme(upstream string) string {
	if strings.Contains(upstream, "://") {
		return upstream
	}
	return "http://" + upstream
}

// outpost reports whether a directive brings the SSO outpost's own paths.
func (l *lifter) outpost(c *directive) bool {
	matcher, _ := c.matcher()
	if m, ok := l.match(matcher); ok && len(m.paths) == 1 {
		matcher = m.paths[0]
	}
	return strings.HasPrefix(matcher, "/outpost.goauthentik.io")
}

// forwardAuth reads a login that stands in full.
func (l *lifter) forwardAuth(c *directive, props *draft) error {
	who, ok := l.login(c)
	if !ok || !authentik(c) {
		l.raw(c, props)
		return nil
	}
	facts := &l.im.result.facts
	facts.sso = append(facts.sso, withScheme(c.args[len(c.args)-1]))
	if h := c.child("copy_headers"); h != nil {
		facts.headers = append(facts.headers, h.args...)
	}
	return props.ask(who)
}
