package deploy

import (
	"cmp"
	"fmt"
	"maps"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"time"

	composetypes "github.com/docker/cli/cli/compose/types"
	"github.com/docker/cli/opts"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"
)

// labelNamespace and labelImage are the marks of `docker stack deploy`.
const (
	labelNamespace = "com.docker.stack.namespace"
	labelImage     = "com.docker.stack.image"
)

// converter says what Docker's loader read in the words of the Docker API, with
// the meaning that `docker stack deploy` gives it.
type converter struct {
	stack  string
	config *composetypes.Config
}

// scoped is the name of an object of the stack.
func (c converter) scoped(name string) string { return c.stack + "_" + name }

func (c converter) labels(own map[string]string) map[string]string {
	out := map[string]string{labelNamespace: c.stack}
	for k, v := range own {
		if k != labelNamespace {
			out[k] = v
		}
	}
	return out
}

// networkName is what a key of `networks` stands for in the Swarm.
func (c converter) networkName(key string) string {
	return cmp.Or(c.config.Networks[key].Name, c.scoped(key))
}

func (c converter) network(key string) (network.CreateRequest, error) {
	def := c.config.Networks[key]
	r := network.CreateRequest{
		Name: c.networkName(key), Driver: cmp.Or(def.Driver, overlayDriver), Options: def.DriverOpts,
		Internal: def.Internal, Attachable: def.Attachable, Labels: c.labels(def.Labels),
	}
	if def.Ipam.Driver == "" && len(def.Ipam.Config) == 0 {
		return r, nil
	}
	r.IPAM = &network.IPAM{Driver: def.Ipam.Driver}
	for _, pool := range def.Ipam.Config {
		subnet, err := netip.ParsePrefix(pool.Subnet)
		if err != nil {
			return r, fmt.Errorf("network %s: %w", key, err)
		}
		r.IPAM.Config = append(r.IPAM.Config, network.IPAMConfig{Subnet: subnet})
	}
	return r, nil
}

// service converts a service, its secrets and configs aside.
func (c converter) service(s composetypes.ServiceConfig) (swarm.ServiceSpec, error) {
	mode, err := serviceMode(s.Deploy)
	if err != nil {
		return swarm.ServiceSpec{}, err
	}
	attachments, err := c.attachments(s)
	if err != nil {
		return swarm.ServiceSpec{}, err
	}
	mounts, err := c.mounts(s.Volumes)
	if err != nil {
		return swarm.ServiceSpec{}, err
	}
	resources, err := requirements(s.Deploy.Resources)
	if err != nil {
		return swarm.ServiceSpec{}, err
	}
	health, err := healthcheck(s.HealthCheck)
	if err != nil {
		return swarm.ServiceSpec{}, err
	}
	dns, err := resolver(s)
	if err != nil {
		return swarm.ServiceSpec{}, err
	}
	if s.CredentialSpec != (composetypes.CredentialSpecConfig{}) {
		return swarm.ServiceSpec{}, fmt.Errorf("credential_spec, of Windows, is not supported")
	}
	if s.Deploy.RestartPolicy == nil && s.Restart != "" {
		return swarm.ServiceSpec{}, fmt.Errorf("restart is Compose's; Swarm's is deploy.restart_policy")
	}
	spec := swarm.ServiceSpec{
		Annotations: swarm.Annotations{Name: c.scoped(s.Name), Labels: c.labels(s.Deploy.Labels)},
		Mode:        mode,
		TaskTemplate: swarm.TaskSpec{
			ContainerSpec: &swarm.ContainerSpec{
				Image: s.Image, Command: s.Entrypoint, Args: s.Command, Env: environment(s.Environment), Labels: c.labels(s.Labels),
				Hostname: s.Hostname, Hosts: hosts(s.ExtraHosts), DNSConfig: dns, Healthcheck: health,
				Dir: s.WorkingDir, User: s.User, Mounts: mounts, Init: s.Init, TTY: s.Tty, OpenStdin: s.StdinOpen, ReadOnly: s.ReadOnly,
				StopSignal: s.StopSignal, StopGracePeriod: span(s.StopGracePeriod), Isolation: container.Isolation(s.Isolation),
				Sysctls: s.Sysctls, Ulimits: ulimits(s.Ulimits), OomScoreAdj: s.OomScoreAdj, Privileges: &swarm.Privileges{},
			},
			Resources: resources, RestartPolicy: restartPolicy(s.Deploy.RestartPolicy), Networks: attachments,
			Placement: placement(s.Deploy.Placement),
		},
		EndpointSpec:   endpoint(s),
		UpdateConfig:   rollout(s.Deploy.UpdateConfig),
		RollbackConfig: rollout(s.Deploy.RollbackConfig),
	}
	spec.TaskTemplate.ContainerSpec.CapabilityAdd, spec.TaskTemplate.ContainerSpec.CapabilityDrop = opts.EffectiveCapAddCapDrop(s.CapAdd, s.CapDrop)
	if s.Logging != nil {
		spec.TaskTemplate.LogDriver = &swarm.Driver{Name: s.Logging.Driver, Options: s.Logging.Options}
	}
	spec.Labels[labelImage] = s.Image
	return spec, nil
}

