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
	Trust       Permission = "trust"
	Env         Permission = "env"
	Credential  Permission = "credential"
	Certificate Permission = "certificate"
	File        Permission = "file"
	Listen      Permission = "listen"
	Import      Permission = "import"
	Handler     Permission = "handler"
	Matcher     Permission = "matcher"
	Upstream    Permission = "upstream"
	Function    Permission = "function"
	Reserve     Permission = "reserve"
)

// Permissions are all of them, for ParsePolicy and the manual.
var Permissions = []struct {
	Kind         Permission
	Example, Doc string
}{
	{Trust, "ingress", "A stack whose services may carry the label `skep.ingress.trusted`: they set global options and share snippets"},
	{Env, "VERSION", "A variable of the ingress's environment; a visitor may be shown it"},
	{Credential, "CLOUDFLARE_API_TOKEN", "A variable that only the DNS provider of `tls` may read"},
	{Certificate, "/run/secrets/cert", "A path of the ingress that only `tls` may read"},
	{File, "/srv/site/*", "A path of the ingress; one that ends in `/*` opens what is below"},
	{Listen, "8443", "A port beside those of HTTP and HTTPS"},
	{Import, "headers", "A snippet of a service that is not trusted, for every stack"},
	{Handler, "file_server", "A handler beside those that only answer or proxy"},
	{Matcher, "file", "A matcher that looks at the ingress's machine"},
	{Upstream, "127.0.0.1:9000", "One of the ingress's own addresses, a socket, or an address from the request"},
	{Function, "getHostByName", "A template function that calls out or is not deterministic"},
	{Reserve, "*.tenants.example.com", "Closes instead of opening: below this wildcard host, the stack that has it alone has hosts"},
}

func known(p Permission) bool {
	for _, known := range Permissions {
		if known.Kind == p {
			return true
		}
	}
	return false
}

// kinds names all permissions, for an error.
func kinds() string {
	var out []string
	for _, p := range Permissions {
		out = append(out, string(p.Kind))
	}
	return strings.Join(out, ", ")
}

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
			if !ok || name == "" || !known(Permission(kind)) {
				return Policy{}, fmt.Errorf("policy entry %q: want everything, or one of %s, a colon and a name", entry, kinds())
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
