package swarmtest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Three managers: containers reach each other across nodes by name, and the
// Swarm outlives its leader.
func TestCluster(t *testing.T) {
	c := StartCluster(t, 3)
	if err := c.Import("whoami:test", Binary(t, "skep/cmd/whoami")); err != nil {
		t.Fatal(err)
	}
	if err := c.Nodes[1].Deploy("testdata/cluster.yaml", "app"); err != nil {
		t.Fatal(err)
	}
	if err := c.Nodes[2].WaitRunning("app", 5*time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes {
		if err := Poll(2*time.Minute, func() error { return reachesAll(t.Context(), n, len(c.Nodes)) }); err != nil {
			t.Errorf("from %s: %v", n.Name, err)
		}
	}

	old, err := c.WaitLeader(limit(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := old.KillEngine(); err != nil {
		t.Fatal(err)
	}
	if _, err := old.Docker("version"); err == nil {
		t.Errorf("%s answers after its end", old.Name)
	}
	leader, err := c.WaitLeader(limit(t))
	if err != nil {
		t.Fatal(err)
	}
	if leader == old {
		t.Errorf("%s leads after its end", old.Name)
	}
	if err := old.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitReady(limit(t)); err != nil {
		t.Fatal(err)
	}
}

// limit is that of one wait: a machine that is slow is slow at each.
func limit(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// reachesAll asks every task of the service from a container of a node.
func reachesAll(ctx context.Context, n *Node, tasks int) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	container, err := n.Docker("ps", "-q", "--filter", "label=com.docker.swarm.service.name=app_whoami")
	if err != nil {
		return err
	}
	container = strings.TrimSpace(container)
	addresses, err := n.ResolverFrom(container).LookupHost(ctx, "tasks.app_whoami.")
	if err != nil {
		return err
	}
	hosts := map[string]bool{}
	for _, address := range addresses {
		host, err := hostname(ctx, n, container, address)
		if err != nil {
			return err
		}
		hosts[host] = true
	}
	if len(hosts) != tasks {
		return fmt.Errorf("%v are %v, want %d tasks", addresses, hosts, tasks)
	}
	return nil
}

func hostname(ctx context.Context, n *Node, container, address string) (string, error) {
	conn, err := n.DialFrom(ctx, container, "tcp", address+":8080")
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.0\r\nHost: whoami\r\n\r\n"); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(answer), "Hostname: ")
	name, _, ok := strings.Cut(rest, "\n")
	if !ok {
		return "", fmt.Errorf("%s answers %q", address, answer)
	}
	return name, nil
}

// A node that is cut off takes no part, and catches up afterwards; one that
// lost its power comes back with its place in the Swarm.
func TestPartition(t *testing.T) {
	c := StartCluster(t, 3)
	old, err := c.WaitLeader(limit(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Partition(); err != nil {
		t.Fatal(err)
	}
	leader, err := c.WaitLeader(limit(t))
	if err != nil {
		t.Fatal(err)
	}
	// It was the leader, and alone it cannot write.
	if _, err := old.docker(t.Context(), nil, "config", "create", "lost", "/etc/hostname"); err == nil {
		t.Error("a node without a majority wrote")
	}
	if _, err := leader.Docker("config", "create", "kept", "/etc/hostname"); err != nil {
		t.Error(err)
	}
	if err := old.Heal(); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitReady(limit(t)); err != nil {
		t.Fatal(err)
	}
	err = poll(limit(t), func() error {
		configs, err := old.Docker("config", "ls", "--format", "{{.Name}}")
		if err == nil && configs != "kept\n" {
			err = fmt.Errorf("configs %q", configs)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}

	n := c.Follower(leader)
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitReady(limit(t)); err != nil {
		t.Fatal(err)
	}
}

// crash makes the test binary a process that dies with a Swarm running.
const crash = "SKEP_SWARMTEST_CRASH"

// Nothing is left of a Swarm whose test panics where no deferred call runs.
func TestNothingIsLeft(t *testing.T) {
	require(t)
	if where := os.Getenv(crash); where != "" {
		t.Setenv("TMPDIR", where)
		c := StartCluster(t, 2)
		if err := c.Import("whoami:test", Binary(t, "skep/cmd/whoami")); err != nil {
			t.Fatal(err)
		}
		if err := c.Nodes[0].Deploy("testdata/cluster.yaml", "app"); err != nil {
			t.Fatal(err)
		}
		if err := c.Nodes[0].WaitRunning("app", 5*time.Minute); err != nil {
			t.Fatal(err)
		}
		fmt.Println("swarm", filepath.Base(filepath.Dir(c.Nodes[0].dir)))
		go panic("a planned panic")
		<-t.Context().Done()
	}
	dir, err := os.MkdirTemp("", "skep-crash-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNothingIsLeft$")
	cmd.Env = append(os.Environ(), crash+"="+dir)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "a planned panic") {
		t.Fatalf("got %v\n%s", err, out)
	}
	_, name, _ := strings.Cut(string(out), "swarm ")
	name, _, _ = strings.Cut(name, "\n")
	if !strings.HasPrefix(name, "skep-swarm-") {
		t.Fatalf("it does not say what it started:\n%s", out)
	}
	if err := Poll(6*time.Minute, func() error { return leftBehind(dir, name) }); err != nil {
		t.Error(err)
	}
}

// leftBehind reports what a Swarm in a folder left: files, control groups, and
// processes that were started with paths of it.
func leftBehind(dir, swarm string) error {
	left, err := filepath.Glob(dir + "/*")
	if err != nil {
		return err
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/*/" + swarm)
	if err != nil {
		return err
	}
	left = append(left, groups...)
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, file := range commands {
		command, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(command), dir) {
			left = append(left, strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
	return nil
}
