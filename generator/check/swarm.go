package check

import (
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"skep/generator/problem"
	"skep/generator/stack"
)

var ruleSwarmUnsupported = rule("swarm-unsupported", problem.Error, "Swarm has no such thing")

// unsupported are the keys that Swarm drops or refuses, and what does the same
// there. `privileged` and host networks have rules of their own.
var unsupported = []struct {
	key    string
	used   func(*types.ServiceConfig) bool
	remedy string
}{
	{"blkio_config", func(c *types.ServiceConfig) bool { return c.BlkioConfig != nil }, "limit I/O on the node, with a systemd slice or the file system's quota"},
	{"cgroup", func(c *types.ServiceConfig) bool { return c.Cgroup != "" }, "set \"default-cgroupns-mode\" in the nodes' daemon.json"},
	{"cgroup_parent", func(c *types.ServiceConfig) bool { return c.CgroupParent != "" }, "set \"cgroup-parent\" in the nodes' daemon.json"},
	{"cpu_count", func(c *types.ServiceConfig) bool { return c.CPUCount != 0 }, cpuRemedy},
	{"cpu_percent", func(c *types.ServiceConfig) bool { return c.CPUPercent != 0 }, cpuRemedy},
	{"cpu_period", func(c *types.ServiceConfig) bool { return c.CPUPeriod != 0 }, cpuRemedy},
	{"cpu_quota", func(c *types.ServiceConfig) bool { return c.CPUQuota != 0 }, cpuRemedy},
	{"cpu_rt_period", func(c *types.ServiceConfig) bool { return c.CPURTPeriod != 0 }, cpuRemedy},
	{"cpu_rt_runtime", func(c *types.ServiceConfig) bool { return c.CPURTRuntime != 0 }, cpuRemedy},
	{"cpu_shares", func(c *types.ServiceConfig) bool { return c.CPUShares != 0 }, "reserve CPU instead: deploy.resources.reservations.cpus"},
	{"cpuset", func(c *types.ServiceConfig) bool { return c.CPUSet != "" }, cpuRemedy},
	{"device_cgroup_rules", func(c *types.ServiceConfig) bool { return len(c.DeviceCgroupRules) > 0 }, deviceRemedy},
	{"devices", func(c *types.ServiceConfig) bool { return len(c.Devices) > 0 }, deviceRemedy},
	{"dns_opt", func(c *types.ServiceConfig) bool { return len(c.DNSOpts) > 0 }, "set \"dns-opts\" in the nodes' daemon.json"},
	{"domainname", func(c *types.ServiceConfig) bool { return c.DomainName != "" }, "write the full name into `hostname`"},
	{"external_links", func(c *types.ServiceConfig) bool { return len(c.ExternalLinks) > 0 }, "meet the other service on a shared network, x-uses, and call it by its name"},
	{"gpus", func(c *types.ServiceConfig) bool { return len(c.Gpus) > 0 }, gpuRemedy},
	{"group_add", func(c *types.ServiceConfig) bool { return len(c.GroupAdd) > 0 }, "give the group as the primary one: `user: \"1000:998\"`"},
	{"ipc", func(c *types.ServiceConfig) bool { return c.Ipc != "" && c.Ipc != "private" }, "run what shares memory as one service; for more /dev/shm set `shm_size`"},
	{"mac_address", func(c *types.ServiceConfig) bool { return c.MacAddress != "" }, "overlays give out addresses themselves: leave it out"},
	{"mem_swappiness", func(c *types.ServiceConfig) bool { return c.MemSwappiness != 0 }, "set vm.swappiness on the nodes"},
	{"memswap_limit", func(c *types.ServiceConfig) bool { return c.MemSwapLimit != 0 }, "set deploy.resources.limits.memory and turn swap off on the nodes"},
	{"models", func(c *types.ServiceConfig) bool { return len(c.Models) > 0 }, "run the model server as a service and give its address in a variable"},
	{"oom_kill_disable", func(c *types.ServiceConfig) bool { return c.OomKillDisable }, "give it the memory that it needs: deploy.resources.limits.memory"},
	{"oom_score_adj", func(c *types.ServiceConfig) bool { return c.OomScoreAdj != 0 }, "set limits on its neighbours: deploy.resources.limits.memory"},
	{"pid", func(c *types.ServiceConfig) bool { return c.Pid != "" }, "mount what it reads, `/proc:/host/proc:ro`, or run it beside the Swarm"},
	{"post_start", func(c *types.ServiceConfig) bool { return len(c.PostStart) > 0 }, "do it in the entrypoint, or in a service with x-job"},
	{"pre_start", func(c *types.ServiceConfig) bool { return len(c.PreStart) > 0 }, "make it a service with `x-job: {before: [...]}`"},
	{"pre_stop", func(c *types.ServiceConfig) bool { return len(c.PreStop) > 0 }, "do it in the program on stop_signal, within stop_grace_period"},
	{"provider", func(c *types.ServiceConfig) bool { return c.Provider != nil }, "run what the provider runs as a service with an image"},
	{"runtime", func(c *types.ServiceConfig) bool { return c.Runtime != "" }, "set \"default-runtime\" in daemon.json of the nodes that have it, and x-pin to them"},
	{"security_opt", func(c *types.ServiceConfig) bool { return len(c.SecurityOpt) > 0 }, "set it for the whole node in daemon.json, `\"no-new-privileges\": true`, and leave it out here"},
	{"storage_opt", func(c *types.ServiceConfig) bool { return len(c.StorageOpt) > 0 }, "set \"storage-opts\" in the nodes' daemon.json"},
	{"umask", func(c *types.ServiceConfig) bool { return c.Umask != nil }, "set it in the entrypoint, or in the variable that the image has for it (UMASK)"},
	{"userns_mode", func(c *types.ServiceConfig) bool { return c.UserNSMode != "" }, "set \"userns-remap\" in the nodes' daemon.json"},
	{"uts", func(c *types.ServiceConfig) bool { return c.Uts != "" }, "set `hostname: \"{{.Node.Hostname}}\"` to see the node's name"},
	{"volumes_from", func(c *types.ServiceConfig) bool { return len(c.VolumesFrom) > 0 }, "name the volumes in both services, and x-pin both to one node"},
}

