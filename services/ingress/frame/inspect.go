package frame

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"skep/services/ingress/label"
)

// inspect holds a site of a service that is not trusted against the policy. It
// looks at what Caddy made of the labels, for there are many ways to write the
// same. What a trusted snippet says, its importers may say.
func inspect(full *document, blocks []caddyfile.ServerBlock, s *label.Site, p label.Policy) *failure {
	granted, err := readGrants(s.Granted)
	if err != nil {
		return adaptFailure(err)
	}
	i := &inspector{policy: p, granted: granted}
	site := blocks[len(blocks)-1]
	for _, b := range blocks {
		i.imports(b)
		if b.IsNamedRoute && !granted.words["&("+b.GetKeysText()[0]+")"] {
			i.tokens(b)
		}
	}
	i.tokens(site)
	i.listeners(full)
	i.logs(full, site)
	for _, app := range sorted(child(full.tree, "apps")) {
		i.walk("", child(full.tree, "apps", app))
	}
	return i.found
}

type inspector struct {
	policy  label.Policy
	granted grants
	found   *failure // the first
}

// refuse refuses what neither the policy nor a trusted snippet opens.
func (i *inspector) refuse(rule label.Rule, kind label.Permission, name, format string, args ...any) {
	if !i.granted.words[name] {
		i.deny(rule, kind, name, format, args...)
	}
}

// deny refuses what the policy does not open.
func (i *inspector) deny(rule label.Rule, kind label.Permission, name, format string, args ...any) {
	if i.found != nil || i.policy.Allows(kind, name) {
		return
	}
	i.found = &failure{rule: rule, needle: name, err: fmt.Errorf(format+"; the policy entry %s:%s would open it", append(args, kind, name)...)}
}

// imports refuses what Caddy's parser took from files.
func (i *inspector) imports(b caddyfile.ServerBlock) {
	check := func(t caddyfile.Token) {
		if t.File != fileName && !i.granted.imported(t.File) {
			i.deny(label.RuleFile, label.File, t.File, "it imports %s, a file of the ingress", t.File)
		}
	}
	for _, k := range b.Keys {
		check(k)
	}
	for _, s := range b.Segments {
		for _, t := range s {
			check(t)
		}
	}
}

var machinePlaceholder = regexp.MustCompile(`\{(env|file)\.([^}]*)\}?`)

// tokens looks for placeholders that read the machine. A trusted snippet opens
// them only where a DNS provider's credential stands: anywhere else its importer
// could put the same placeholder where a visitor reads it.
func (i *inspector) tokens(b caddyfile.ServerBlock) {
	check := func(t caddyfile.Token, credential bool) {
		for _, m := range machinePlaceholder.FindAllStringSubmatch(t.Text, -1) {
			name := placeholderName(m)
			switch {
			case m[1] == "file" && credential && i.granted.files[m[2]]:
			case m[1] == "file":
				i.deny(label.RuleFile, label.File, m[2], "%s reads a file of the ingress", m[0])
			case credential && (i.granted.env[name] || i.policy.Allows(label.Credential, name)):
			default:
				i.deny(label.RuleEnv, label.Env, name, "%s reads the ingress's environment", m[0])
			}
		}
	}
	for _, k := range b.Keys {
		check(k, false)
	}
	for _, s := range b.Segments {
		d := caddyfile.NewDispenser(s)
		for d.Next() {
			first := d.Val()
			credential := s.Directive() == "tls" && slices.Contains(credentialWords, first)
			check(d.Token(), false)
			for d.NextArg() {
				check(d.Token(), credential)
			}
		}
	}
}

// credentialWords are what a DNS provider's credential stands behind.
var credentialWords = []string{"dns", "api_token", "zone_token"}

// listeners refuses ports that the ingress has not declared.
func (i *inspector) listeners(d *document) {
	http := child(d.tree, "apps", "http")
	declared := []string{port(http["http_port"], 80), port(http["https_port"], 443)}
	for _, name := range sorted(d.servers()) {
		for _, listen := range items(child(d.servers(), name), "listen") {
			address, _ := listen.(string)
			number := strings.TrimPrefix(address, ":")
			if !slices.Contains(declared, number) {
				i.deny(label.RuleListen, label.Listen, number, "the ingress has not declared to listen on %s", address)
			}
		}
	}
}

func port(configured any, standard int) string {
	if n, ok := configured.(json.Number); ok {
		return n.String()
	}
	return strconv.Itoa(standard)
}

// logs refuses loggers that others would share, and those that write files or
// call out.
func (i *inspector) logs(d *document, site caddyfile.ServerBlock) {
	for _, s := range site.Segments {
		if s.Directive() == "log" && len(s) > 1 && s[1].Text != "{" {
			i.refuse(label.RuleModule, label.Handler, "log", "a logger with a name (%s) is everybody's", s[1].Text)
		}
	}
	for _, name := range sorted(child(d.tree, "logging", "logs")) {
		writer := child(d.tree, "logging", "logs", name, "writer")
		switch writer["output"] {
		case nil, "stdout", "stderr", "discard":
		case "file":
			i.file(writer["filename"])
		default:
			i.refuse(label.RuleModule, label.Handler, "log", "it would log to %v", writer["output"])
		}
	}
}

