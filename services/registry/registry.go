// Package registry reads from container registries what images.lock holds.
package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"skep/generator/stack"
)

// ErrNotFound says that the registry does not have the image, or does not show
// it without a login.
var ErrNotFound = errors.New("the registry has no such image, or hides it without a login")

// Client reads images with the credentials of `docker login`.
type Client struct {
	// Platform is the one whose entrypoint counts where an image has several;
	// nil is linux/amd64.
	Platform *v1.Platform
}

// Image reads the digest, the entrypoint and the command of an image. The
// digest is the one of the index where the image has several platforms.
func (c Client) Image(ctx context.Context, image string) (stack.LockedImage, error) {
	ref, err := name.ParseReference(image)
	if err != nil {
		return stack.LockedImage{}, err
	}
	platform := c.Platform
	if platform == nil {
		platform = &v1.Platform{OS: "linux", Architecture: "amd64"}
	}
	described, err := remote.Get(ref, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithPlatform(*platform))
	if err != nil {
		return stack.LockedImage{}, readable(err)
	}
	config, err := configOf(described)
	if err != nil {
		return stack.LockedImage{}, readable(err)
	}
	return stack.LockedImage{Digest: described.Digest.String(), Entrypoint: config.Config.Entrypoint, Command: config.Config.Cmd}, nil
}

// configOf reads the image's configuration; an index without the platform
// answers with its first image, as most of them start alike.
func configOf(d *remote.Descriptor) (*v1.ConfigFile, error) {
	img, err := d.Image()
	if err == nil {
		return img.ConfigFile()
	}
	index, indexErr := d.ImageIndex()
	if indexErr != nil {
		return nil, err
	}
	manifest, indexErr := index.IndexManifest()
	if indexErr != nil {
		return nil, indexErr
	}
	for _, m := range manifest.Manifests {
		if !m.MediaType.IsImage() || m.Platform != nil && m.Platform.OS == "unknown" { // an attestation
			continue
		}
		img, err := index.Image(m.Digest)
		if err != nil {
			return nil, err
		}
		return img.ConfigFile()
	}
	return nil, err
}

// readable puts a registry's answer into words.
func readable(err error) error {
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return err
	}
	switch answer.StatusCode {
	case http.StatusNotFound, http.StatusUnauthorized, http.StatusForbidden:
		return ErrNotFound
	case http.StatusTooManyRequests:
		return errors.New("the registry answers no more requests for now (429)")
	}
	return fmt.Errorf("the registry answers %d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
}
