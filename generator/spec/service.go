package spec

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"skep/generator/stack"
	"skep/networks"
	"skep/secrets"
)

// service makes the model of one service, its x- keys decoded.
func (c *converter) service(s *stack.Stack, ref stack.ServiceRef) *stack.Service {
	compose := c.project.Services[string(ref.Service)]
	out := stack.NewService(ref, compose, c.positions)
	at := []string{"services", string(ref.Service)}
	path := func(keys ...string) []string { return append(at[:2:2], keys...) }

	var keys serviceKeys
	c.decode(map[string]any(compose.Extensions), &keys, at...)
	out.Compose.Extensions = nil // they are keys now

	for i, r := range keys.Ingress {
		routePath := path("x-ingress", itoa(i))
		if !c.positions.Has(routePath...) {
			routePath = path("x-ingress")
		}
		if route, ok := c.route(r, routePath); ok {
			out.Routes = append(out.Routes, route)
		}
	}
	for i, name := range keys.Uses {
		if _, ok := c.cluster.Network(networks.Name(name)); !ok {
			c.unknown(path("x-uses", itoa(i)), "shared network", name, c.sharedNetworks())
			continue
		}
		out.Uses = append(out.Uses, stack.Use{Network: networks.Name(name), Pos: c.positions.At(path("x-uses", itoa(i))...)})
	}
	out.Egress = keys.Egress
	if keys.DockerAPI != nil {
		out.DockerAPI = c.dockerAPI(*keys.DockerAPI, path("x-docker-api"))
	}
	for i, f := range keys.Files {
		if file, ok := c.file(f, path("x-files", itoa(i))); ok {
			out.Files = append(out.Files, file)
		}
	}
	if keys.Job != nil {
		out.Job = &stack.Job{Pos: c.positions.At(path("x-job")...)}
		for _, before := range keys.Job.Before {
			out.Job.Before = append(out.Job.Before, stack.ServiceName(before))
		}
	}
	if keys.Pin != nil {
		out.Pin = c.pin(*keys.Pin, path("x-pin"))
	}
	if h := keys.Homepage; h != nil {
		out.Homepage = &stack.Homepage{Off: h.Off, Group: h.Group, Name: h.Name, Icon: h.Icon, Href: h.Href,
			Description: h.Description, Weight: h.Weight, Widget: h.Widget, Pos: c.positions.At(path("x-homepage")...)}
	}
	if m := keys.Monitor; m != nil {
		out.Monitor = c.monitor(*m, path("x-monitor"))
	}
	if m := keys.Metrics; m != nil {
		out.Metrics = &stack.Metrics{Port: m.Port, Path: or(m.Path, "/metrics"), Pos: c.positions.At(path("x-metrics")...)}
		if c.cluster.Metrics == "" {
			p := c.fail(ruleUnknownName, path("x-metrics"), "the cluster file names no network for metrics")
			*p = p.WithRemedy("add a shared network and `metrics: NAME` to %s", ClusterFile)
		}
	}
	out.Entrypoint = keys.Entrypoint
	out.Waivers = c.waivers(keys.Waive, path("x-waive")...)
	out.References = c.references(compose.Environment, path("environment"))
	out.Relative = c.relativeBinds(string(ref.Service), compose.Volumes)
	c.strayReferences(path()...)
	for _, key := range slices.Sorted(maps.Keys(compose.Networks)) {
		if _, declared := c.project.Networks[key]; !declared && key != "default" {
			c.unknown(path("networks", key), "network", key, slices.Sorted(maps.Keys(c.project.Networks)))
		}
	}
	return out
}

// asksForFile is true for variables whose value is a path to a secret:
// PASSWORD_FILE, PASSWORD__FILE, FILE__PASSWORD (linuxserver.io),
// HOMEPAGE_FILE_KEY (Homepage), PGPASSFILE (PostgreSQL).
var asksForFile = regexp.MustCompile(`(^|_)FILE(_|$)|^PGPASSFILE$`)

