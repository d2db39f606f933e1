package swarmjob

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"

	"skep/services/controlplane"
	"skep/services/worker"
	"skep/services/worker/output"
	"skep/services/worker/postscript"
)

// plan is all that is created for a job.
type plan struct {
	job     worker.Job
	name    string
	network *client.NetworkCreateOptions // nil: it is on networks that are there
	configs []swarm.ConfigSpec
	secrets []swarm.SecretSpec
	service swarm.ServiceSpec
	mask    *output.Mask
	key     postscript.Key // of what it hands back
}

// launch marks all that this launch made.
func (p plan) launch() string { return p.service.Labels[labelLaunch] }

func (p plan) container() *swarm.ContainerSpec { return p.service.TaskTemplate.ContainerSpec }

const (
	nobody = "65534"
	// treeFolder is where the parts of the tree are in the container.
	treeFolder = "/skep-job.d"
	// defaultGrace is what a command has to end; its container has stopSlack more.
	defaultGrace = 8 * time.Second
	stopSlack    = 2 * time.Second

	defaultCPU    = 1
	defaultMemory = 1 << 30
	defaultPIDs   = 512
	// tmpBytes bounds what a job writes to one of its folders. They are memory,
	// and count as the job's.
	tmpBytes = 1 << 30
)

// plain is a step that can be part of a name.
var plain = regexp.MustCompile(`[^a-z0-9]+`)

// name fits a DNS label with room for what its secrets add.
func name(j worker.Job) string {
	step := strings.Trim(plain.ReplaceAllString(strings.ToLower(j.Step), "-"), "-")
	return fmt.Sprintf("skep-job-%s-%.8s-%d", j.Run, step, max(j.Attempt, 1))
}

func newPlan(l Launcher, j worker.Job, launch string) (plan, error) {
	if len(j.Command) == 0 && j.Image == "" {
		return plan{}, fmt.Errorf("%w: the job has neither command nor image", worker.ErrRefused)
	}
	key, err := postscript.NewKey()
	if err != nil {
		return plan{}, err
	}
	p := plan{job: j, name: name(j), key: key}
	marks := labels(j, launch)
	values, err := hidden(j)
	if err != nil {
		return plan{}, err
	}
	p.mask = output.NewMask(values...)
	spec := containerSpec(l, j, p.key.Token())
	spec.Labels = marks
	if j.Image == "" {
		parts, err := chunks(j.Tree)
		if err != nil {
			return plan{}, err
		}
		for i, part := range parts {
			a := swarm.Annotations{Name: fmt.Sprintf("%s-t%02d", p.name, i), Labels: marks}
			p.configs = append(p.configs, swarm.ConfigSpec{Annotations: a, Data: part})
			spec.Configs = append(spec.Configs, &swarm.ConfigReference{ConfigName: a.Name, File: &swarm.ConfigReferenceFileTarget{
				Name: path.Join(treeFolder, fmt.Sprintf("%03d", i)), UID: nobody, GID: nobody, Mode: 0o400,
			}})
		}
	}
	for i, file := range slices.Sorted(maps.Keys(j.Files)) {
		content := j.Files[file]
		switch {
		case len(content) == 0:
			continue // a config is not empty
		case len(content) > chunkBytes:
			return plan{}, fmt.Errorf("%w: %s has %d bytes, and a file of a Swarm has %d", worker.ErrRefused, file, len(content), chunkBytes)
		}
		a := swarm.Annotations{Name: p.name + "-f" + strconv.Itoa(i), Labels: marks}
		p.configs = append(p.configs, swarm.ConfigSpec{Annotations: a, Data: bytes.Clone(content)})
		spec.Configs = append(spec.Configs, &swarm.ConfigReference{ConfigName: a.Name, File: &swarm.ConfigReferenceFileTarget{
			Name: path.Join(worker.EventFolder, file), UID: nobody, GID: nobody, Mode: 0o400,
		}})
	}
	for i, file := range slices.Sorted(maps.Keys(j.Secrets)) {
		if file != path.Base(file) || file == "." || file == ".." || file == "/" {
			return plan{}, fmt.Errorf("%w: %q is no name of a secret", worker.ErrRefused, file)
		}
		a := swarm.Annotations{Name: p.name + "-s" + strconv.Itoa(i), Labels: marks}
		p.secrets = append(p.secrets, swarm.SecretSpec{Annotations: a, Data: bytes.Clone(values[i])})
		spec.Secrets = append(spec.Secrets, &swarm.SecretReference{SecretName: a.Name, File: &swarm.SecretReferenceFileTarget{
			Name: file, UID: nobody, GID: nobody, Mode: 0o400,
		}})
	}
	networks := l.networks(j)
	if len(networks) == 0 {
		p.network = &client.NetworkCreateOptions{Driver: "overlay", Scope: "swarm", Internal: true, Labels: marks}
		networks = []string{p.name}
	}
	p.service = serviceSpec(p.name, marks, spec, j.Limits, l.Constraints, networks)
	return p, nil
}