func (i *inspector) file(v any) {
	switch v := v.(type) {
	case string:
		i.refuse(label.RuleFile, label.File, v, "%s is a file of the ingress", v)
	case []any:
		for _, one := range v {
			i.file(one)
		}
	}
}

// harmless handlers answer, proxy, or change a request or a response.
var harmless = []string{
	"authentication", "copy_response", "copy_response_headers", "encode", "error", "headers", "intercept", "invoke", "log_append",
	"map", "rate_limit", "request_body", "reverse_proxy", "rewrite", "static_response", "subroute", "vars",
}

// harmlessMatchers look at the request alone, or at the response ("headers",
// "status_code").
var harmlessMatchers = []string{
	"client_ip", "expression", "header", "header_regexp", "headers", "host", "method", "not", "path", "path_regexp", "protocol", "query",
	"remote_ip", "sni", "status_code", "tls", "vars", "vars_regexp",
}

// fileKeys are the keys of Caddy's configuration whose values are paths.
var fileKeys = []string{
	"client_certificate_file", "client_certificate_key_file", "file_root", "insecure_secrets_log", "load_folders", "pem_files",
	"root_ca_pem_files", "template_file", "trusted_leaf_certs", "trusted_roots_pem_files",
}

// placeholderCall is CEL's way to read a placeholder by a computed name.
var placeholderCall = regexp.MustCompile(`(?i)\b(ph|caddyPlaceholder|placeholder|file)\s*\(`)

func (i *inspector) walk(key string, node any) {
	switch node := node.(type) {
	case []any:
		for _, one := range node {
			i.walk(key, one)
		}
	case object:
		i.object(key, node)
		for _, k := range sorted(node) {
			i.walk(k, node[k])
		}
	}
}

func (i *inspector) object(key string, o object) {
	for _, k := range fileKeys {
		i.file(o[k])
	}
	if key == "load_files" {
		for _, key := range []string{"certificate", "key"} {
			if path, _ := o[key].(string); !i.policy.Allows(label.Certificate, path) {
				i.file(o[key])
			}
		}
	}
	if name, ok := o["handler"].(string); ok {
		if !slices.Contains(harmless, name) {
			i.refuse(label.RuleModule, label.Handler, name, "the handler %s is not for every service", name)
		}
		i.file(o["root"])
	}
	if name, ok := o["protocol"].(string); ok && key == "transport" && name != "http" {
		i.refuse(label.RuleModule, label.Handler, name, "the transport %s is not for every service", name)
		i.file(o["root"])
	}
	if dial, ok := o["dial"].(string); ok {
		i.dial(dial)
	}
	if key == "match" || key == "not" {
		i.matchers(o)
	}
}

func (i *inspector) matchers(set object) {
	for _, name := range sorted(set) {
		if !slices.Contains(harmlessMatchers, name) {
			i.refuse(label.RuleModule, label.Matcher, name, "the matcher %s is not for every service", name)
		}
		if name != "expression" {
			continue
		}
		if call := placeholderCall.FindString(string(encode(set[name]))); call != "" {
			i.refuse(label.RuleModule, label.Matcher, name, "the expression calls %s)", call)
		}
	}
}

// dial refuses the ingress's own addresses, sockets, and addresses that a
// request would choose.
func (i *inspector) dial(address string) {
	host, _, err := net.SplitHostPort(address)
	switch ip, ipErr := netip.ParseAddr(host); {
	case strings.Contains(address, "{"):
		i.refuse(label.RuleUpstream, label.Upstream, address, "the request would choose the upstream %s", address)
	case strings.Contains(address, "/") || err != nil:
		i.refuse(label.RuleUpstream, label.Upstream, address, "the upstream %s is a socket of the ingress", address)
	case host == "" || strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") || ipErr == nil && (ip.Unmap().IsLoopback() || ip.Unmap().IsUnspecified()):
		i.refuse(label.RuleUpstream, label.Upstream, address, "the upstream %s is the ingress itself", address)
	}
}

// ownZones puts the stack's name before the names of rate-limit zones: zones
// of one name are one zone, whoever writes it.
func ownZones(node any, stack label.Stack) {
	switch node := node.(type) {
	case []any:
		for _, one := range node {
			ownZones(one, stack)
		}
	case object:
		if zones := child(node, "rate_limits"); node["handler"] == "rate_limit" && zones != nil {
			renamed := object{}
			for name, zone := range zones {
				renamed[string(stack)+"/"+name] = zone
			}
			node["rate_limits"] = renamed
		}
		for _, v := range node {
			ownZones(v, stack)
		}
	}
}
