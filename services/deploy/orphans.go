package deploy

import (
	"slices"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"
)

// orphans finds what carries the stack's label and is not in the bundle. What
// a kept revision mounts stays, for a rollback needs it.
func (c *comparison) orphans() {
	name := string(c.desired.release.Stack)
	mine := func(labels map[string]string) bool { return labels[labelNamespace] == name }
	var found []Change
	for _, s := range c.live.Services {
		if mine(s.Spec.Labels) && !slices.ContainsFunc(c.desired.services, func(d desiredService) bool { return d.spec.Name == s.Spec.Name }) {
			kind := KindService
			if isJob(s.Spec.Mode) {
				kind = KindJob
			}
			found = append(found, Change{Action: Remove, Kind: kind, Name: s.Spec.Name, Restart: kind == KindService})
		}
	}
	used := c.kept()
	for _, o := range c.live.Configs {
		if mine(o.Spec.Labels) && o.Spec.Labels[LabelKind] == "" && !used["config "+o.Spec.Name] {
			found = append(found, Change{Action: Remove, Kind: KindConfig, Name: o.Spec.Name})
		}
	}
	for _, o := range c.live.Secrets {
		if mine(o.Spec.Labels) && !used["secret "+o.Spec.Name] {
			found = append(found, Change{Action: Remove, Kind: KindSecret, Name: o.Spec.Name})
		}
	}
	for _, n := range c.live.Networks {
		if mine(n.Labels) && !slices.ContainsFunc(c.desired.networks, func(d network.CreateRequest) bool { return d.Name == n.Name }) {
			found = append(found, Change{Action: Remove, Kind: KindNetwork, Name: n.Name})
		}
	}
	for _, f := range found {
		if c.scope.Prune {
			c.add(f)
		} else {
			c.out.Orphans = append(c.out.Orphans, string(f.Kind)+" "+f.Name)
		}
	}
}

// kept are the configs and secrets that the bundle or a kept revision mounts.
func (c *comparison) kept() map[string]bool {
	used := map[string]bool{}
	keep := func(d *desired) {
		for _, o := range d.configs {
			used["config "+o.Name] = true
		}
		for _, s := range d.driven {
			used["secret "+s.Name] = true
		}
		for _, s := range d.services {
			mounts(s.spec, used)
		}
	}
	keep(c.desired)
	for _, s := range c.live.Services { // what runs, or Swarm may roll back to
		mounts(s.Spec, used)
		if s.PreviousSpec != nil {
			mounts(*s.PreviousSpec, used)
		}
	}
	var hasOrphan bool
	for _, o := range c.live.Configs {
		hasOrphan = hasOrphan || o.Spec.Labels[labelNamespace] == string(c.desired.release.Stack) && !used["config "+o.Spec.Name]
	}
	for _, o := range c.live.Secrets {
		hasOrphan = hasOrphan || o.Spec.Labels[labelNamespace] == string(c.desired.release.Stack) && !used["secret "+o.Spec.Name]
	}
	if !hasOrphan {
		return used // reading the revisions would change nothing
	}
	for _, revision := range c.history {
		r, err := revision.Release()
		if err != nil {
			continue
		}
		if d, err := r.desired(); err == nil {
			keep(d)
		}
	}
	return used
}

func mounts(spec swarm.ServiceSpec, into map[string]bool) {
	if spec.TaskTemplate.ContainerSpec == nil {
		return
	}
	for _, s := range spec.TaskTemplate.ContainerSpec.Secrets {
		into["secret "+s.SecretName] = true
	}
	for _, o := range spec.TaskTemplate.ContainerSpec.Configs {
		into["config "+o.ConfigName] = true
	}
}