func (l Launcher) networks(j worker.Job) []string {
	switch {
	case j.Swarm:
		return l.Networks
	case j.Image != "" && l.NPM.Network != "" && !slices.Contains(l.TaskNetworks, l.NPM.Network):
		return append(slices.Clone(l.TaskNetworks), l.NPM.Network)
	case j.Image != "":
		return l.TaskNetworks
	}
	return nil
}

// containerSpec is the job's container: whose it is, what it runs, and what it
// may not.
func containerSpec(l Launcher, j worker.Job, token postscript.Token) *swarm.ContainerSpec {
	yes, grace := true, graceOf(j)+stopSlack
	spec := &swarm.ContainerSpec{
		Image: j.Image, Args: j.Command, User: nobody + ":" + nobody, Init: &yes, ReadOnly: true, StopGracePeriod: &grace,
		CapabilityDrop: []string{"ALL"}, Privileges: &swarm.Privileges{NoNewPrivileges: true},
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
	}
	for _, folder := range []string{"/tmp", "/work"} {
		spec.Mounts = append(spec.Mounts, mount.Mount{
			Type: mount.TypeTmpfs, Target: folder, TmpfsOptions: &mount.TmpfsOptions{SizeBytes: tmpBytes, Mode: 0o1777},
		})
	}
	// No working directory: the engine would make it in the image, root's, and a
	// folder that is there keeps its mode when it becomes a tmpfs.
	env := map[string]string{"HOME": "/tmp", "TMPDIR": "/tmp"}
	if j.Image != "" && l.NPM.Registry != "" {
		env["npm_config_registry"] = l.NPM.Registry
	}
	if j.Image == "" {
		env["PATH"] = "/"
		spec.Image, spec.Command, spec.Args = l.Image, []string{"/skep-job"}, append(launched(j), j.Command...)
	}
	maps.Copy(env, j.Env)
	// For skep-job, which images of tasks may have as well.
	env[postscript.TokenVariable], env[postscript.DeadlineVariable] = string(token), j.Deadline.String()
	for variable, wanted := range map[string]bool{postscript.ArtefactsVariable: j.Artefacts, postscript.AnswerVariable: j.Answer} {
		delete(env, variable)
		if wanted {
			env[variable] = "1"
		}
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		spec.Env = append(spec.Env, name+"="+env[name])
	}
	return spec
}

// launched are what skep-job is told.
func launched(j worker.Job) []string {
	args := []string{"-tree", treeFolder}
	if j.Grace > 0 {
		args = append(args, "-grace", j.Grace.String())
	}
	return append(args, "--")
}

func graceOf(j worker.Job) time.Duration { return cmp.Or(j.Grace, defaultGrace) }

// serviceSpec runs a container once, whatever comes of it. It is no
// replicated-job: the containers of one run on when it is removed
// (moby/moby#44312), and it may run again under a new leader (moby/moby#53632).
func serviceSpec(name string, marks map[string]string, c *swarm.ContainerSpec, l controlplane.Limits, constraints, networks []string) swarm.ServiceSpec {
	once := uint64(1)
	spec := swarm.ServiceSpec{
		Annotations: swarm.Annotations{Name: name, Labels: marks},
		Mode:        swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &once}},
		TaskTemplate: swarm.TaskSpec{
			ContainerSpec: c, Resources: &swarm.ResourceRequirements{Limits: limits(l)},
			RestartPolicy: &swarm.RestartPolicy{Condition: swarm.RestartPolicyConditionNone},
			Placement:     &swarm.Placement{Constraints: constraints},
			// A driver that logs can be read from, and that does not fill the disk. A
			// file holds a postscript of any size.
			LogDriver: &swarm.Driver{Name: "json-file", Options: map[string]string{"max-size": "128m", "max-file": "2"}},
		},
		EndpointSpec: &swarm.EndpointSpec{Mode: swarm.ResolutionModeDNSRR},
	}
	for _, n := range networks {
		spec.TaskTemplate.Networks = append(spec.TaskTemplate.Networks, swarm.NetworkAttachmentConfig{Target: n})
	}
	return spec
}

func limits(l controlplane.Limits) *swarm.Limit {
	limit := &swarm.Limit{NanoCPUs: defaultCPU * 1e9, MemoryBytes: defaultMemory, Pids: defaultPIDs}
	if l.CPU > 0 {
		limit.NanoCPUs = int64(l.CPU * 1e9)
	}
	if l.Memory > 0 {
		limit.MemoryBytes = l.Memory
	}
	if l.PIDs > 0 {
		limit.Pids = l.PIDs
	}
	return limit
}
