package deploy

import (
	"cmp"
	"fmt"

	composetypes "github.com/docker/cli/cli/compose/types"
	"github.com/moby/moby/api/types/mount"
)

func (c converter) mounts(list []composetypes.ServiceVolumeConfig) ([]mount.Mount, error) {
	var out []mount.Mount
	for _, v := range list {
		m, err := c.mount(v)
		if err != nil {
			return nil, fmt.Errorf("volume at %s: %w", v.Target, err)
		}
		out = append(out, m)
	}
	return out, nil
}

func (c converter) mount(v composetypes.ServiceVolumeConfig) (mount.Mount, error) {
	m := mount.Mount{
		Type: mount.Type(v.Type), Source: v.Source, Target: v.Target, ReadOnly: v.ReadOnly, Consistency: mount.Consistency(v.Consistency),
	}
	switch m.Type {
	case mount.TypeBind:
		if v.Source == "" {
			return m, fmt.Errorf("a bind needs a source")
		}
		if v.Bind != nil {
			m.BindOptions = &mount.BindOptions{Propagation: mount.Propagation(v.Bind.Propagation)}
		}
	case mount.TypeTmpfs:
		if v.Source != "" {
			return m, fmt.Errorf("a tmpfs has no source")
		}
		if v.Tmpfs != nil {
			m.TmpfsOptions = &mount.TmpfsOptions{SizeBytes: v.Tmpfs.Size}
		}
	case mount.TypeImage:
		if v.Image != nil {
			m.ImageOptions = &mount.ImageOptions{Subpath: v.Image.Subpath}
		}
	case mount.TypeVolume:
		return c.volume(m, v)
	default:
		return m, fmt.Errorf("type %q is not supported", v.Type)
	}
	return m, nil
}

// volume names a volume of the stack. An anonymous one has no name, an external
// one its own.
func (c converter) volume(m mount.Mount, v composetypes.ServiceVolumeConfig) (mount.Mount, error) {
	if v.Source == "" {
		return m, nil
	}
	def, ok := c.config.Volumes[v.Source]
	if !ok {
		return m, fmt.Errorf("undefined volume %q", v.Source)
	}
	m.Source = cmp.Or(def.Name, c.scoped(v.Source))
	m.VolumeOptions = &mount.VolumeOptions{}
	if v.Volume != nil {
		m.VolumeOptions.NoCopy, m.VolumeOptions.Subpath = v.Volume.NoCopy, v.Volume.Subpath
	}
	if def.External.External {
		return m, nil
	}
	m.VolumeOptions.Labels = c.labels(def.Labels)
	if def.Driver != "" || def.DriverOpts != nil {
		m.VolumeOptions.DriverConfig = &mount.Driver{Name: def.Driver, Options: def.DriverOpts}
	}
	return m, nil
}
