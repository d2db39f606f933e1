package main

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"skep/internal/swarmtest"
)

// clusterBed is a Swarm of three managers and a project that is deployed to it
// through one of them.
type clusterBed struct {
	*deployBed
	cluster *swarmtest.Cluster
	leader  *swarmtest.Node
}

// newClusterBed deploys through a follower, so that the leader can be lost.
func newClusterBed(t *testing.T) *clusterBed {
	t.Helper()
	t.Parallel()
	c := swarmtest.StartCluster(t, 3)
	if err := c.Import("whoami:0.1", swarmtest.Binary(t, "skep/cmd/whoami")); err != nil {
		t.Fatal(err)
	}
	leader, err := c.WaitLeader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	follower := c.Follower(leader)
	b := &clusterBed{
		deployBed: bedOn(t, &swarmtest.Swarm{Node: follower}),
		cluster:   c, leader: leader,
	}
	b.write("cluster.yaml", deployCluster)
	b.write("app/conf.txt", "one\n")
	b.app("replicas: 2", "replicas: 3")
	return b
}

// unchanged expects a deploy to find nothing to do and to write nothing. The
// versions of services do not tell: a new leader may write them anew.
func (b *clusterBed) unchanged() {
	b.t.Helper()
	watched := newKiller(b.t, strings.TrimPrefix(b.s.Host(), "unix://"), 0, func() {})
	contains(b.t, skep(b.t, []string{"DOCKER_HOST=" + watched.host}, exitDone, "-C", b.dir, "deploy"), "No changes")
	if call := watched.call(); call != "" {
		b.t.Errorf("a deploy without changes writes: %s", call)
	}
}

// running are the nodes that run tasks of a service, sorted.
func (b *clusterBed) running(service string) []string {
	b.t.Helper()
	nodes := strings.Fields(docker(b.t, b.s, "service", "ps", "-f", "desired-state=running", "--format", "{{.Node}}", service))
	slices.Sort(nodes)
	return nodes
}

func TestDeployOnThreeNodes(t *testing.T) {
	b := newClusterBed(t)
	b.skep(t, exitDone, "deploy")
	if nodes := b.running("app_web"); !slices.Equal(nodes, []string{"node1", "node2", "node3"}) {
		t.Errorf("web runs on %v", nodes)
	}
	b.unchanged()
	for _, n := range b.cluster.Nodes {
		b.host = n.Host()
		contains(t, b.skep(t, exitDone, "plan", "--detailed-exitcode"), "No changes")
	}
}

// A leader that loses its power during a deploy takes its tasks with it.
func TestDeployOutlivesTheLeader(t *testing.T) {
	newClusterBed(t).deployWithout((*swarmtest.Node).Kill, (*swarmtest.Node).Restart)
}

// A leader that is cut off during a deploy does not know, and its tasks run on.
func TestDeployOutlivesAPartition(t *testing.T) {
	newClusterBed(t).deployWithout((*swarmtest.Node).Partition, (*swarmtest.Node).Heal)
}

// deployWithout loses the leader at the third write of a deploy, before any
// task is replaced. The deploy waits for the next leader and is whole, also
// once the old one is back.
func (b *clusterBed) deployWithout(lose, bringBack func(*swarmtest.Node) error) {
	t := b.t
	t.Helper()
	b.skep(t, exitDone, "deploy")
	b.app("replicas: 2", "replicas: 3", `A: "1"`, `A: "2"`)
	b.write("app/conf.txt", "two\n")

	// A node that is lost is given up after three heartbeats. Short ones come last:
	// a node that is merely busy misses them too.
	docker(t, b.s, "swarm", "update", "--dispatcher-heartbeat", "1s")
	lost := make(chan error, 1)
	killer := newKiller(t, strings.TrimPrefix(b.s.Host(), "unix://"), 2, func() { lost <- lose(b.leader) })
	b.host = killer.host
	out := b.skep(t, exitDone, "deploy")
	if killer.call() == "" {
		t.Fatalf("the deploy made too few writes:\n%s", out)
	}
	if err := <-lost; err != nil {
		t.Fatal(err)
	}
	b.host = b.s.Host()
	contains(t, out, "updated service app_web", "Deployed 1 stack.")
	if got := b.inspect(t, "app_web", "{{.Spec.TaskTemplate.ContainerSpec.Env}}"); got != "[A=2 B=a $b]" {
		t.Errorf("web has %s", got)
	}
	if got := b.inspect(t, "app_migrate", "{{.JobStatus.JobIteration.Index}}"); got != "0" {
		t.Error("the job ran again")
	}
	b.unchanged()

	if err := bringBack(b.leader); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := b.cluster.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	b.unchanged()
}
