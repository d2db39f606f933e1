package cloudflare

import (
	"context"
	"time"
)

// SetWait replaces the timer between tries.
func (c *Client) SetWait(wait func(context.Context, time.Duration) error) { c.api.Wait = wait }
