package spec

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"skep/generator/problem"
	"skep/generator/stack"
	"skep/networks"
	"skep/secrets"
)

// converter makes the model of one stack from what Compose loaded.
type converter struct {
	*stackLoader
	*decoder
	doc     *document
	dir     string
	project *types.Project
}

func (c *converter) stack(name stack.Name) *stack.Stack {
	s := &stack.Stack{
		Name: name, File: c.doc.file, Pos: c.positions.At("name"), Positions: c.positions,
		Network:  stack.OwnNetwork{Internal: true},
		Extra:    map[string]stack.OwnNetwork{},
		External: map[string]networks.Name{},
		Volumes:  c.project.Volumes,
		Secrets:  c.project.Secrets,
		Configs:  map[string]stack.FileObject{},
	}
	var keys stackKeys
	c.decode(map[string]any(c.project.Extensions), &keys)
	s.Tier = c.tier(keys.Tier)
	stackWaivers := c.waivers(keys.Waive, "x-waive")
	c.networks(s)
	c.configs(s)
	c.secrets()
	if len(c.project.Services) == 0 {
		p := c.fail(ruleValue, []string{"services"}, "the stack has no services")
		*p = p.WithRemedy("a profile may have left them all out")
	}
	for _, key := range slices.Sorted(maps.Keys(c.project.Services)) {
		serviceName, err := stack.ParseServiceName(key)
		if err != nil {
			c.fail(ruleValue, []string{"services", key}, "%s", err)
			continue
		}
		service := c.service(s, stack.ServiceRef{Stack: name, Service: serviceName})
		for rule, w := range stackWaivers {
			if _, ok := service.Waivers[rule]; !ok {
				service.Waivers[rule] = w
			}
		}
		s.Services = append(s.Services, service)
	}
	for _, service := range s.Services {
		if service.Job == nil {
			continue
		}
		for _, before := range service.Job.Before {
			if _, ok := s.Service(before); !ok {
				c.unknown([]string{"services", string(service.Ref.Service), "x-job", "before"}, "service", string(before), slices.Sorted(maps.Keys(c.project.Services)))
			}
		}
	}
	return s
}

func (c *converter) tier(name string) stack.Tier {
	tiers := c.cluster.Tiers
	if name == "" {
		return tiers[len(tiers)-1]
	}
	if !slices.Contains(tiers, stack.Tier(name)) {
		known := make([]string, len(tiers))
		for i, t := range tiers {
			known[i] = string(t)
		}
		c.unknown([]string{"x-tier"}, "tier", name, known)
	}
	return stack.Tier(name)
}

func (c *converter) waivers(in map[string]string, path ...string) map[string]stack.Waiver {
	out := map[string]stack.Waiver{}
	for _, rule := range slices.Sorted(maps.Keys(in)) {
		at := append(path[:len(path):len(path)], rule)
		if len(c.rules) > 0 && !slices.Contains(c.rules, rule) {
			p := c.fail(ruleWaiver, at, "there is no check %q", rule)
			if near, ok := nearest(rule, c.rules); ok {
				*p = p.WithRemedy("did you mean %q?", near)
			} else {
				*p = p.WithRemedy("`skep explain` lists them")
			}
			continue
		}
		if strings.TrimSpace(in[rule]) == "" {
			p := c.fail(ruleWaiver, at, "waiver of %s gives no reason", rule)
			*p = p.WithRemedy("%s: \"why it does not apply here\"", rule)
			continue
		}
		out[rule] = stack.Waiver{Reason: in[rule], Pos: c.positions.At(at...)}
	}
	return out
}

// networks sorts the file's networks into the stack's own and shared ones.
func (c *converter) networks(s *stack.Stack) {
	for _, key := range slices.Sorted(maps.Keys(c.project.Networks)) {
		n := c.project.Networks[key]
		if bool(n.External) {
			name := or(n.Name, key)
			if _, ok := c.cluster.Network(networks.Name(name)); !ok {
				c.unknown([]string{"networks", key}, "shared network", name, c.sharedNetworks())
				continue
			}
			s.External[key] = networks.Name(name)
			continue
		}
		own := stack.OwnNetwork{Internal: n.Internal, Attachable: n.Attachable}
		if !c.positions.Has("networks", key, "internal") {
			own.Internal = true
		}
		_, own.Encrypted = n.DriverOpts["encrypted"]
		if n.Driver != "" && n.Driver != "overlay" {
			p := c.fail(ruleValue, []string{"networks", key, "driver"}, "network driver %q does not span nodes", n.Driver)
			*p = p.WithRemedy("leave driver out: Skep makes overlays")
		}
		if len(n.Ipam.Config) > 0 && n.Ipam.Config[0] != nil {
			own.Subnet = n.Ipam.Config[0].Subnet
		}
		if key == "default" {
			s.Network = own
			continue
		}
		s.Extra[key] = own
	}
}

