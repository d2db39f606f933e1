package expand

import (
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"

	"skep/generator/bundle"
	"skep/generator/stack"
)

func serviceName(s string) stack.ServiceName { return stack.ServiceName(s) }

// deploy writes how Swarm runs the service: what the stack file says, else the
// cluster's defaults, else what is safe for this kind of service.
func (b *builder) deploy() {
	c := b.service.Compose
	d := c.Deploy
	if d == nil {
		d = &types.DeployConfig{}
	}
	b.mode(d)
	b.placement(d)
	b.resources(d)
	b.restart(d)
	b.updates(d)
	if d.EndpointMode != "" {
		b.set(b.origin("deploy", "deploy", "endpoint_mode"), d.EndpointMode, "deploy", "endpoint_mode")
	}
	for _, k := range sortedKeys(d.Labels) {
		b.set(b.origin("deploy", "deploy", "labels", k), d.Labels[k], "deploy", "labels", k)
	}
}

// isJob reports whether the service runs to completion.
func isJob(s *stack.Service) bool {
	d := s.Compose.Deploy
	return s.Job != nil || d != nil && strings.HasSuffix(d.Mode, "-job")
}

func isGlobal(s *stack.Service) bool {
	d := s.Compose.Deploy
	return d != nil && strings.HasPrefix(d.Mode, "global")
}

func (b *builder) mode(d *types.DeployConfig) {
	origin := b.origin("deploy", "deploy", "mode")
	switch {
	case b.service.Job != nil && d.Mode == "":
		b.set(bundle.Origin{Pos: b.service.Job.Pos, By: "x-job"}, "replicated-job", "deploy", "mode")
	case d.Mode != "" && d.Mode != "replicated":
		b.set(origin, d.Mode, "deploy", "mode")
	}
	replicas := d.Replicas
	if replicas == nil {
		replicas = b.service.Compose.Scale
	}
	if replicas != nil {
		b.set(b.origin("deploy", "deploy", "replicas"), *replicas, "deploy", "replicas")
	}
}

func (b *builder) placement(d *types.DeployConfig) {
	for i, c := range d.Placement.Constraints {
		b.add(b.origin("deploy", "deploy", "placement", "constraints", itoa(i)), c, "deploy", "placement", "constraints")
	}
	for _, c := range b.service.Pin {
		b.add(b.origin("x-pin", "x-pin"), c, "deploy", "placement", "constraints")
	}
	for _, c := range platformConstraints(b.service.Compose.Platform) {
		b.add(b.origin("platform", "platform"), c, "deploy", "placement", "constraints")
	}
	for _, p := range d.Placement.Preferences {
		b.add(b.origin("deploy", "deploy", "placement"), map[string]any{"spread": p.Spread}, "deploy", "placement", "preferences")
	}
	if n := d.Placement.MaxReplicas; n > 0 {
		b.set(b.origin("deploy", "deploy", "placement"), int(n), "deploy", "placement", "max_replicas_per_node")
	}
}

// platformConstraints says `platform: linux/amd64` in Swarm's words; nodes
// report the machine's own name for the architecture.
func platformConstraints(platform string) []string {
	if platform == "" {
		return nil
	}
	os, arch, _ := strings.Cut(platform, "/")
	arch, _, _ = strings.Cut(arch, "/")
	out := []string{"node.platform.os == " + os}
	switch arch {
	case "":
	case "amd64":
		out = append(out, "node.platform.arch == x86_64")
	case "arm64":
		out = append(out, "node.platform.arch == aarch64")
	default:
		out = append(out, "node.platform.arch == "+arch)
	}
	return out
}

func (b *builder) resources(d *types.DeployConfig) {
	c := b.service.Compose
	limits := d.Resources.Limits
	if limits == nil {
		limits = &types.Resource{}
	}
	set := func(origin bundle.Origin, v any, key ...string) {
		b.set(origin, v, append([]string{"deploy", "resources"}, key...)...)
	}
	defaults := b.e.cluster.Defaults
	fallback := bundle.Origin{Pos: b.e.cluster.Positions.At("defaults", "resources"), By: "defaults.resources"}
	deployed := b.origin("deploy", "deploy", "resources", "limits")
	switch {
	case limits.NanoCPUs != 0:
		set(deployed, cpus(limits.NanoCPUs), "limits", "cpus")
	case c.CPUS != 0:
		set(b.origin("cpus", "cpus"), cpus(types.NanoCPUs(c.CPUS)), "limits", "cpus")
	case defaults.CPUs != "":
		set(fallback, defaults.CPUs, "limits", "cpus")
	}
	switch {
	case limits.MemoryBytes != 0:
		set(deployed, size(int64(limits.MemoryBytes)), "limits", "memory")
	case c.MemLimit != 0:
		set(b.origin("mem_limit", "mem_limit"), size(int64(c.MemLimit)), "limits", "memory")
	case defaults.Memory != 0:
		set(fallback, size(defaults.Memory), "limits", "memory")
	}
	if pids := or(limits.Pids, c.PidsLimit); pids > 0 {
		set(deployed, int(pids), "limits", "pids")
	}
	r := d.Resources.Reservations
	if r == nil {
		r = &types.Resource{}
	}
	if r.NanoCPUs != 0 {
		set(b.origin("deploy", "deploy", "resources", "reservations"), cpus(r.NanoCPUs), "reservations", "cpus")
	}
	if m := or(int64(r.MemoryBytes), int64(c.MemReservation)); m != 0 {
		set(b.origin("deploy", "deploy", "resources", "reservations"), size(m), "reservations", "memory")
	}
	for _, g := range r.GenericResources {
		if g.DiscreteResourceSpec != nil {
			b.add(b.origin("deploy", "deploy", "resources", "reservations"), map[string]any{"discrete_resource_spec": map[string]any{
				"kind": g.DiscreteResourceSpec.Kind, "value": int(g.DiscreteResourceSpec.Value)}}, "deploy", "resources", "reservations", "generic_resources")
		}
	}
}