func (c *converter) references(env types.MappingWithEquals, path []string) []stack.SecretVariable {
	var out []stack.SecretVariable
	for _, name := range slices.Sorted(maps.Keys(env)) {
		value := env[name]
		if value == nil || !secrets.HasReference(*value) {
			continue
		}
		at := append(path[:len(path):len(path)], name)
		t, err := secrets.ParseTemplate(*value)
		if err != nil {
			p := c.fail(ruleReference, at, "%s: %s", name, err)
			*p = p.WithRemedy("write op://vault/item/field")
			continue
		}
		out = append(out, stack.SecretVariable{Name: name, Value: t, AsFile: asksForFile.MatchString(name), Pos: c.positions.At(at...)})
	}
	return out
}

// relativeBinds finds the bind mounts whose source Compose made absolute, which
// is right on this machine alone.
func (c *converter) relativeBinds(service string, volumes []types.ServiceVolumeConfig) []int {
	services, _ := c.doc.values["services"].(map[string]any)
	def, _ := services[service].(map[string]any)
	written := asList(def["volumes"])
	var out []int
	for i, v := range volumes {
		if v.Type != types.VolumeTypeBind {
			continue
		}
		source := "" // stays empty for what extends and include bring in
		if i < len(written) {
			switch w := written[i].(type) {
			case string:
				source, _, _ = strings.Cut(w, ":")
			case map[string]any:
				source, _ = w["source"].(string)
			}
		}
		rel, err := filepath.Rel(c.root, v.Source)
		if strings.HasPrefix(source, ".") || strings.HasPrefix(source, "~") || err == nil && filepath.IsLocal(rel) {
			out = append(out, i)
		}
	}
	return out
}

// strayReferences finds references where nothing would resolve them.
func (c *converter) strayReferences(path ...string) {
	services, _ := c.doc.values["services"].(map[string]any)
	service, _ := services[path[1]].(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(service)) {
		if key == "environment" || key == "x-files" || key == "x-waive" {
			continue
		}
		eachString(service[key], append(path[:2:2], key), func(s string, at []string) {
			if secrets.HasReference(s) {
				p := c.fail(ruleReference, at, "a secret reference in %s would be passed on as text", key)
				*p = p.WithRemedy("put it into environment or x-files")
			}
		})
	}
}

// DockerSections are the parts of the Docker API that x-docker-api may name,
// as docker-socket-proxy's variables do, and those that skep-dockerproxy keeps
// apart from them.
var DockerSections = []string{
	"archive", "attach", "auth", "build", "commit", "config_data", "configs", "containers", "distribution", "env_values", "events", "exec", "export", "grpc",
	"images", "info", "join_tokens", "label_values", "logs", "networks", "nodes", "ping", "plugins", "secrets", "services", "session", "swarm", "system",
	"tasks", "version", "volumes",
}

var endpoint = regexp.MustCompile(`^(POST|PUT|DELETE|PATCH) /[a-z{}/_-]+$`)

func (c *converter) dockerAPI(in dockerAPI, path []string) *stack.DockerAPI {
	out := &stack.DockerAPI{OwnStack: in.Scope == "stack", Pos: c.positions.At(path...)}
	for i, section := range in.Read {
		section = strings.ToLower(section)
		if !slices.Contains(DockerSections, section) {
			at := append(path[:len(path):len(path)], itoa(i))
			if !c.positions.Has(at...) {
				at = append(path[:len(path):len(path)], "read", itoa(i))
			}
			c.unknown(at, "Docker API section", section, DockerSections)
			continue
		}
		out.Read = append(out.Read, section)
	}
	for i, e := range in.Write {
		if !endpoint.MatchString(e) {
			p := c.fail(ruleValue, append(path[:len(path):len(path)], "write", itoa(i)), "%q is not a method and a path of the Docker API", e)
			*p = p.WithRemedy("for example POST /services/{id}/update")
			continue
		}
		out.Write = append(out.Write, e)
	}
	slices.Sort(out.Read)
	out.Read = slices.Compact(out.Read)
	slices.Sort(out.Write)
	return out
}

