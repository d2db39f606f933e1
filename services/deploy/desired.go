package deploy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/docker/cli/cli/compose/loader"
	composetypes "github.com/docker/cli/cli/compose/types"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"

	"skep/generator/stack"
)

// desired is a release in the words of the Docker API. Networks, configs and secrets are named in it;
// their identifiers are filled in when it is applied.
type desired struct {
	release  Release
	networks []network.CreateRequest // by name
	external []string                // networks of other stacks or of nobody, by name
	configs  []swarm.ConfigSpec      // by name
	secrets  []string                // that the services mount, by name
	driven   []swarm.SecretSpec      // whose values a driver gives, by name
	services []desiredService        // by name
}

type desiredService struct {
	name stack.ServiceName
	spec swarm.ServiceSpec
}

func isJob(mode swarm.ServiceMode) bool { return mode.ReplicatedJob != nil || mode.GlobalJob != nil }

// desired converts all releases, in their order.
func (p Project) desired() ([]*desired, error) {
	out := make([]*desired, len(p.Releases))
	errs := make([]error, len(p.Releases))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), max(1, len(p.Releases))) {
		workers.Go(func() {
			for i := range next {
				out[i], errs[i] = p.Releases[i].desired()
			}
		})
	}
	for i := range p.Releases {
		next <- i
	}
	close(next)
	workers.Wait()
	return out, errors.Join(errs...)
}

// desired converts the release.
func (r Release) desired() (*desired, error) {
	config, err := r.load()
	if err != nil {
		return nil, fmt.Errorf("stack %s: %w", r.Stack, err)
	}
	d := &desired{release: r}
	c := converter{stack: string(r.Stack), config: config}
	if err := d.declareNetworks(c); err != nil {
		return nil, fmt.Errorf("stack %s: %w", r.Stack, err)
	}
	if err := d.declareConfigs(c); err != nil {
		return nil, fmt.Errorf("stack %s: %w", r.Stack, err)
	}
	d.declareSecrets(c)
	for _, s := range config.Services {
		if err := d.service(c, s); err != nil {
			return nil, fmt.Errorf("stack %s: service %s: %w", r.Stack, s.Name, err)
		}
	}
	slices.SortFunc(d.services, func(a, b desiredService) int { return cmp.Compare(a.name, b.name) })
	slices.Sort(d.secrets)
	d.secrets = slices.Compact(d.secrets)
	return d, nil
}

// load runs Docker's loader, unless it ran when the bundle was validated. The
// values stand for themselves.
func (r Release) load() (*composetypes.Config, error) {
	if r.loaded != nil {
		return r.loaded, nil
	}
	return loader.Load(composetypes.ConfigDetails{
		WorkingDir:  "/",
		ConfigFiles: []composetypes.ConfigFile{{Filename: string(r.Stack) + ".yaml", Config: whole(r.Compose).(map[string]any)}},
	}, func(o *loader.Options) { o.SkipValidation, o.SkipInterpolation = true, true })
}

