package importer

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

func (l *lifter) tls(c *directive, props *draft) {
	switch dns := c.child("dns"); {
	case c.value == "internal" && len(c.children) == 0 && props.tls == "":
		props.tls = "internal"
	case dns != nil && len(c.children) == 1 && len(c.args) == 0 && len(dns.children) == 0 && dns.arg(0) == "cloudflare" && props.tls == "":
		props.tls = "acme-dns"
		props.rawLabels = append(props.rawLabels, dns.labels[0])
		props.raw = append(props.raw, entry{"tls.dns", dns.value})
	default:
		l.raw(c, props)
	}
}

func (l *lifter) requestBody(c *directive, props *draft) {
	size := c.child("max_size")
	if len(c.args) > 0 || size == nil || len(c.children) != 1 || len(size.args) != 1 || props.body != "" {
		l.raw(c, props)
		return
	}
	n, ok := caddySize(size.args[0])
	if !ok {
		l.raw(c, props)
		return
	}
	props.body = n
}

var sizeText = regexp.MustCompile(`^(?i)(\d+)\s*(b|k|kb|m|mb|g|gb|kib|mib|gib)?$`)

// caddySize writes a size as Compose reads it. Caddy counts MB in powers of
// 1000, Compose in powers of 1024.
// https://caddyserver.com/docs/caddyfile/directives/request_body
func caddySize(s string) (string, bool) {
	m := sizeText.FindStringSubmatch(s)
	if m == nil || len(m[1]) > 12 {
		return "", false
	}
	n, _ := index(m[1])
	unit := strings.ToLower(m[2])
	switch {
	case n == 0:
		return "", false
	case strings.HasSuffix(unit, "ib"):
		return m[1] + strings.ToUpper(unit[:1]) + "iB", true
	case unit == "" || unit == "b":
		return m[1], true
	}
	for range strings.Index("kmg", unit[:1]) + 1 {
		n *= 1000
	}
	return fmt.Sprint(n), true
}

var clientAddress = []string{"{client_ip}", "{remote_host}", "{http.request.remote.host}", "{http.vars.client_ip}", "{remote}"}

func (l *lifter) rateLimit(c *directive, props *draft) {
	zone := c.child("zone")
	if len(c.args) > 0 || zone == nil || len(c.children) != 1 || props.rate != "" {
		l.raw(c, props)
		return
	}
	values := map[string]string{}
	for _, child := range zone.children {
		values[child.name] = child.value
	}
	_, err := time.ParseDuration(values["window"])
	n, ok := index(values["events"])
	if len(values) != 3 || err != nil || !ok || n < 1 || !slices.Contains(clientAddress, values["key"]) {
		l.raw(c, props)
		return
	}
	props.rate = values["events"] + "/" + values["window"]
}

// deny reads a refusal; all says that it refuses every request.
func (l *lifter) deny(c *directive, props *draft) (all bool, err error) {
	token, rest := c.matcher()
	m, ok := l.match(token)
	refuses := c.name == "abort" || len(rest) > 0 && slices.Contains([]string{"401", "403", "404"}, rest[len(rest)-1])
	if !refuses || len(c.children) > 0 {
		l.aside(c, props)
		return false, nil
	}
	if token == "" || token == "*" {
		return true, nil
	}
	if !ok || len(m.notFrom) == 0 || len(m.paths)+len(m.not)+len(m.allow) > 0 {
		l.aside(c, props)
		return false, nil
	}
	if len(props.allow) > 0 {
		return false, cannot("two lists of addresses hold for one route")
	}
	props.allow = m.notFrom
	return false, nil
}

var upstream = regexp.MustCompile(`^(?:(https?|h2c)://)?\{\{\s*\(?\s*upstreams((?:\s+\S+?)*)\s*\)?\s*\}\}(?::(\S+))?$`)

// proxy reads a reverse_proxy to the service itself.
func (l *lifter) proxy(c *directive, args []string, r *draft) error {
	if to := c.child("to"); to != nil && len(args) == 0 {
		args = to.args
	}
	if len(args) != 1 {
		return cannot("reverse_proxy has %d upstreams", len(args))
	}
	if !l.upstream(args[0], r) {
		return cannot("reverse_proxy goes to %s, which is not this service", args[0])
	}
	for _, child := range c.children {
		plain := len(child.children) == 0
		switch {
		case child.name == "to":
		case child.name == "flush_interval" && child.value == "-1" && plain:
			r.stream = true
		case child.name == "header_up" && plain && header(child, &r.request):
		case child.name == "header_down" && plain && header(child, &r.response):
		case strings.HasPrefix(child.name, "health_") && plain && c.child("health_uri") != nil && strings.HasPrefix(c.child("health_uri").value, "/") &&
			slices.Contains([]string{"health_uri", "health_interval", "health_timeout"}, child.name) && validHealth(child):
			r.health = append(r.health, entry{map[string]string{"health_uri": "path", "health_interval": "interval", "health_timeout": "timeout"}[child.name], child.value})
		default:
			l.rawAt(child, "reverse_proxy", r)
		}
	}
	return nil
}

func validHealth(d *directive) bool {
	if d.name == "health_uri" {
		return len(d.args) == 1
	}
	_, err := time.ParseDuration(d.value)
	return err == nil
}

var headerName = regexp.MustCompile(`^-?[A-Za-z0-9-]+$`)

// header reads header_up or header_down where it sets or removes one.
func header(d *directive, into *[]entry) bool {
	name := d.arg(0)
	if !headerName.MatchString(name) || strings.Contains(d.value, "{{") ||
		slices.ContainsFunc(*into, func(e entry) bool { return strings.EqualFold(e.key, name) }) {
		return false
	}
	switch {
	case strings.HasPrefix(name, "-") && len(d.args) == 1:
		*into = append(*into, entry{name, ""})
	case !strings.HasPrefix(name, "-") && len(d.args) == 2:
		*into = append(*into, entry{name, d.args[1]})
	default:
		return false
	}
	return true
}

// upstream reads the service's own address.
func (l *lifter) upstream(arg string, r *draft) bool {
	if m := upstream.FindStringSubmatch(arg); m != nil {
		r.scheme, r.port = m[1], m[3]
		for _, word := range strings.Fields(m[2]) {
			word = strings.Trim(word, `"`)
			switch {
			case slices.Contains([]string{"http", "https", "h2c"}, word) && r.scheme == "":
				r.scheme = word
			case r.port == "":
				r.port = word
			default:
				return false
			}
		}
	} else {
		rest := arg
		for _, scheme := range []string{"http", "https", "h2c"} {
			if after, ok := strings.CutPrefix(arg, scheme+"://"); ok {
				r.scheme, rest = scheme, after
			}
		}
		name, port, _ := strings.Cut(rest, ":")
		full := string(l.im.result.Name) + "_" + l.s.name
		own := []string{l.s.name, full, "tasks." + full, "tasks." + l.s.name, text(l.s.def.get("container_name")), text(l.s.def.get("hostname"))}
		if name == "" || !slices.Contains(own, name) || strings.Contains(rest, "/") {
			return false
		}
		r.port = port
	}
	if r.port == "" {
		r.port = "80"
		if r.scheme == "https" {
			r.port = "443"
		}
	}
	if strings.Contains(r.port, "$") {
		return isPort(l.im.resolve(r.port)) || strings.HasPrefix(r.port, "${") && strings.HasSuffix(r.port, "}")
	}
	return isPort(r.port)
}
