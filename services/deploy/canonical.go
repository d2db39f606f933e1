package deploy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"
)

// canonical brings what was asked for and what the engine answers into one
// form: defaults filled in, identifiers replaced by names, lists in order,
// bookkeeping left out. Two specs that mean the same are then equal. The
// defaults are SwarmKit's (api/defaults/service.go there).
func canonical(spec swarm.ServiceSpec, networkNames map[string]string) swarm.ServiceSpec {
	spec = clone(spec)
	image := spec.Labels[labelImage]
	maps.DeleteFunc(spec.Labels, func(k, _ string) bool { return ours(k) || k == labelImage })
	canonicalMode(&spec.Mode)
	if !isJob(spec.Mode) {
		spec.UpdateConfig = canonicalRollout(spec.UpdateConfig)
		spec.RollbackConfig = canonicalRollout(spec.RollbackConfig)
	}
	canonicalEndpoint(&spec)
	t := &spec.TaskTemplate
	t.ForceUpdate = 0
	if t.Runtime == swarm.RuntimeContainer {
		t.Runtime = ""
	}
	canonicalRestart(t)
	if t.Placement != nil {
		t.Placement.Platforms = nil // the registry's answer, not a wish
		slices.Sort(t.Placement.Constraints)
	}
	for i := range t.Networks {
		n := &t.Networks[i]
		n.Target = cmp.Or(networkNames[n.Target], n.Target)
		slices.Sort(n.Aliases)
	}
	slices.SortFunc(t.Networks, func(a, b swarm.NetworkAttachmentConfig) int { return cmp.Compare(a.Target, b.Target) })
	if t.ContainerSpec != nil {
		canonicalContainer(t.ContainerSpec, image)
	}
	return spec
}

func canonicalMode(m *swarm.ServiceMode) {
	one := uint64(1)
	switch {
	case m.Replicated != nil && m.Replicated.Replicas == nil:
		m.Replicated.Replicas = &one
	case m.ReplicatedJob != nil:
		if m.ReplicatedJob.MaxConcurrent == nil {
			m.ReplicatedJob.MaxConcurrent = &one
		}
		if m.ReplicatedJob.TotalCompletions == nil {
			m.ReplicatedJob.TotalCompletions = m.ReplicatedJob.MaxConcurrent
		}
	case m.Global == nil && m.GlobalJob == nil && m.Replicated == nil:
		m.Replicated = &swarm.ReplicatedService{Replicas: &one}
	}
}

const defaultMonitor = 5 * time.Second

func canonicalRollout(u *swarm.UpdateConfig) *swarm.UpdateConfig {
	if u == nil {
		u = &swarm.UpdateConfig{Parallelism: 1}
	}
	u.FailureAction = cmp.Or(u.FailureAction, swarm.UpdateFailureActionPause)
	u.Monitor = cmp.Or(u.Monitor, defaultMonitor)
	u.Order = cmp.Or(u.Order, swarm.UpdateOrderStopFirst)
	return u
}

func canonicalRestart(t *swarm.TaskSpec) {
	if t.RestartPolicy == nil {
		t.RestartPolicy = &swarm.RestartPolicy{}
	}
	p := t.RestartPolicy
	p.Condition = cmp.Or(p.Condition, swarm.RestartPolicyConditionAny)
	if p.Delay == nil {
		delay := 5 * time.Second
		p.Delay = &delay
	}
	if p.MaxAttempts != nil && *p.MaxAttempts == 0 {
		p.MaxAttempts = nil // without end
	}
	if p.Window != nil && *p.Window == 0 {
		p.Window = nil
	}
}

func canonicalEndpoint(spec *swarm.ServiceSpec) {
	if spec.EndpointSpec == nil {
		spec.EndpointSpec = &swarm.EndpointSpec{}
	}
	e := spec.EndpointSpec
	e.Mode = cmp.Or(e.Mode, swarm.ResolutionModeVIP)
	for i := range e.Ports {
		e.Ports[i].Protocol = cmp.Or(e.Ports[i].Protocol, network.TCP)
		e.Ports[i].PublishMode = cmp.Or(e.Ports[i].PublishMode, swarm.PortConfigPublishModeIngress)
	}
	slices.SortFunc(e.Ports, swarm.PortConfig.Compare)
}

func canonicalContainer(c *swarm.ContainerSpec, imageLabel string) {
	c.Image = canonicalImage(c.Image, imageLabel)
	if c.Isolation == container.IsolationDefault {
		c.Isolation = ""
	}
	if c.StopGracePeriod == nil {
		grace := 10 * time.Second
		c.StopGracePeriod = &grace
	}
	slices.Sort(c.Env)
	slices.Sort(c.CapabilityAdd)
	slices.Sort(c.CapabilityDrop)
	for _, s := range c.Secrets {
		s.SecretID = ""
	}
	for _, o := range c.Configs {
		o.ConfigID = ""
	}
	slices.SortFunc(c.Ulimits, func(a, b *container.Ulimit) int { return cmp.Compare(a.Name, b.Name) })
}

// canonicalImage leaves the digest out that the engine added when it resolved
// the name which the stack file gives, as Docker's label remembers it.
func canonicalImage(image, label string) string {
	got, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return image
	}
	got = reference.TagNameOnly(got)
	asked, err := reference.ParseNormalizedNamed(label)
	if err != nil {
		return reference.FamiliarString(got)
	}
	asked = reference.TagNameOnly(asked)
	_, pinned := asked.(reference.Digested)
	tagged, hasTag := got.(reference.Tagged)
	wanted, wantsTag := asked.(reference.Tagged)
	if !pinned && hasTag && wantsTag && got.Name() == asked.Name() && tagged.Tag() == wanted.Tag() {
		return reference.FamiliarString(asked)
	}
	return reference.FamiliarString(got)
}

// hash is the content of a canonical spec in 12 hexadecimal digits.
func hash(spec swarm.ServiceSpec) string {
	sum := sha256.New()
	for _, f := range flatten(spec) {
		sum.Write([]byte(f.path + "\x00" + f.value + "\x00"))
	}
	return hex.EncodeToString(sum.Sum(nil))[:12]
}
