// Package docker reads from the Docker API what the ingress needs, through a
// docker proxy: HEAD /_ping and GET /info, /networks, /events, /configs,
// /containers/json, /services and /tasks, nothing else.
package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"
)

// timeout is for one listing; a proxy that is gone must not hold the ingress.
const timeout = 20 * time.Second

// Client is a connection to one engine.
type Client struct{ api *client.Client }

// New prepares a client; nothing is dialled. An empty host means DOCKER_HOST.
func New(host string) (*Client, error) {
	options := []client.Opt{client.FromEnv}
	if host != "" {
		options = append(options, client.WithHost(host))
	}
	api, err := client.New(options...)
	if err != nil {
		return nil, fmt.Errorf("docker client: %w", err)
	}
	return &Client{api}, nil
}

// Close ends idle connections.
func (c *Client) Close() error { return c.api.Close() }

// Swarm reports whether the engine manages a Swarm. It also settles the
// version of the API, anew after the engine was replaced.
func (c *Client) Swarm(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if _, err := c.api.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true, ForceNegotiate: true}); err != nil {
		return false, fmt.Errorf("ping Docker: %w", err)
	}
	info, err := c.api.Info(ctx, client.InfoOptions{})
	if err != nil {
		return false, fmt.Errorf("ask Docker for its state: %w", err)
	}
	return info.Info.Swarm.LocalNodeState == swarm.LocalNodeStateActive && info.Info.Swarm.ControlAvailable, nil
}

// Services lists services: all, or those with these ids.
func (c *Client) Services(ctx context.Context, ids ...string) ([]swarm.Service, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out, err := c.api.ServiceList(ctx, client.ServiceListOptions{Filters: filter("id", ids...)})
	if err != nil {
		return nil, fmt.Errorf("list services: %w", err)
	}
	return out.Items, nil
}

// Tasks lists the tasks that should run: all, or those of these services.
func (c *Client) Tasks(ctx context.Context, services ...string) ([]swarm.Task, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out, err := c.api.TaskList(ctx, client.TaskListOptions{Filters: filter("service", services...).Add("desired-state", "running")})
	if err != nil {
		return nil, fmt.Errorf("list tasks: %w", err)
	}
	return out.Items, nil
}

// Containers lists the containers of the engine's node.
func (c *Client) Containers(ctx context.Context, stoppedToo bool) ([]container.Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out, err := c.api.ContainerList(ctx, client.ContainerListOptions{All: stoppedToo})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	return out.Items, nil
}

// Networks lists all networks.
func (c *Client) Networks(ctx context.Context) ([]network.Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out, err := c.api.NetworkList(ctx, client.NetworkListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	return out.Items, nil
}

// Configs lists the configs that carry a label, with their content.
func (c *Client) Configs(ctx context.Context, label string) ([]swarm.Config, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out, err := c.api.ConfigList(ctx, client.ConfigListOptions{Filters: filter("label", label)})
	if err != nil {
		return nil, fmt.Errorf("list configs: %w", err)
	}
	return out.Items, nil
}

// OwnNetworks are the ids of the networks of the container that this process
// runs in.
func (c *Client) OwnNetworks(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	id, err := os.Hostname() // Docker's default for a container
	if err != nil {
		return nil, fmt.Errorf("find the ingress's container: %w", err)
	}
	out, err := c.api.ContainerList(ctx, client.ContainerListOptions{Filters: filter("id", id)})
	if err != nil {
		return nil, fmt.Errorf("find the ingress's container: %w", err)
	}
	if len(out.Items) != 1 || out.Items[0].NetworkSettings == nil {
		return nil, errors.New("find the ingress's container: no container is called like this host; name its networks (CADDY_INGRESS_NETWORKS)")
	}
	var ids []string
	for _, n := range out.Items[0].NetworkSettings.Networks {
		if n != nil {
			ids = append(ids, n.NetworkID)
		}
	}
	return ids, nil
}

// Events streams what happens to services, nodes, configs, networks and
// containers, until ctx is done or the stream breaks.
func (c *Client) Events(ctx context.Context) (<-chan events.Message, <-chan error) {
	out := c.api.Events(ctx, client.EventsListOptions{Filters: filter("type", "service", "node", "config", "network", "container")})
	return out.Messages, out.Err
}

func filter(key string, values ...string) client.Filters {
	f := client.Filters{}
	if len(values) > 0 {
		f.Add(key, values...)
	}
	return f
}