func cpus(n types.NanoCPUs) string { return strconv.FormatFloat(float64(n), 'f', -1, 32) }

// size writes bytes the way people do, where it is exact.
func size(n int64) string {
	for _, unit := range []struct {
		bytes int64
		name  string
	}{{1 << 30, "G"}, {1 << 20, "M"}, {1 << 10, "K"}} {
		if n%unit.bytes == 0 {
			return strconv.FormatInt(n/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// restart translates Compose's `restart`, which Swarm ignores.
func (b *builder) restart(d *types.DeployConfig) {
	origin := b.origin("deploy", "deploy", "restart_policy")
	p := d.RestartPolicy
	if p == nil {
		p = &types.RestartPolicy{}
		origin = b.origin("restart", "restart")
		policy, attempts, _ := strings.Cut(b.service.Compose.Restart, ":")
		switch policy {
		case "no":
			p.Condition = "none"
		case "on-failure":
			p.Condition = "on-failure"
			if n, err := strconv.ParseUint(attempts, 10, 64); err == nil {
				p.MaxAttempts = &n
			}
		}
	}
	condition := p.Condition
	if condition == "" {
		condition = "any"
		if isJob(b.service) {
			condition = "on-failure"
		}
	}
	b.set(origin, condition, "deploy", "restart_policy", "condition")
	delay := 5 * time.Second
	if p.Delay != nil {
		delay = time.Duration(*p.Delay)
	}
	b.set(origin, span(delay), "deploy", "restart_policy", "delay")
	attempts := p.MaxAttempts
	if attempts == nil {
		attempts = b.e.cluster.Defaults.MaxAttempts
	}
	if attempts == nil && isJob(b.service) {
		three := uint64(3)
		attempts = &three
	}
	if attempts != nil {
		b.set(origin, int(*attempts), "deploy", "restart_policy", "max_attempts")
	}
	if p.Window != nil {
		b.set(origin, span(time.Duration(*p.Window)), "deploy", "restart_policy", "window")
	}
}

// updates makes a rolling update safe: the new task first where two may run at
// once, the old one stopped first where they would share a volume or a port,
// and back to the old version when the new one fails.
func (b *builder) updates(d *types.DeployConfig) {
	if isJob(b.service) {
		return // a job has no rolling update
	}
	defaults := b.e.cluster.Defaults.Update
	order := "start-first"
	if !mayOverlap(b.service) {
		order = "stop-first"
	}
	origin := bundle.Origin{Pos: b.service.Pos, By: "update policy"}
	for _, key := range []string{"update_config", "rollback_config"} {
		own := d.UpdateConfig
		if key == "rollback_config" {
			own = d.RollbackConfig
		}
		if own == nil {
			own = &types.UpdateConfig{}
		}
		set := func(v any, name string) { b.set(origin, v, "deploy", key, name) }
		parallelism := defaults.Parallelism
		if own.Parallelism != nil {
			parallelism = *own.Parallelism
		}
		set(int(parallelism), "parallelism")
		set(or(own.Order, order), "order")
		if delay := or(time.Duration(own.Delay), defaults.Delay); delay != 0 {
			set(span(delay), "delay")
		}
		set(span(or(time.Duration(own.Monitor), defaults.Monitor)), "monitor")
		if own.MaxFailureRatio != 0 {
			set(float64(own.MaxFailureRatio), "max_failure_ratio")
		}
		if key == "update_config" {
			set(or(own.FailureAction, "rollback"), "failure_action")
		} else {
			set(or(own.FailureAction, "pause"), "failure_action")
		}
	}
}

// mayOverlap reports whether two tasks of the service may run side by side on
// one node: they share no local volume and no port of the node.
func mayOverlap(s *stack.Service) bool {
	if isGlobal(s) {
		return false
	}
	for _, p := range s.Compose.Ports {
		if p.Mode == "host" {
			return false
		}
	}
	for _, v := range s.Compose.Volumes {
		switch v.Type {
		case types.VolumeTypeVolume, types.VolumeTypeCluster:
			return false
		case types.VolumeTypeBind:
			if !v.ReadOnly {
				return false
			}
		}
	}
	return true
}
