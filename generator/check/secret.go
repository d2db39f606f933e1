package check

import (
	"bytes"
	"fmt"
	"strings"

	"skep/generator/problem"
	"skep/generator/stack"
	"skep/secrets"
)

var rulePlaintextSecret = rule("plaintext-secret", problem.Error, "A secret in clear")

// plaintextSecret looks wherever a service could hold a secret's value. What
// it says never repeats the value, not even in part.
func plaintextSecret(_ *stack.Cluster, s *stack.Stack, v *stack.Service) problem.List {
	f := secretFinder{finder{service: v, rule: rulePlaintextSecret}}
	for _, name := range sortedKeys(v.Compose.Environment) {
		if value := v.Compose.Environment[name]; value != nil {
			f.named(f.at("environment", name), "variable "+name, name, *value,
				"keep it in the secret store and write `"+name+": op://vault/item/field`")
		}
	}
	f.arguments(v.Compose.Command, "command")
	f.arguments(v.Compose.Entrypoint, "entrypoint")
	if h := v.Compose.HealthCheck; h != nil {
		f.arguments(h.Test, "healthcheck", "test")
	}
	for _, key := range sortedKeys(v.Compose.Labels) {
		f.named(f.at("labels", key), "label "+key, lastWord(key), v.Compose.Labels[key], labelRemedy)
	}
	if d := v.Compose.Deploy; d != nil {
		for _, key := range sortedKeys(d.Labels) {
			f.named(f.at("deploy", "labels", key), "label "+key, lastWord(key), d.Labels[key], labelRemedy)
		}
	}
	if l := v.Compose.Logging; l != nil {
		for _, key := range sortedKeys(l.Options) {
			f.named(f.at("logging", "options", key), "logging option "+key, key, l.Options[key], loggingRemedy)
		}
	}
	f.mounts(s)
	f.routes()
	f.dashboards()
	for _, file := range v.Files {
		f.content(file.Pos, or(file.Source, file.Target), file.Content, "write {{ op://vault/item/field }} in its place: the file becomes a secret")
	}
	for _, c := range v.Compose.Configs {
		if object, ok := s.Configs[c.Source]; ok {
			f.content(s.Positions.At("configs", c.Source), or(object.Source, c.Source), object.Content, "move the file to x-files and write {{ op://vault/item/field }} in its place")
		}
	}
	return f.found
}

const (
	labelRemedy   = "who reads the Docker API reads labels: let the service take it from a variable, NAME: op://vault/item/field"
	commandRemedy = "who lists processes reads arguments: take it from a variable, NAME: op://vault/item/field"
	loggingRemedy = "a log driver's options stand in the service: set this one in daemon.json of the nodes, or let a collector send the logs"
	volumeRemedy  = "a volume's options stand in the stack file and in the engine: mount the share on the node, from a file that root alone reads, and bind its folder with x-pin"
	widgetRemedy  = "the widget's value becomes a label: write \"{{HOMEPAGE_VAR_NAME}}\", and give that variable to the dashboard as op://vault/item/field"
)

type secretFinder struct{ finder }

// mounts looks at what the drivers of the service's volumes are told. A file
// system's options are one value: username=app,password=...
func (f *secretFinder) mounts(s *stack.Stack) {
	for _, m := range f.service.Compose.Volumes {
		options := s.Volumes[m.Source].DriverOpts
		for _, key := range sortedKeys(options) {
			pos := s.Positions.At("volumes", m.Source, "driver_opts", key)
			what := "option " + key + " of volume " + m.Source
			if key != "o" {
				f.named(pos, what, key, options[key], volumeRemedy)
				continue
			}
			for option := range strings.SplitSeq(options[key], ",") {
				name, value, _ := strings.Cut(option, "=")
				f.named(pos, what, name, value, volumeRemedy)
			}
		}
	}
}

// shaped reports a value that looks like a known kind of token, whatever it is
// called.
func (f *secretFinder) shaped(pos problem.Position, what, value, remedy string) bool {
	shape, ok := shapeOf(value)
	if ok {
		f.add(pos, remedy, "%s holds %s in clear", what, shape)
	}
	return ok
}

// named reports a value by its shape, or by the name that it has.
func (f *secretFinder) named(pos problem.Position, what, name, value, remedy string) {
	if f.shaped(pos, what, value, remedy) || secrets.HasReference(value) || !IsSecretName(name) {
		return
	}
	switch judge(value, name, string(f.service.Ref.Service), string(f.service.Ref.Stack)) {
	case knownDefault:
		f.add(pos, remedy, "%s holds a password that everybody tries first", what)
	case random:
		f.add(pos, remedy, "%s holds a secret in clear", what)
	case suspicious:
		f.add(pos, remedy, "%s is called like a secret, and its value stands in clear", what)
		f.found[len(f.found)-1].Severity = problem.Warning
	}
}

// arguments looks at a command line: --token=VALUE, --token VALUE, VALUE.
func (f *secretFinder) arguments(args []string, path ...string) {
	flag := ""
	for i, arg := range args {
		pos := f.at(append(path[:len(path):len(path)], itoa(i))...)
		name, value, joined := strings.Cut(arg, "=")
		switch {
		case strings.HasPrefix(arg, "-") && joined:
			f.named(pos, "option "+name, flagName(name), value, commandRemedy)
			flag = ""
		case strings.HasPrefix(arg, "-"):
			f.shaped(pos, path[0], arg, commandRemedy)
			flag = arg
		case flag != "":
			f.named(pos, "option "+flag, flagName(flag), arg, commandRemedy)
			flag = ""
		default:
			f.shaped(pos, path[0], arg, commandRemedy)
		}
	}
}

// flagName is an option as a variable would be called. Some programs have
// names of their own for a password.
func flagName(flag string) string {
	switch name := strings.TrimLeft(flag, "-"); name {
	case "requirepass", "masterauth": // redis-server
		return "PASSWORD"
	default:
		return name
	}
}

func (f *secretFinder) routes() {
	for _, r := range f.service.Routes {
		for _, key := range sortedKeys(r.Caddy) {
			f.named(r.Pos, "Caddy label "+key, lastWord(key), r.Caddy[key], labelRemedy)
		}
		for _, set := range []map[string]string{r.Headers.Request, r.Headers.Response} {
			for _, key := range sortedKeys(set) {
				f.named(r.Pos, "header "+key, key, set[key], "headers become labels: let the service or its client add this one")
			}
		}
	}
}

func (f *secretFinder) dashboards() {
	if h := f.service.Homepage; h != nil {
		for _, key := range sortedKeys(h.Widget) {
			name := key
			if key == "key" {
				name = "api_key"
			}
			f.named(f.at("x-homepage", "widget", key), "widget option "+key, name, h.Widget[key], widgetRemedy)
		}
		f.shaped(f.at("x-homepage", "href"), "the link", h.Href, labelRemedy)
	}
	if m := f.service.Monitor; m != nil {
		f.shaped(f.at("x-monitor", "url"), "the monitor's URL", m.URL, labelRemedy)
	}
}

// content looks at each line of a text file, and reports the first finding.
func (f *secretFinder) content(pos problem.Position, name string, content []byte, remedy string) {
	if bytes.IndexByte(content, 0) >= 0 {
		return
	}
	n := 0
	for line := range bytes.Lines(content) {
		n++
		if f.shaped(pos, fmt.Sprintf("line %d of %s", n, name), string(line), remedy) {
			return
		}
	}
}

// lastWord is the last part of a dotted label, where its meaning stands.
func lastWord(key string) string { return key[strings.LastIndex(key, ".")+1:] }
