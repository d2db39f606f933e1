package deploy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/swarm"
)

// redacted stands for a value that is not shown: in plans, and in what a docker
// proxy answers (services/dockerproxy).
const redacted = "[redacted]"

// ErrRedacted says that a docker proxy hides values of the live state.
var ErrRedacted = errors.New("the docker proxy hides values")

// Whole is ErrRedacted for a state in which a proxy replaced values. Compared,
// they would be changes by hand; written back, they would overwrite passwords.
func (l Live) Whole() error {
	hidden := func(kind Kind, name, what string) error {
		return WithHint(fmt.Errorf("%w: %s of %s %s", ErrRedacted, what, kind, name),
			"set ENV_VALUES=1 LABEL_VALUES=1 CONFIG_DATA=1 on the docker proxy")
	}
	for _, s := range l.Services {
		if what, ok := hiddenInService(s.Spec); ok {
			return hidden(KindService, s.Spec.Name, what)
		}
	}
	for _, c := range l.Configs {
		switch {
		case string(c.Spec.Data) == redacted:
			return hidden(KindConfig, c.Spec.Name, "the data")
		case hidesValue(c.Spec.Labels):
			return hidden(KindConfig, c.Spec.Name, "a label")
		}
	}
	for _, s := range l.Secrets { // their labels are what they are known by
		if hidesValue(s.Spec.Labels) {
			return hidden(KindSecret, s.Spec.Name, "a label")
		}
	}
	for _, n := range l.Networks {
		if hidesValue(n.Labels, n.Options) {
			return hidden(KindNetwork, n.Name, "a label or option")
		}
	}
	return nil
}

func hiddenInService(s swarm.ServiceSpec) (what string, ok bool) {
	t := s.TaskTemplate
	settings := []map[string]string{s.Labels}
	if t.LogDriver != nil {
		settings = append(settings, t.LogDriver.Options)
	}
	for _, n := range t.Networks {
		settings = append(settings, n.DriverOpts)
	}
	if c := t.ContainerSpec; c != nil {
		for _, v := range c.Env {
			if name, value, _ := strings.Cut(v, "="); name == redacted || value == redacted {
				return "a variable", true
			}
		}
		settings = append(settings, c.Labels)
		for _, m := range c.Mounts {
			if m.VolumeOptions == nil {
				continue
			}
			settings = append(settings, m.VolumeOptions.Labels)
			if d := m.VolumeOptions.DriverConfig; d != nil {
				settings = append(settings, d.Options)
			}
		}
	}
	return "a label or option", hidesValue(settings...)
}

func hidesValue(settings ...map[string]string) bool {
	return slices.ContainsFunc(settings, func(m map[string]string) bool {
		return slices.Contains(slices.Collect(maps.Values(m)), redacted)
	})
}
