// Package deploy brings a Swarm to what a bundle says. Planning is a pure
// function of the bundle and the live state; applying goes through the Engine
// interface and keeps to the plan.
package deploy

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	composetypes "github.com/docker/cli/cli/compose/types"
	"github.com/moby/moby/api/types/network"

	"skep/generator/bundle"
	"skep/generator/expand"
	"skep/generator/stack"
	"skep/networks"
)

// Project is what a Swarm should run.
type Project struct {
	Cluster string `json:"cluster"`
	// Networks are the shared overlays, which belong to no stack.
	Networks []network.CreateRequest `json:"networks,omitempty"`
	// Releases come in deploy order: tier by tier, and in a tier a stack after
	// those that it needs.
	Releases []Release `json:"releases"`
	// Zones and Tunnel lead to the hosts of the stacks. Whoever keeps them is
	// reached through Options.Names.
	Zones  []networks.Zone `json:"zones,omitempty"`
	Tunnel *Tunnel         `json:"tunnel,omitempty"`
}

// Tunnel is what the cluster's tunnel should do.
type Tunnel struct {
	Origin string `json:"origin"` // where rules of the cluster lead
	Rules  []byte `json:"rules"`  // cloudflared's configuration file
}

// Release is the content of one stack, whole: a revision stores it.
type Release struct {
	Stack stack.Name   `json:"stack"`
	Tier  stack.Tier   `json:"tier,omitempty"`
	Needs []stack.Name `json:"needs,omitempty"`
	// Preview is the preview that the stack belongs to, empty for none.
	Preview string `json:"preview,omitempty"`
	// Compose is the stack's file as values; dollar signs stand for themselves.
	Compose map[string]any `json:"compose"`
	// Files are the contents of the stack's configs, by the path that Compose names.
	Files map[string][]byte `json:"files,omitempty"`
	// Gates are the services that wait for a job to complete.
	Gates map[stack.ServiceName][]stack.ServiceName `json:"gates,omitempty"`

	loaded *composetypes.Config // Compose as Docker's loader reads it, if that is known
}

// NewProject takes the stacks of a cluster's bundle.
func NewProject(c *stack.Cluster, b *bundle.Bundle) (Project, error) {
	p := Project{Cluster: c.Name, Zones: b.Zones}
	for _, o := range b.Networks.Sorted() {
		if o.Scope == networks.SharedScope {
			p.Networks = append(p.Networks, sharedNetwork(o))
		}
	}
	contents := map[string][]byte{}
	for _, f := range b.Files {
		contents[f.Path] = f.Content
	}
	if rules, ok := contents[tunnelFile]; ok && c.Tunnel != nil {
		p.Tunnel = &Tunnel{Origin: c.Tunnel.Origin, Rules: rules}
	}
	for _, s := range b.Stacks {
		r := Release{Stack: s.Name, Tier: s.Tier, Compose: s.Compose(), loaded: s.Loaded}
		configs, _ := r.Compose["configs"].(map[string]any)
		for _, key := range slices.Sorted(maps.Keys(configs)) {
			def, _ := configs[key].(map[string]any)
			file, ok := def["file"].(string)
			if !ok {
				continue
			}
			content, ok := contents[path.Clean(file)]
			if !ok {
				return Project{}, fmt.Errorf("stack %s: config %s: the bundle has no %s", s.Name, key, file)
			}
			if r.Files == nil {
				r.Files = map[string][]byte{}
			}
			r.Files[path.Clean(file)] = content
		}
		if source, ok := c.Stack(s.Name); ok {
			r.Needs = expand.Dependencies(c, source)
			r.Gates = gates(source)
			r.Preview = source.Preview.Label()
		}
		p.Releases = append(p.Releases, r)
	}
	return p, nil
}

// tunnelFile is cloudflared's in the bundle.
const tunnelFile = "cluster/cloudflared.yaml"

func gates(s *stack.Stack) map[stack.ServiceName][]stack.ServiceName {
	out := map[stack.ServiceName][]stack.ServiceName{}
	for _, service := range s.Services {
		if service.Job != nil && len(service.Job.Before) > 0 {
			out[service.Ref.Service] = slices.Sorted(slices.Values(service.Job.Before))
		}
	}
	return out
}

// sharedNetwork says what the bundle's deploy.sh says with flags.
func sharedNetwork(o networks.Overlay) network.CreateRequest {
	r := network.CreateRequest{
		Name: string(o.Name), Driver: overlayDriver, Internal: o.Internal, Attachable: o.Attachable,
		Labels: map[string]string{LabelKind: kindNetwork},
	}
	if o.Encrypted {
		r.Options = map[string]string{encryptedOption: ""}
	}
	if o.Subnet.IsValid() {
		r.IPAM = &network.IPAM{Driver: "default", Config: []network.IPAMConfig{{Subnet: o.Subnet}}}
	}
	return r
}

const (
	overlayDriver   = "overlay"
	encryptedOption = "encrypted"
)

// Release finds a stack.
func (p Project) Release(name stack.Name) (Release, bool) {
	i := slices.IndexFunc(p.Releases, func(r Release) bool { return r.Stack == name })
	if i < 0 {
		return Release{}, false
	}
	return p.Releases[i], true
}

// Only keeps some stacks; all when none is named. An unknown name is an error.
func (p Project) Only(names ...stack.Name) (Project, error) {
	if len(names) == 0 {
		return p, nil
	}
	var known []string
	for _, r := range p.Releases {
		known = append(known, string(r.Stack))
	}
	for _, name := range names {
		if _, ok := p.Release(name); !ok {
			return Project{}, WithHint(fmt.Errorf("there is no stack %q", name), "the stacks are "+strings.Join(known, ", "))
		}
	}
	p.Releases = slices.DeleteFunc(slices.Clone(p.Releases), func(r Release) bool { return !slices.Contains(names, r.Stack) })
	return p, nil
}

// UnmarshalJSON keeps whole numbers whole: Docker's loader tells 3 from 3.0.
func (r *Release) UnmarshalJSON(data []byte) error {
	type plain Release
	if err := json.Unmarshal(data, (*plain)(r)); err != nil {
		return err
	}
	r.Compose, _ = whole(r.Compose).(map[string]any)
	return nil
}

func whole(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, item := range v {
			out[k] = whole(item)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = whole(item)
		}
		return out
	case float64:
		if n := int(v); float64(n) == v {
			return n
		}
	}
	return v
}
