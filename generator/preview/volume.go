package preview

import (
	"maps"
	"path"

	"github.com/compose-spec/compose-go/v2/types"

	"skep/generator/check"
	"skep/generator/stack"
)

// volumes gives volumes that have a name of their own one of the preview's. The
// others are called after their stack anyway.
func (t *transformation) volumes(s *stack.Stack) map[string]types.VolumeConfig {
	out := maps.Clone(s.Volumes)
	for key, v := range out {
		switch {
		case bool(v.External):
			delete(out, key) // a service that mounts it is refused
		case v.Name != "" && v.Name != string(s.Name)+"_"+key:
			v.Name = t.options.Name.Prefix(v.Name)
			out[key] = v
		default:
			v.Name = ""
			out[key] = v
		}
	}
	return out
}

// objects refuses what is one thing for the original and for the preview.
func (t *transformation) objects(s *stack.Stack, v *stack.Service) {
	for i, m := range v.Compose.Volumes {
		if what, remedy := shared(s, m); what != "" {
			t.fail(ruleShared.At(v.At("volumes", itoa(i)), "%s", what).About(v.Ref), "%s", remedy)
		}
	}
	for i, c := range v.Compose.Configs {
		if object, ok := s.Configs[c.Source]; ok && object.External {
			t.fail(ruleShared.At(v.At("configs", itoa(i)), "config %s is external: nobody knows whose it is", object.Name).About(v.Ref),
				"write the file with x-files: the preview gets one of its own")
		}
	}
	for i, c := range v.Compose.Secrets {
		t.fail(ruleAllowed.At(v.At("secrets", itoa(i)), "secret %s is external, and a preview resolves references alone", c.Source).About(v.Ref),
			"write op://vault/item/field where it is used, and name its vault in previews.secrets")
	}
}

const (
	ownVolume = "use a volume that the stack declares, the preview gets one of its own; or mount it read_only"
	noSocket  = "leave the stack out of previews"
)

// shared says why a mount shows the preview what the original has; empty when
// it does not.
func shared(s *stack.Stack, m types.ServiceVolumeConfig) (what, remedy string) {
	switch m.Type {
	case types.VolumeTypeTmpfs, types.VolumeTypeImage:
		return "", ""
	case types.VolumeTypeVolume:
		return sharedVolume(s, m)
	case types.VolumeTypeBind:
		switch {
		case check.HoldsSocket(path.Clean(m.Source)):
			return "the mount of " + m.Source + " holds the Docker socket", noSocket
		case !m.ReadOnly:
			return "the preview would write to " + m.Source + " of the node, as the original does", ownVolume
		}
		return "", ""
	}
	return "a mount of type " + m.Type + " is not the preview's own", ownVolume
}

func sharedVolume(s *stack.Stack, m types.ServiceVolumeConfig) (what, remedy string) {
	v, declared := s.Volumes[m.Source]
	if !declared {
		return "", "" // anonymous
	}
	device := v.DriverOpts["device"]
	switch {
	case bool(v.External):
		return "volume " + m.Source + " is external: the preview would have the original's", "use a volume that the stack declares, the preview gets one of its own"
	case check.HoldsSocket(path.Clean(device)):
		return "volume " + m.Source + " holds the Docker socket", noSocket
	case device != "" && !m.ReadOnly:
		return "volume " + m.Source + " is " + device + ", where the original writes", ownVolume
	case v.Driver != "" && v.Driver != "local" && len(v.DriverOpts) > 0 && !m.ReadOnly:
		return "volume " + m.Source + " is what driver " + v.Driver + " is told in driver_opts, for the original too", ownVolume
	}
	return "", ""
}
