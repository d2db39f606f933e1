package swarm

import (
	"context"

	"github.com/moby/moby/client"
)

// Volumes names the volumes of this engine that have a label, key=value.
// Volumes belong to a node: the Swarm knows none of them.
func (c *Client) Volumes(ctx context.Context, label string) ([]string, error) {
	r, err := c.api.VolumeList(ctx, client.VolumeListOptions{Filters: make(client.Filters).Add("label", label)})
	var out []string
	for _, v := range r.Items {
		out = append(out, v.Name)
	}
	return out, classify(err)
}

// RemoveVolume removes a volume of this engine that no container has.
func (c *Client) RemoveVolume(ctx context.Context, name string) error {
	_, err := c.api.VolumeRemove(ctx, name, client.VolumeRemoveOptions{})
	return classify(err)
}