func (c *converter) file(in file, path []string) (stack.File, bool) {
	out := stack.File{Source: in.Source, Target: in.Target, UID: in.UID, GID: in.GID, Pos: c.positions.At(path...)}
	if (in.Source == "") == (in.Content == "") {
		p := c.fail(ruleValue, path, "a file needs either a source or its content")
		*p = p.WithRemedy("for example \"app.conf:/etc/app.conf\"")
		return out, false
	}
	if !strings.HasPrefix(in.Target, "/") {
		p := c.fail(ruleValue, path, "target %q is not an absolute path", in.Target)
		*p = p.WithRemedy("name the file's path in the container")
		return out, false
	}
	if in.Mode != "" {
		mode, err := strconv.ParseUint(in.Mode, 8, 12)
		if err != nil {
			c.fail(ruleValue, append(path[:len(path):len(path)], "mode"), "%q is not an octal file mode", in.Mode)
			return out, false
		}
		m := uint32(mode)
		out.Mode = &m
	}
	out.Content = []byte(in.Content)
	if in.Source != "" {
		content, ok := c.readBeside(in.Source, path...)
		if !ok {
			return out, false
		}
		out.Content = content
	}
	if secrets.HasReference(string(out.Content)) {
		t, err := secrets.ParseTemplate(string(out.Content))
		if err != nil {
			c.fail(ruleReference, path, "%s: %s", or(in.Source, in.Target), err)
			return out, false
		}
		out.Secret = &t
	}
	return out, true
}

func (c *converter) pin(in pin, path []string) []string {
	var out []string
	nodes := []string(in.Nodes)
	for i, n := range nodes {
		if len(c.cluster.Nodes) > 0 && !slices.Contains(c.cluster.Nodes, n) {
			c.unknown(append(path[:len(path):len(path)], itoa(i)), "node", n, c.cluster.Nodes)
		}
	}
	switch {
	case len(nodes) == 1:
		out = append(out, "node.hostname == "+nodes[0])
	case len(nodes) > 1 && len(c.cluster.Nodes) == 0:
		p := c.fail(ruleValue, path, "Swarm joins constraints with \"and\", so several nodes need the list of all")
		*p = p.WithRemedy("list `nodes:` in %s, or pin to a label: {label: disk=ssd}", ClusterFile)
	case len(nodes) > 1:
		for _, n := range c.cluster.Nodes {
			if !slices.Contains(nodes, n) {
				out = append(out, "node.hostname != "+n)
			}
		}
	}
	for _, l := range in.Label {
		name, value, ok := strings.Cut(l, "=")
		if !ok || name == "" || value == "" {
			p := c.fail(ruleValue, path, "%q is not a label such as disk=ssd", l)
			*p = p.WithRemedy("docker node update --label-add disk=ssd NODE sets one")
			continue
		}
		out = append(out, fmt.Sprintf("node.labels.%s == %s", strings.TrimSpace(name), strings.TrimSpace(strings.TrimPrefix(value, "="))))
	}
	if in.Role != "" {
		out = append(out, "node.role == "+in.Role)
	}
	return out
}

func (c *converter) monitor(in monitor, path []string) *stack.Monitor {
	m := &stack.Monitor{Off: in.Off, Name: in.Name, Type: or(in.Type, "http"), Path: in.Path, URL: in.URL,
		Keyword: in.Keyword, Interval: in.Interval.or(defaultInterval), Pos: c.positions.At(path...)}
	if m.Type == "keyword" && m.Keyword == "" {
		p := c.fail(ruleValue, path, "a keyword monitor needs a keyword")
		*p = p.WithRemedy("keyword: text that the page holds")
	}
	return m
}
