package swarmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Cluster is a Swarm whose nodes are all managers.
type Cluster struct {
	Nodes []*Node

	lan *lan
}

// StartCluster runs a Swarm until the test ends. Without root or Docker it
// skips the test, or fails it when SKEP_NO_SKIP is 1.
func StartCluster(t testing.TB, size int) *Cluster {
	t.Helper()
	require(t)
	dir, err := os.MkdirTemp("", "skep-swarm-") // not t.TempDir: a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	cgroup := "/" + filepath.Base(dir)
	janitor, err := newJanitor(dir, cgroup)
	if err != nil {
		os.RemoveAll(dir)
		t.Fatal(err)
	}
	c := &Cluster{}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range c.Nodes {
				t.Logf("%s, dockerd's last words:\n%s", n.Name, n.lastLog())
			}
		}
		if err := errors.Join(c.each((*Node).Kill), janitor.clean()); err != nil {
			t.Errorf("stop the Swarm: %v", err)
		}
	})
	if c.lan, err = newLAN(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.lan.close() })
	for i := range size {
		n, err := newNode(c.lan, i+1, dir, cgroup)
		if err != nil {
			t.Fatal(err)
		}
		c.Nodes = append(c.Nodes, n)
	}
	if err := c.each((*Node).Restart); err != nil {
		t.Fatal(err)
	}
	if err := c.form(); err != nil {
		t.Fatal(err)
	}
	if size > 1 {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		if err := c.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// form makes the engines one Swarm.
func (c *Cluster) form() error {
	first := c.Nodes[0]
	if err := first.begin(); err != nil || len(c.Nodes) == 1 {
		return err
	}
	token, err := first.Docker("swarm", "join-token", "-q", "manager")
	if err != nil {
		return err
	}
	for _, n := range c.Nodes[1:] {
		if err := n.join(first, strings.TrimSpace(token)); err != nil {
			return err
		}
	}
	return nil
}

// begin makes a Swarm of this node. The engine gives up after five seconds, too
// few for a busy machine, and may leave half a Swarm.
func (n *Node) begin() (err error) {
	for range 3 {
		_, err = n.Docker("swarm", "init", "--advertise-addr", n.Address, "--data-path-addr", n.Address,
			"--default-addr-pool", "10.201.0.0/16")
		if err == nil {
			return nil
		}
		_, leaveErr := n.Docker("swarm", "leave", "--force")
		err = errors.Join(err, leaveErr)
	}
	return err
}

// join makes this node a manager of another's Swarm. The engine gives up waiting
// after 20 seconds and joins all the same.
func (n *Node) join(first *Node, token string) error {
	_, err := n.Docker("swarm", "join", "--token", token, "--advertise-addr", n.Address,
		"--data-path-addr", n.Address, first.Address)
	if err == nil || !strings.Contains(err.Error(), "Timeout was reached before node joined") {
		return err
	}
	return Poll(2*time.Minute, func() error {
		state, err := n.Docker("info", "-f", "{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}")
		if err == nil && strings.TrimSpace(state) != "active true" {
			err = fmt.Errorf("%s is no manager yet: %s", n.Name, state)
		}
		return err
	})
}

// each calls f for all nodes at the same time.
func (c *Cluster) each(f func(*Node) error) error {
	errs := make([]error, len(c.Nodes))
	var wg sync.WaitGroup
	for i, n := range c.Nodes {
		wg.Go(func() { errs[i] = f(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Import makes an image on every node, as Node.Import does on one.
func (c *Cluster) Import(name, binary string, entrypoint ...string) error {
	return c.each(func(n *Node) error { return n.Import(name, binary, entrypoint...) })
}

var errNoLeader = errors.New("the Swarm has no leader")

// Leader is the node that the others follow: they were asked, so it is one
// that answers. Nodes that are down or cut off have no say.
func (c *Cluster) Leader(ctx context.Context) (*Node, error) {
	cause := errNoLeader
	for _, n := range c.Nodes {
		if n.down || n.cut {
			continue
		}
		asked, cancel := context.WithTimeout(ctx, 5*time.Second) // an election takes no longer
		managers, err := n.docker(asked, nil, "node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}")
		cancel()
		if err != nil {
			cause = err
			continue
		}
		for _, leader := range c.Nodes {
			if strings.Contains(managers, leader.Name+" Leader") && !leader.down && !leader.cut {
				return leader, nil
			}
		}
	}
	return nil, cause
}

// WaitLeader waits until there is a leader.
func (c *Cluster) WaitLeader(ctx context.Context) (*Node, error) {
	var leader *Node
	err := poll(ctx, func() (err error) {
		leader, err = c.Leader(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("wait for a leader: %w", err)
	}
	return leader, nil
}

// Follower is a node that answers and does not lead.
func (c *Cluster) Follower(leader *Node) *Node {
	for _, n := range c.Nodes {
		if n != leader && !n.down && !n.cut {
			return n
		}
	}
	return nil
}

// WaitReady waits until every node is up and all of them are reachable
// managers, in the eyes of the leader.
func (c *Cluster) WaitReady(ctx context.Context) error {
	return poll(ctx, func() error {
		leader, err := c.Leader(ctx)
		if err != nil {
			return err
		}
		nodes, err := leader.docker(ctx, nil, "node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}")
		if err != nil {
			return err
		}
		if strings.Count(nodes, " Ready Reachable")+1 != len(c.Nodes) || !strings.Contains(nodes, " Ready Leader") {
			return fmt.Errorf("not all nodes are ready:\n%s", nodes)
		}
		return nil
	})
}