func serviceMode(d composetypes.DeployConfig) (swarm.ServiceMode, error) {
	global := strings.HasPrefix(d.Mode, "global")
	switch {
	case global && d.Replicas != nil:
		return swarm.ServiceMode{}, fmt.Errorf("mode %s takes no replicas", d.Mode)
	case d.Mode == "global":
		return swarm.ServiceMode{Global: &swarm.GlobalService{}}, nil
	case d.Mode == "global-job":
		return swarm.ServiceMode{GlobalJob: &swarm.GlobalJob{}}, nil
	case d.Mode == "replicated-job":
		return swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{MaxConcurrent: d.Replicas, TotalCompletions: d.Replicas}}, nil
	case d.Mode == "", d.Mode == "replicated":
		return swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: d.Replicas}}, nil
	}
	return swarm.ServiceMode{}, fmt.Errorf("there is no mode %q", d.Mode)
}

// attachments puts the service on its networks, where it answers to its own
// name as well. On none it is on the stack's default.
func (c converter) attachments(s composetypes.ServiceConfig) ([]swarm.NetworkAttachmentConfig, error) {
	uses := s.Networks
	if len(uses) == 0 {
		uses = map[string]*composetypes.ServiceNetworkConfig{"default": nil}
	}
	var out []swarm.NetworkAttachmentConfig
	for key, use := range uses {
		if _, ok := c.config.Networks[key]; !ok && key != "default" {
			return nil, fmt.Errorf("undefined network %q", key)
		}
		a := swarm.NetworkAttachmentConfig{Target: c.networkName(key)}
		if use != nil {
			a.Aliases, a.DriverOpts = slices.Clone(use.Aliases), use.DriverOpts
		}
		if container.NetworkMode(a.Target).IsUserDefined() {
			a.Aliases = append(a.Aliases, s.Name)
		}
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b swarm.NetworkAttachmentConfig) int { return cmp.Compare(a.Target, b.Target) })
	return out, nil
}

func endpoint(s composetypes.ServiceConfig) *swarm.EndpointSpec {
	e := &swarm.EndpointSpec{Mode: swarm.ResolutionMode(strings.ToLower(s.Deploy.EndpointMode))}
	for _, p := range s.Ports {
		e.Ports = append(e.Ports, swarm.PortConfig{
			TargetPort: p.Target, PublishedPort: p.Published, Protocol: network.IPProtocol(p.Protocol), PublishMode: swarm.PortConfigPublishMode(p.Mode),
		})
	}
	slices.SortFunc(e.Ports, swarm.PortConfig.Compare)
	return e
}

func requirements(r composetypes.Resources) (*swarm.ResourceRequirements, error) {
	out := &swarm.ResourceRequirements{}
	if l := r.Limits; l != nil {
		cpus, err := nanoCPUs(l.NanoCPUs)
		if err != nil {
			return nil, err
		}
		out.Limits = &swarm.Limit{NanoCPUs: cpus, MemoryBytes: int64(l.MemoryBytes), Pids: l.Pids}
	}
	if l := r.Reservations; l != nil {
		cpus, err := nanoCPUs(l.NanoCPUs)
		if err != nil {
			return nil, err
		}
		out.Reservations = &swarm.Resources{NanoCPUs: cpus, MemoryBytes: int64(l.MemoryBytes)}
		for _, g := range l.GenericResources {
			if d := g.DiscreteResourceSpec; d != nil {
				out.Reservations.GenericResources = append(out.Reservations.GenericResources,
					swarm.GenericResource{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: d.Kind, Value: d.Value}})
			}
		}
	}
	return out, nil
}

