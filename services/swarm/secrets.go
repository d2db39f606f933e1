package swarm

import (
	"context"

	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"
)

// CreateSecret creates a secret, which cannot be changed any more.
func (c *Client) CreateSecret(ctx context.Context, spec swarm.SecretSpec) (string, error) {
	r, err := c.api.SecretCreate(ctx, client.SecretCreateOptions{Spec: spec})
	return r.ID, classify(err)
}