func (c *converter) sharedNetworks() []string {
	var out []string
	for _, n := range c.cluster.Networks {
		out = append(out, string(n.Name))
	}
	return out
}

func (c *converter) configs(s *stack.Stack) {
	for _, key := range slices.Sorted(maps.Keys(c.project.Configs)) {
		def := c.project.Configs[key]
		object := stack.FileObject{External: bool(def.External), Name: or(def.Name, key)}
		switch {
		case object.External:
		case def.Content != "":
			object.Content, object.Source = []byte(def.Content), key
		case def.File != "":
			content, ok := c.readBeside(def.File, "configs", key, "file")
			if !ok {
				continue
			}
			object.Content, object.Source = content, filepath.Base(def.File)
		default:
			p := c.fail(ruleValue, []string{"configs", key}, "config %q has no content that a Swarm takes", key)
			*p = p.WithRemedy("use file, content or external")
			continue
		}
		s.Configs[key] = object
	}
}

// secrets refuses what would put a secret into a file.
func (c *converter) secrets() {
	for _, key := range slices.Sorted(maps.Keys(c.project.Secrets)) {
		if def := c.project.Secrets[key]; !bool(def.External) {
			p := c.fail(ruleValue, []string{"secrets", key}, "secret %q comes from a file or variable of this machine", key)
			*p = p.WithRemedy("keep it in the secret store and write op://vault/item/field where it is used, or mark it external")
		}
	}
}

// readBeside reads a file of the project that the stack file names.
func (c *converter) readBeside(name string, at ...string) ([]byte, bool) {
	file := name
	if !filepath.IsAbs(file) {
		file = filepath.Join(c.dir, file)
	}
	if _, err := os.Lstat(file); err == nil && !c.inside(file) {
		p := c.fail(ruleFile, at, "%s is outside the project", name)
		*p = p.WithRemedy("copy it into the project")
		return nil, false
	}
	content, err := readFile(file)
	if err != nil {
		p := c.fail(ruleFile, at, "%s", withoutPath(err))
		*p = p.WithRemedy("files are looked up beside %s", c.doc.file)
		return nil, false
	}
	return content, true
}

func (c *converter) service(s *stack.Stack, ref stack.ServiceRef) *stack.Service {
	compose := c.project.Services[string(ref.Service)]
	out := stack.NewService(ref, compose, c.positions)
	at := []string{"services", string(ref.Service)}
	path := func(keys ...string) []string { return append(at[:2:2], keys...) }

	var keys serviceKeys
	c.decode(map[string]any(compose.Extensions), &keys, at...)

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
	out := &stack.DockerAPI{Pos: c.positions.At(path...)}
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

// resolve checks the names that cross stacks.
func resolve(c *stack.Cluster) problem.List {
	d := &decoder{positions: c.Positions}
	var names []string
	for _, s := range c.Stacks {
		names = append(names, string(s.Name))
	}
	for i, n := range c.Networks {
		if n.Owner == "" {
			if _, ok := c.Stack(stack.Name(n.Name)); ok {
				c.Networks[i].Owner = stack.Name(n.Name)
			}
			if n.Name == c.Ingress.Network {
				c.Networks[i].Owner = c.Ingress.Service.Stack
			}
			continue
		}
		if _, ok := c.Stack(n.Owner); !ok && c.Positions.Has("networks", string(n.Name), "owner") {
			d.unknown([]string{"networks", string(n.Name), "owner"}, "stack", string(n.Owner), names)
		}
	}
	refs := map[string]*stack.ServiceRef{}
	if slices.ContainsFunc(c.Services(), func(s *stack.Service) bool { return len(s.Routes) > 0 }) {
		refs["ingress.service"] = &c.Ingress.Service
	}
	if c.SSO != nil {
		refs["sso.worker"] = c.SSO.Worker
	}
	if c.Tunnel != nil {
		refs["tunnel.service"] = c.Tunnel.Service
	}
	for _, key := range slices.Sorted(maps.Keys(refs)) {
		if refs[key] == nil {
			continue
		}
		if _, ok := c.Service(*refs[key]); !ok {
			var known []string
			for _, s := range c.Services() {
				known = append(known, s.Ref.String())
			}
			d.unknown(strings.Split(key, "."), "service", refs[key].String(), known)
		}
	}
	return d.problems
}