const (
	cpuRemedy    = "limit CPU time instead: deploy.resources.limits.cpus"
	gpuRemedy    = "declare it in the node's daemon.json (\"node-generic-resources\") and reserve it: deploy.resources.reservations.generic_resources"
	deviceRemedy = "Swarm cannot hand over devices: for a GPU reserve generic_resources, for other hardware run the container beside the Swarm on its node"
)

func swarmUnsupported(_ *stack.Cluster, _ *stack.Stack, v *stack.Service) problem.List {
	f := finder{service: v, rule: ruleSwarmUnsupported}
	for _, u := range unsupported {
		if u.used(&v.Compose) {
			f.add(f.at(u.key), u.remedy, "Swarm drops %s", u.key)
		}
	}
	if v.Compose.Build != nil && v.Compose.Image == "" {
		f.add(f.at("build"), "build and push the image in CI, and name it in `image`", "nodes pull images, they do not build them, and %s names none", v.Ref.Service)
	}
	f.networkMode()
	f.unsupportedVolumes()
	f.unsupportedNetworks()
	f.unsupportedPorts()
	for i, link := range v.Compose.Links {
		if service, alias, ok := strings.Cut(link, ":"); ok && alias != service {
			f.add(f.at("links", itoa(i)), "give "+service+" the alias itself: `networks: {default: {aliases: ["+alias+"]}}`", "Swarm drops links, and with it the name %s for %s", alias, service)
		}
	}
	for _, host := range sortedKeys(v.Compose.ExtraHosts) {
		if slices.Contains(v.Compose.ExtraHosts[host], "host-gateway") {
			f.add(f.at("extra_hosts"), "name the node's own address, or reach the other program as a service", "Swarm knows no host-gateway, and refuses the service for %s", host)
		}
	}
	if d := v.Compose.Deploy; d != nil && d.Resources.Reservations != nil && len(d.Resources.Reservations.Devices) > 0 {
		f.add(f.at("deploy", "resources", "reservations", "devices"), gpuRemedy, "Swarm drops reservations.devices")
	}
	return f.found
}

