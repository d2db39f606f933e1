package onepassword

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"skep/secrets"
)

// Health is the state of a Connect server.
type Health struct {
	Version string
	// NotReady are the parts that do not work, "sync: TOKEN_NEEDED".
	NotReady []string
}

// Health asks the server for its state. It needs no token that is valid.
func (c *Client) Health(ctx context.Context) (Health, error) {
	body, _, err := c.transport.once(ctx, []string{"health"})
	if err != nil {
		return Health{}, fmt.Errorf("ask Connect for its health: %w", err)
	}
	var answer struct {
		Version      string `json:"version"`
		Dependencies []struct {
			Service string `json:"service"`
			Status  string `json:"status"`
		} `json:"dependencies"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return Health{}, fmt.Errorf("ask Connect for its health: %w", err)
	}
	h := Health{Version: answer.Version}
	for _, d := range answer.Dependencies {
		if d.Status != "ACTIVE" {
			h.NotReady = append(h.NotReady, d.Service+": "+d.Status)
		}
	}
	return h, nil
}

// Vaults asks how many vaults the token may read, and so whether it is taken.
func (c *Client) Vaults(ctx context.Context) (int, error) {
	d, err := c.readVaults(ctx)
	if err != nil {
		return 0, fmt.Errorf("list the vaults: %w", c.explain(ctx, err))
	}
	return len(d.entries), nil
}

// healthFor is how long the health is remembered between failures.
const healthFor = 5 * time.Second

// explain adds to an error of a server that answers why it is not ready.
func (c *Client) explain(ctx context.Context, err error) error {
	var status *statusError
	if !errors.Is(err, secrets.ErrUnavailable) || !errors.As(err, &status) {
		return err
	}
	c.mu.Lock()
	h, asked := c.health, c.asked
	c.mu.Unlock()
	if time.Since(asked) > healthFor {
		now, failed := c.Health(ctx)
		if failed != nil {
			return err
		}
		h = now
		c.mu.Lock()
		c.health, c.asked = h, time.Now()
		c.mu.Unlock()
	}
	if len(h.NotReady) == 0 {
		return err
	}
	return fmt.Errorf("1Password Connect is not ready (%s): %w", strings.Join(h.NotReady, ", "), err)
}