// declareNetworks makes the networks that a service uses, as Docker does.
func (d *desired) declareNetworks(c converter) error {
	used := map[string]bool{}
	for _, s := range c.config.Services {
		if len(s.Networks) == 0 {
			used["default"] = true
		}
		for key := range s.Networks {
			used[key] = true
		}
	}
	for key := range used {
		if c.config.Networks[key].External.External {
			d.external = append(d.external, c.networkName(key))
			continue
		}
		request, err := c.network(key)
		if err != nil {
			return err
		}
		d.networks = append(d.networks, request)
	}
	slices.Sort(d.external)
	slices.SortFunc(d.networks, func(a, b network.CreateRequest) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

// declareConfigs makes the configs from the release's own files.
func (d *desired) declareConfigs(c converter) error {
	for _, key := range slices.Sorted(maps.Keys(c.config.Configs)) {
		def := c.config.Configs[key]
		if def.External.External {
			continue
		}
		// The loader made the path absolute.
		content, ok := d.release.Files[strings.TrimPrefix(path.Clean(def.File), "/")]
		if !ok {
			return fmt.Errorf("config %s: there is no %s", key, def.File)
		}
		spec := swarm.ConfigSpec{
			Annotations: swarm.Annotations{
				Name: cmp.Or(def.Name, c.scoped(key)), Labels: c.labels(def.Labels),
			},
			Data: content,
		}
		if def.TemplateDriver != "" {
			spec.Templating = &swarm.Driver{Name: def.TemplateDriver}
		}
		d.configs = append(d.configs, spec)
	}
	slices.SortFunc(d.configs, func(a, b swarm.ConfigSpec) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

// declareSecrets makes the secrets that a driver gives the values of. All others
// are there already: a file has no value.
func (d *desired) declareSecrets(c converter) {
	for _, key := range slices.Sorted(maps.Keys(c.config.Secrets)) {
		def := c.config.Secrets[key]
		if def.External.External || def.Driver == "" {
			continue
		}
		spec := swarm.SecretSpec{
			Annotations: swarm.Annotations{Name: cmp.Or(def.Name, c.scoped(key)), Labels: c.labels(def.Labels)},
			Driver:      &swarm.Driver{Name: def.Driver, Options: def.DriverOpts},
		}
		if def.TemplateDriver != "" {
			spec.Templating = &swarm.Driver{Name: def.TemplateDriver}
		}
		d.driven = append(d.driven, spec)
	}
	slices.SortFunc(d.driven, func(a, b swarm.SecretSpec) int { return cmp.Compare(a.Name, b.Name) })
}

func (d *desired) service(c converter, s composetypes.ServiceConfig) error {
	var secrets []*swarm.SecretReference
	for _, use := range s.Secrets {
		declared, ok := c.config.Secrets[use.Source]
		if !ok {
			return fmt.Errorf("undefined secret %q", use.Source)
		}
		name := cmp.Or(declared.Name, c.scoped(use.Source))
		target := swarm.SecretReferenceFileTarget(mountedFile(composetypes.FileReferenceConfig(use)))
		secrets = append(secrets, &swarm.SecretReference{SecretName: name, File: &target})
		d.secrets = append(d.secrets, name)
	}
	slices.SortStableFunc(secrets, func(a, b *swarm.SecretReference) int { return cmp.Compare(a.SecretName, b.SecretName) })
	var configs []*swarm.ConfigReference
	for _, use := range s.Configs {
		declared, ok := c.config.Configs[use.Source]
		if !ok {
			return fmt.Errorf("undefined config %q", use.Source)
		}
		target := mountedFile(composetypes.FileReferenceConfig(use))
		configs = append(configs, &swarm.ConfigReference{ConfigName: cmp.Or(declared.Name, c.scoped(use.Source)), File: &target})
	}
	slices.SortStableFunc(configs, func(a, b *swarm.ConfigReference) int { return cmp.Compare(a.ConfigName, b.ConfigName) })
	spec, err := c.service(s)
	if err != nil {
		return err
	}
	spec.TaskTemplate.ContainerSpec.Secrets, spec.TaskTemplate.ContainerSpec.Configs = secrets, configs
	d.services = append(d.services, desiredService{stack.ServiceName(s.Name), spec})
	return nil
}

// mountedFile fills in what Compose's reference says of a file when nothing is
// said. https://docs.docker.com/reference/compose-file/services/#long-syntax
func mountedFile(use composetypes.FileReferenceConfig) swarm.ConfigReferenceFileTarget {
	mode := os.FileMode(0o444)
	if use.Mode != nil {
		mode = os.FileMode(*use.Mode)
	}
	return swarm.ConfigReferenceFileTarget{
		Name: cmp.Or(use.Target, use.Source), UID: cmp.Or(use.UID, "0"), GID: cmp.Or(use.GID, "0"), Mode: mode,
	}
}
