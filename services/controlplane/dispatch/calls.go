package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"skep/services/controlplane"
)

var (
	errSlow    = errors.New("the engine did not answer in time")
	errCrowded = errors.New("the engine does not answer")
)

const joinTimeout = time.Second

// calls are the starts under way. Each has a goroutine of its own, for the
// engine's client may not come back for long; their number is bounded, and a
// run that is tried again while its start goes on joins that start.
type calls struct {
	starter Starter

	mu   sync.Mutex
	open map[string]*call // by key
	idle chan struct{}    // closed when open is empty, if somebody waits
}

type call struct {
	done chan struct{}
	err  error // once done is closed
}

func newCalls(s Starter) *calls { return &calls{starter: s, open: map[string]*call{}} }

// start waits for the engine to take a run until ctx ends, whatever the
// starter does.
func (c *calls) start(ctx context.Context, r controlplane.Run) error {
	under, joined := c.enter(ctx, r)
	if under == nil {
		return errCrowded
	}
	if joined { // it was waited for before: others want the place
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, joinTimeout)
		defer cancel()
	}
	select {
	case <-under.done:
		return under.err
	case <-ctx.Done():
		return errSlow
	}
}

// enter makes a call or joins the one that goes on; nil if there are too many.
func (c *calls) enter(ctx context.Context, r controlplane.Run) (under *call, joined bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if under, ok := c.open[r.Key]; ok {
		return under, true
	}
	if len(c.open) >= maxCalls {
		return nil, false
	}
	under = &call{done: make(chan struct{})}
	c.open[r.Key] = under
	go func() {
		under.err = c.starter.Start(ctx, r)
		close(under.done)
		c.leave(r.Key)
	}()
	return under, false
}

func (c *calls) leave(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, key)
	if len(c.open) == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

func (c *calls) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// wait gives the calls that are left some time to end.
func (c *calls) wait(most time.Duration) error {
	c.mu.Lock()
	if len(c.open) == 0 {
		c.mu.Unlock()
		return nil
	}
	idle := make(chan struct{})
	c.idle = idle
	c.mu.Unlock()
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-idle:
		return nil
	case <-timer.C:
		return fmt.Errorf("%d starts have not come back from the engine", c.count())
	}
}