// finder collects the problems of one rule with one service.
type finder struct {
	service *stack.Service
	rule    problem.Rule
	found   problem.List
}

func (f *finder) at(path ...string) problem.Position { return f.service.At(path...) }

func (f *finder) add(pos problem.Position, remedy, format string, args ...any) {
	f.found = append(f.found, f.rule.At(pos, format, args...).WithRemedy("%s", remedy).About(f.service.Ref))
}

func (f *finder) networkMode() {
	mode := f.service.Compose.NetworkMode
	kind, other, _ := strings.Cut(mode, ":")
	switch kind {
	case "", "host": // host-network
	case "service", "container":
		f.add(f.at("network_mode"), "build both programs into one image, or route through "+other+" as a proxy", "Swarm drops network_mode: each service has a network stack of its own, not that of %s", other)
	case "none":
		f.add(f.at("network_mode"), "name a network of the stack that nobody else is on: they are internal", "Swarm drops network_mode none")
	default:
		f.add(f.at("network_mode"), "leave it out: the stack has a network", "Swarm drops network_mode %s", mode)
	}
}

func (f *finder) unsupportedVolumes() {
	for i, m := range f.service.Compose.Volumes {
		at := f.at("volumes", itoa(i))
		if m.Volume != nil && m.Volume.Subpath != "" {
			f.add(at, "make it a volume of its own, or a bind mount of the folder", "Swarm mounts whole volumes: subpath of %s is dropped", m.Target)
		}
		if m.Volume != nil && len(m.Volume.Labels) > 0 {
			f.add(at, "put labels into the volume's own entry under `volumes`", "volume labels of %s are dropped", m.Target)
		}
		if m.Image != nil && m.Image.SubPath != "" {
			f.add(at, "mount the whole image", "subpath of %s is dropped", m.Target)
		}
		if m.Bind == nil {
			continue
		}
		if m.Bind.SELinux != "" {
			f.add(at, "label the folder on the node once: chcon -Rt container_file_t", "Swarm does not relabel %s for SELinux", m.Source)
		}
		if m.Bind.Recursive != "" && m.Bind.Recursive != "enabled" {
			f.add(at, "mount the inner folders by themselves", "bind option recursive of %s is dropped", m.Target)
		}
		if bool(m.Bind.CreateHostPath) && f.at("volumes", itoa(i), "bind", "create_host_path") != f.at("volumes", itoa(i), "bind") {
			f.add(at, "create it on each node that the service may run on, with mkdir or Ansible, and leave create_host_path out", "Swarm does not create %s: tasks are rejected where it is missing", m.Source)
		}
	}
}

func (f *finder) unsupportedNetworks() {
	for _, key := range sortedKeys(f.service.Compose.Networks) {
		n := f.service.Compose.Networks[key]
		if n == nil {
			continue
		}
		for _, fixed := range []struct{ option, value string }{
			{"interface_name", n.InterfaceName}, {"ipv4_address", n.Ipv4Address}, {"ipv6_address", n.Ipv6Address},
			{"link_local_ips", strings.Join(n.LinkLocalIPs, "")}, {"mac_address", n.MacAddress},
		} {
			if fixed.value != "" {
				f.add(f.at("networks", key, fixed.option), "call the service by its name: overlays give out addresses themselves", "Swarm drops %s", fixed.option)
			}
		}
	}
}

func (f *finder) unsupportedPorts() {
	for i, p := range f.service.Compose.Ports {
		if p.HostIP != "" && p.HostIP != "0.0.0.0" && p.HostIP != "::" {
			f.add(f.at("ports", itoa(i)), "close the port in the node's firewall, or leave it out and use x-ingress with `allow`", "Swarm publishes %s on every address of the node, not on %s alone", p.Published, p.HostIP)
		}
		if strings.Contains(p.Published, "-") {
			f.add(f.at("ports", itoa(i)), "name one port, or the same range for the target", "Swarm cannot choose a port from %s", p.Published)
		}
	}
}
