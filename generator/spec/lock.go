package spec

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/compose-spec/compose-go/v2/interpolation"
	"github.com/goccy/go-yaml"

	"skep/generator/problem"
	"skep/generator/stack"
	"skep/secrets"
)

const (
	// SecretsLock holds the version of every reference, beside the cluster file.
	SecretsLock = "secrets.lock"
	// ImagesLock holds what registries said of images, beside the cluster file.
	ImagesLock = "images.lock"
)

// lockedImage is an entry of images.lock.
type lockedImage struct {
	Digest     string     `yaml:"digest" required:"true" example:"sha256:..."`
	Entrypoint stringList `yaml:"entrypoint"`
	Command    stringList `yaml:"command"`
}

type imagesFile struct {
	Images map[string]lockedImage `yaml:"images"`
}

func (d *clusterConverter) locks(root string, c *stack.Cluster) {
	content, err := readFile(filepath.Join(root, SecretsLock))
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		d.problems = append(d.problems, ruleFile.At(problem.Position{File: SecretsLock}, "%s", withoutPath(err)))
	default:
		lock, err := secrets.ParseLock(content)
		if err != nil {
			d.problems = append(d.problems, ruleValue.At(problem.Position{File: SecretsLock, Line: 1, Column: 1}, "%s", err))
		}
		c.Lock = lock
	}

	if _, err := os.Stat(filepath.Join(root, ImagesLock)); err != nil {
		return
	}
	doc, problems := readDocument(filepath.Join(root, ImagesLock), ImagesLock)
	d.problems = append(d.problems, problems...)
	if doc == nil {
		return
	}
	inner := &decoder{positions: doc.positions}
	var f imagesFile
	inner.decode(doc.values, &f)
	d.problems = append(d.problems, inner.problems...)
	c.Images = stack.ImageLock{}
	for name, image := range f.Images {
		c.Images[name] = stack.LockedImage{Digest: image.Digest, Entrypoint: image.Entrypoint, Command: image.Command}
	}
}

// MarshalImages writes images.lock, sorted.
func MarshalImages(lock stack.ImageLock) ([]byte, error) {
	var images yaml.MapSlice
	for _, name := range slices.Sorted(maps.Keys(lock)) {
		image := lock[name]
		entry := yaml.MapSlice{{Key: "digest", Value: image.Digest}}
		if len(image.Entrypoint) > 0 {
			entry = append(entry, yaml.MapItem{Key: "entrypoint", Value: image.Entrypoint})
		}
		if len(image.Command) > 0 {
			entry = append(entry, yaml.MapItem{Key: "command", Value: image.Command})
		}
		images = append(images, yaml.MapItem{Key: name, Value: entry})
	}
	body, err := yaml.Marshal(yaml.MapSlice{{Key: "images", Value: images}})
	if err != nil {
		return nil, err
	}
	return append([]byte("# images.lock: written by skep lock\n"), body...), nil
}

// interpolate replaces variables as Compose does. Values without any are
// returned as they are.
func interpolate(values map[string]any, env map[string]string) (map[string]any, error) {
	if !hasVariable(values) {
		return values, nil
	}
	return interpolation.Interpolate(values, interpolation.Options{
		Substitute: substitute,
		LookupValue: func(k string) (string, bool) {
			v, ok := env[k]
			return v, ok
		},
	})
}
