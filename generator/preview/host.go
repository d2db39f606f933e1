package preview

import (
	"regexp"
	"strings"

	"skep/generator/stack"
)

// Limits of DNS (RFC 1035, 2.3.4), without the root's label.
const (
	maxLabel = 63
	maxHost  = 253
)

// host is the name of a route's host in the preview: its first label prefixed.
// A zone's own domain has no label to spare, so the preview's name becomes one.
func (t *transformation) host(r stack.Route) stack.Host {
	name := string(t.options.Name)
	host := string(r.Host)
	any, wildcard := "", false
	if host, wildcard = strings.CutPrefix(host, "*."); wildcard {
		any = "*."
	}
	if r.Zone != nil && host == string(r.Zone.Domain) {
		return stack.Host(any + name + "." + host)
	}
	return stack.Host(any + name + "-" + host)
}

// route moves a route to the preview's host.
func (t *transformation) route(v *stack.Service, r stack.Route) stack.Route {
	host := t.hosts[r.Host]
	label, _, _ := strings.Cut(strings.TrimPrefix(string(host), "*."), ".")
	shorter := "give the preview a shorter name than %q, or the route a shorter host"
	switch taken, ok := t.owners[host]; {
	case len(label) > maxLabel:
		t.fail(ruleName.At(r.Pos, "host %s has a label of %d characters, and DNS takes %d", host, len(label), maxLabel).About(v.Ref), shorter, t.options.Name)
	case len(host) > maxHost:
		t.fail(ruleName.At(r.Pos, "host %s has %d characters, and DNS takes %d", host, len(host), maxHost).About(v.Ref), shorter, t.options.Name)
	case ok:
		t.fail(ruleTaken.At(r.Pos, "%s belongs to %s already (%s)", host, taken.service, taken.pos).About(v.Ref), "give the preview another name than %q", t.options.Name)
	}
	if zones := t.cluster.Previews.Zones; len(zones) > 0 && r.Zone != nil && !contains(zones, r.Zone.Name) {
		t.fail(ruleAllowed.At(r.Pos, "%s is in zone %q, and a preview may publish names in %s", r.Host, r.Zone.Name, strings.Join(zones, ", ")).About(v.Ref),
			"add the zone to previews.zones in cluster.yaml if names of previews belong there")
	}
	t.mentions(v, r)
	r.Host = host
	return r
}

// siteLabel is a label that opens a site of the ingress.
var siteLabel = regexp.MustCompile(`^caddy(_\d+)?$`)

// sites are the hosts in such a label's value.
func sites(value string) []stack.Host {
	var out []stack.Host
	for _, site := range strings.FieldsFunc(value, func(r rune) bool { return r == ' ' || r == ',' }) {
		if _, rest, ok := strings.Cut(site, "://"); ok {
			site = rest
		}
		site, _, _ = strings.Cut(site, "/")
		site, _, _ = strings.Cut(site, ":")
		if host, err := stack.ParseHost(site); err == nil && strings.Contains(site, ".") {
			out = append(out, host)
		}
	}
	return out
}

// mentions warns of the route's texts that name an original's host.
func (t *transformation) mentions(v *stack.Service, r stack.Route) {
	for _, set := range []map[string]string{r.Caddy, r.Headers.Request, r.Headers.Response} {
		for _, key := range sortedKeys(set) {
			if host, ok := t.named(set[key]); ok {
				t.fail(ruleOriginal.At(r.Pos, "%s of the route names %s", key, host).About(v.Ref), "the preview answers at %s", t.hosts[host])
			}
		}
	}
}

// named finds an original's host in a text.
func (t *transformation) named(text string) (stack.Host, bool) {
	text = strings.ToLower(text)
	for _, host := range sortedKeys(t.hosts) {
		for rest, from := text, 0; ; {
			i := strings.Index(rest, string(host))
			if i < 0 {
				break
			}
			from += i
			end := from + len(host)
			if (from == 0 || !hostRune(text[from-1])) && (end == len(text) || !hostRune(text[end])) {
				return host, true
			}
			from++
			rest = text[from:]
		}
	}
	return "", false
}

func hostRune(c byte) bool {
	return c == '-' || c == '.' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
}
