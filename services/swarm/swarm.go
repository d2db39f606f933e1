// Package swarm is the adapter to the Docker API of a Swarm's managers: it reads
// the live state, makes one change at a time and follows events and logs. It
// decides nothing.
package swarm

import (
	"context"
	"fmt"

	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"
)

// Client talks to one manager of a Swarm. The API's version is negotiated, from
// 1.40 on, so engines from 20.10 on are served.
type Client struct {
	api client.APIClient

	// Credentials go with the services that are created and updated, so that
	// nodes can pull their images; nil for none.
	Credentials *Credentials
}

// New makes a client of the engine that DOCKER_HOST and its companions name, or
// of the local one. It connects when it is first used.
func New(options ...client.Opt) (*Client, error) {
	api, err := client.New(append([]client.Opt{client.FromEnv}, options...)...)
	if err != nil {
		return nil, fmt.Errorf("make Docker client: %w", err)
	}
	return &Client{api: api}, nil
}

// Close ends idle connections.
func (c *Client) Close() error { return c.api.Close() }

// Engine is what an engine says of itself and its Swarm.
type Engine struct {
	Name       string
	Version    string
	APIVersion string // that both sides speak
	Info       system.Info
}

// Engine asks the engine who it is.
func (c *Client) Engine(ctx context.Context) (Engine, error) {
	info, err := c.api.Info(ctx, client.InfoOptions{})
	if err != nil {
		return Engine{}, classify(err)
	}
	return Engine{Name: info.Info.Name, Version: info.Info.ServerVersion, APIVersion: c.api.ClientVersion(), Info: info.Info}, nil
}
