package cloudflare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"skep/services/dns/tunnel"
)

// Tunnel is a tunnel of an account.
type Tunnel struct {
	client *Client
	path   string
	id     string
}

// Tunnel returns a tunnel by its id.
func (c *Client) Tunnel(account, id string) *Tunnel {
	return &Tunnel{client: c, id: id, path: "/accounts/" + url.PathEscape(account) + "/cfd_tunnel/" + url.PathEscape(id) + "/configurations"}
}

// ErrLocal: cloudflared reads the tunnel's rules from a file.
var ErrLocal = errors.New("the tunnel is managed locally")

// TunnelConfig is a configuration as the API has it.
type TunnelConfig struct {
	Rules []tunnel.Rule
	whole map[string]json.RawMessage
}

// Read gets the configuration. One that is managed locally is an error: writing
// it would take the tunnel away from its file for good.
func (t *Tunnel) Read(ctx context.Context) (TunnelConfig, error) {
	var result struct {
		Source string                     `json:"source"`
		Config map[string]json.RawMessage `json:"config"`
	}
	if _, err := t.client.call(ctx, http.MethodGet, t.path, nil, nil, &result); err != nil {
		return TunnelConfig{}, fmt.Errorf("read the configuration of tunnel %s: %w", t.id, err)
	}
	if result.Source == "local" {
		return TunnelConfig{}, fmt.Errorf("tunnel %s: %w", t.id, ErrLocal)
	}
	c := TunnelConfig{whole: result.Config}
	if ingress, ok := result.Config["ingress"]; ok {
		if err := json.Unmarshal(ingress, &c.Rules); err != nil {
			return TunnelConfig{}, fmt.Errorf("read the rules of tunnel %s: %w", t.id, err)
		}
	}
	return c, nil
}

// Write replaces the rules and leaves all else as it was read.
func (t *Tunnel) Write(ctx context.Context, read TunnelConfig, rules []tunnel.Rule) error {
	config := map[string]any{"ingress": rules}
	for key, value := range read.whole {
		if key != "ingress" {
			config[key] = value
		}
	}
	if _, err := t.client.call(ctx, http.MethodPut, t.path, nil, map[string]any{"config": config}, nil); err != nil {
		return fmt.Errorf("write the configuration of tunnel %s: %w", t.id, err)
	}
	return nil
}

// Rules reads the rules, and returns what replaces them.
func (t *Tunnel) Rules(ctx context.Context) ([]tunnel.Rule, func(context.Context, []tunnel.Rule) error, error) {
	read, err := t.Read(ctx)
	if err != nil {
		return nil, nil, err
	}
	return read.Rules, func(ctx context.Context, rules []tunnel.Rule) error { return t.Write(ctx, read, rules) }, nil
}
