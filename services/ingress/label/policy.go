package label

import (
	"fmt"
	"slices"
	"strings"
)

// Permission is a kind of thing that labels may not do unless a policy opens
// it by name.
type Permission string

const (
	Trust Permission = "trust" // a stack whose services may carry the trusted label
	Env   Permission = "env"   // a variable of the ingress's environment
	// Credential is a variable that only the DNS provider of a tls directive may
	// read, and Certificate a path that only tls may: neither can be shown.
	Credential  Permission = "credential"
	Certificate Permission = "certificate"
	File        Permission = "file"     // a path of the ingress; one that ends in /* opens what is below
	Listen      Permission = "listen"   // a port beside those of HTTP and HTTPS
	Import      Permission = "import"   // a snippet of a service that is not trusted
	Handler     Permission = "handler"  // a handler beside those that only answer or proxy
	Matcher     Permission = "matcher"  // a matcher that looks at the ingress's machine
	Upstream    Permission = "upstream" // the ingress's own addresses, sockets, addresses from the request
	Function    Permission = "function" // a template function that calls out or is not deterministic
)

var permissions = []Permission{Trust, Env, Credential, Certificate, File, Listen, Import, Handler, Matcher, Upstream, Function}

// Policy is what labels of services that are not trusted may do beside
// routing. Its zero value opens nothing.
type Policy struct {
	// Open trusts every label, as caddy-docker-proxy does.
	Open  bool
	names map[Permission][]string
}

// ParsePolicy reads entries "permission:name", separated by white space or
// line ends; # starts a comment. The entry "everything" trusts every label.
func ParsePolicy(text string) (Policy, error) {
	p := Policy{names: map[Permission][]string{}}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		for _, entry := range strings.Fields(line) {
			if entry == "everything" {
				p.Open = true
				continue
			}
			kind, name, ok := strings.Cut(entry, ":")
			if !ok || name == "" || !slices.Contains(permissions, Permission(kind)) {
				return Policy{}, fmt.Errorf("policy entry %q: want everything, or one of %v, a colon and a name", entry, permissions)
			}
			p.names[Permission(kind)] = append(p.names[Permission(kind)], name)
		}
	}
	return p, nil
}

// Allows reports whether the policy opens something by name.
func (p Policy) Allows(kind Permission, name string) bool {
	if p.Open {
		return true
	}
	return slices.ContainsFunc(p.names[kind], func(allowed string) bool {
		if dir, ok := strings.CutSuffix(allowed, "/*"); ok && kind == File {
			return strings.HasPrefix(name, dir+"/") && !slices.Contains(strings.Split(name, "/"), "..")
		}
		return allowed == name
	})
}