// nanoCPUs reads a number of processors; "0.1" is exact in no binary float.
func nanoCPUs(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return 0, fmt.Errorf("cannot read %q as a number of CPUs", s)
	}
	r.Mul(r, big.NewRat(1e9, 1))
	if !r.IsInt() || !r.Num().IsInt64() {
		return 0, fmt.Errorf("%s CPUs cannot be said in billionths", s)
	}
	return r.Num().Int64(), nil
}

func restartPolicy(p *composetypes.RestartPolicy) *swarm.RestartPolicy {
	if p == nil {
		return nil
	}
	return &swarm.RestartPolicy{
		Condition: swarm.RestartPolicyCondition(p.Condition), Delay: span(p.Delay), MaxAttempts: p.MaxAttempts, Window: span(p.Window),
	}
}

func rollout(u *composetypes.UpdateConfig) *swarm.UpdateConfig {
	if u == nil {
		return nil
	}
	out := &swarm.UpdateConfig{
		Parallelism: 1, Delay: time.Duration(u.Delay), Monitor: time.Duration(u.Monitor), MaxFailureRatio: u.MaxFailureRatio,
		FailureAction: swarm.FailureAction(u.FailureAction), Order: swarm.UpdateOrder(u.Order),
	}
	if u.Parallelism != nil {
		out.Parallelism = *u.Parallelism
	}
	return out
}

func placement(p composetypes.Placement) *swarm.Placement {
	out := &swarm.Placement{Constraints: p.Constraints, MaxReplicas: p.MaxReplicas}
	for _, preference := range p.Preferences {
		out.Preferences = append(out.Preferences, swarm.PlacementPreference{Spread: &swarm.SpreadOver{SpreadDescriptor: preference.Spread}})
	}
	return out
}

func healthcheck(h *composetypes.HealthCheckConfig) (*container.HealthConfig, error) {
	if h == nil {
		return nil, nil
	}
	if h.Disable {
		if len(h.Test) > 0 {
			return nil, fmt.Errorf("healthcheck: both a test and disable")
		}
		return &container.HealthConfig{Test: []string{"NONE"}}, nil
	}
	or0 := func(d *composetypes.Duration) time.Duration {
		if d == nil {
			return 0
		}
		return time.Duration(*d)
	}
	out := &container.HealthConfig{
		Test: h.Test, Interval: or0(h.Interval), Timeout: or0(h.Timeout), StartPeriod: or0(h.StartPeriod), StartInterval: or0(h.StartInterval),
	}
	if h.Retries != nil {
		out.Retries = int(*h.Retries)
	}
	return out, nil
}

func resolver(s composetypes.ServiceConfig) (*swarm.DNSConfig, error) {
	if len(s.DNS)+len(s.DNSSearch) == 0 {
		return nil, nil
	}
	out := &swarm.DNSConfig{Search: s.DNSSearch}
	for _, server := range s.DNS {
		address, err := netip.ParseAddr(server)
		if err != nil {
			return nil, fmt.Errorf("dns: %w", err)
		}
		out.Nameservers = append(out.Nameservers, address)
	}
	return out, nil
}

func environment(vars composetypes.MappingWithEquals) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		if value := vars[name]; value != nil {
			name += "=" + *value
		}
		out = append(out, name)
	}
	return out
}

// hosts turns "name:address" into the "address name" of a hosts file.
func hosts(list composetypes.HostsList) []string {
	var out []string
	for _, entry := range list {
		if name, address, ok := strings.Cut(entry, ":"); ok {
			out = append(out, address+" "+name)
		}
	}
	return out
}

func ulimits(limits map[string]*composetypes.UlimitsConfig) []*container.Ulimit {
	var out []*container.Ulimit
	for _, name := range slices.Sorted(maps.Keys(limits)) {
		l := limits[name]
		out = append(out, &container.Ulimit{Name: name, Soft: int64(cmp.Or(l.Single, l.Soft)), Hard: int64(cmp.Or(l.Single, l.Hard))})
	}
	return out
}

func span(d *composetypes.Duration) *time.Duration { return composetypes.ConvertDurationPtr(d) }
