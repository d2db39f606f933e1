package swarm

import (
	"context"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"
)

// Services lists every service of the Swarm.
func (c *Client) Services(ctx context.Context) ([]swarm.Service, error) {
	r, err := c.api.ServiceList(ctx, client.ServiceListOptions{})
	return r.Items, classify(err)
}

// Tasks lists the tasks of some services, or of all when none is named.
func (c *Client) Tasks(ctx context.Context, services ...string) ([]swarm.Task, error) {
	options := client.TaskListOptions{}
	if len(services) > 0 {
		options.Filters = make(client.Filters).Add("service", services...)
	}
	r, err := c.api.TaskList(ctx, options)
	return r.Items, classify(err)
}

// Networks lists the overlays of the Swarm.
func (c *Client) Networks(ctx context.Context) ([]network.Network, error) {
	r, err := c.api.NetworkList(ctx, client.NetworkListOptions{Filters: make(client.Filters).Add("scope", "swarm")})
	out := make([]network.Network, len(r.Items))
	for i, n := range r.Items {
		out[i] = n.Network
	}
	return out, classify(err)
}

// Configs lists every config, with its data.
func (c *Client) Configs(ctx context.Context) ([]swarm.Config, error) {
	r, err := c.api.ConfigList(ctx, client.ConfigListOptions{})
	return r.Items, classify(err)
}

// Secrets lists every secret; the engine never tells a value.
func (c *Client) Secrets(ctx context.Context) ([]swarm.Secret, error) {
	r, err := c.api.SecretList(ctx, client.SecretListOptions{})
	return r.Items, classify(err)
}

// Nodes lists the nodes.
func (c *Client) Nodes(ctx context.Context) ([]swarm.Node, error) {
	r, err := c.api.NodeList(ctx, client.NodeListOptions{})
	return r.Items, classify(err)
}
