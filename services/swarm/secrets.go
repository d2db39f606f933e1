package swarm

import (
	"context"

	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"
)

// CreateSecret creates a secret, of which only labels can change.
func (c *Client) CreateSecret(ctx context.Context, spec swarm.SecretSpec) (string, error) {
	r, err := c.api.SecretCreate(ctx, client.SecretCreateOptions{Spec: spec})
	return r.ID, classify(err)
}

// UpdateSecret changes the labels of a secret that is still at a version.
// Nothing else of a secret can change.
func (c *Client) UpdateSecret(ctx context.Context, id string, version swarm.Version, spec swarm.SecretSpec) error {
	_, err := c.api.SecretUpdate(ctx, id, client.SecretUpdateOptions{Version: version, Spec: spec})
	return classify(err)
}
