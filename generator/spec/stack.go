package spec

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"skep/generator/problem"
	"skep/generator/stack"
	"skep/networks"
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
		if of := service.Compose; of.Image == "" && of.Build == nil && of.Provider == nil { // a check speaks of these
			p := c.fail(ruleValue, []string{"services", key}, "service %s has no image", key)
			*p = p.WithRemedy("name one: `image: nginx:1.29.1`")
		}
		for rule, w := range stackWaivers {
			if _, ok := service.Waivers[rule]; !ok {
				service.Waivers[rule] = w
			}
		}
		s.Services = append(s.Services, service)
	}
	for _, service := range s.Services {
		for _, name := range slices.Sorted(maps.Keys(service.Compose.DependsOn)) {
			if !service.Compose.DependsOn[name].Required {
				continue
			}
			_, off := c.project.DisabledServices[name] // by a profile
			if _, ok := c.project.Services[name]; !ok && !off {
				c.unknown([]string{"services", string(service.Ref.Service), "depends_on"}, "service", name, slices.Sorted(maps.Keys(c.project.Services)))
			}
		}
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
		def := c.project.Secrets[key]
		if bool(def.External) || def.Driver != "" && def.File == "" && def.Environment == "" && def.Content == "" {
			continue
		}
		p := c.fail(ruleValue, []string{"secrets", key}, "secret %q comes from a file or variable of this machine", key)
		*p = p.WithRemedy("keep it in the secret store and write op://vault/item/field where it is used, or mark it external")
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
	for i, name := range c.Previews.Stacks {
		if _, ok := c.Stack(name); !ok {
			d.unknown([]string{"previews", "stacks", itoa(i)}, "stack", string(name), names)
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
