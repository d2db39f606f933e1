package swarm

import (
	"context"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"
)

// CreateService creates a service. With resolve the engine asks the registry
// for the image's digest first and pins it; a registry that does not answer is
// no error, as with `docker stack deploy`.
func (c *Client) CreateService(ctx context.Context, spec swarm.ServiceSpec, resolve bool) (string, error) {
	auth, err := c.auth(spec)
	if err != nil {
		return "", err
	}
	r, err := c.api.ServiceCreate(ctx, client.ServiceCreateOptions{Spec: spec, QueryRegistry: resolve, EncodedRegistryAuth: auth})
	return r.ID, classify(err)
}

// UpdateService updates a service that is still at a version.
func (c *Client) UpdateService(ctx context.Context, id string, version swarm.Version, spec swarm.ServiceSpec, resolve bool) error {
	auth, err := c.auth(spec)
	if err != nil {
		return err
	}
	_, err = c.api.ServiceUpdate(ctx, id, client.ServiceUpdateOptions{
		Version: version, Spec: spec, QueryRegistry: resolve, EncodedRegistryAuth: auth,
		// Without new credentials those that were given once stay with the service.
		RegistryAuthFrom: swarm.RegistryAuthFromSpec,
	})
	return classify(err)
}

func (c *Client) auth(spec swarm.ServiceSpec) (string, error) {
	if spec.TaskTemplate.ContainerSpec == nil {
		return "", nil
	}
	return c.Credentials.header(spec.TaskTemplate.ContainerSpec.Image)
}

// RemoveService removes a service; its tasks end a little later.
func (c *Client) RemoveService(ctx context.Context, id string) error {
	_, err := c.api.ServiceRemove(ctx, id, client.ServiceRemoveOptions{})
	return classify(err)
}

// CreateNetwork creates a network.
func (c *Client) CreateNetwork(ctx context.Context, r network.CreateRequest) (string, error) {
	created, err := c.api.NetworkCreate(ctx, r.Name, client.NetworkCreateOptions{
		Driver: r.Driver, Scope: r.Scope, EnableIPv4: r.EnableIPv4, EnableIPv6: r.EnableIPv6,
		IPAM: r.IPAM, Internal: r.Internal, Attachable: r.Attachable, Options: r.Options, Labels: r.Labels,
	})
	return created.ID, classify(err)
}

// RemoveNetwork removes a network that nothing uses.
func (c *Client) RemoveNetwork(ctx context.Context, id string) error {
	_, err := c.api.NetworkRemove(ctx, id, client.NetworkRemoveOptions{})
	return classify(err)
}

// CreateConfig creates a config.
func (c *Client) CreateConfig(ctx context.Context, spec swarm.ConfigSpec) (string, error) {
	r, err := c.api.ConfigCreate(ctx, client.ConfigCreateOptions{Spec: spec})
	return r.ID, classify(err)
}

// UpdateConfig changes the labels of a config that is still at a version.
// Nothing else of a config can change.
func (c *Client) UpdateConfig(ctx context.Context, id string, version swarm.Version, spec swarm.ConfigSpec) error {
	_, err := c.api.ConfigUpdate(ctx, id, client.ConfigUpdateOptions{Version: version, Spec: spec})
	return classify(err)
}

// RemoveConfig removes a config that no service uses.
func (c *Client) RemoveConfig(ctx context.Context, id string) error {
	_, err := c.api.ConfigRemove(ctx, id, client.ConfigRemoveOptions{})
	return classify(err)
}

// RemoveSecret removes a secret that no service uses.
func (c *Client) RemoveSecret(ctx context.Context, id string) error {
	_, err := c.api.SecretRemove(ctx, id, client.SecretRemoveOptions{})
	return classify(err)
}
