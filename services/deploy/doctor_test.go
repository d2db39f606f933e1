package deploy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"
)

func TestDiagnose(t *testing.T) {
	node := func(name string, manager, leader, ready bool) swarm.Node {
		n := swarm.Node{ID: name, Description: swarm.NodeDescription{Hostname: name}, Spec: swarm.NodeSpec{Availability: swarm.NodeAvailabilityActive}}
		n.Status.State = swarm.NodeStateDown
		reach := swarm.ReachabilityUnreachable
		if ready {
			n.Status.State, reach = swarm.NodeStateReady, swarm.ReachabilityReachable
		}
		if manager {
			n.ManagerStatus = &swarm.ManagerStatus{Leader: leader, Reachability: reach}
		}
		return n
	}
	now := time.Now()
	sound := Vitals{EngineVersion: "29.1.2", Manager: true, EngineTime: now, Asked: now, Pools: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, SubnetBits: 24}
	three := []swarm.Node{node("a", true, true, true), node("b", true, false, true), node("c", true, false, true)}
	for _, c := range []struct {
		name   string
		vitals func(*Vitals)
		live   Live
		want   string // checks that are not fine
	}{
		{"sound", nil, Live{Nodes: three}, ""},
		{"old", func(v *Vitals) { v.EngineVersion = "19.03.15" }, Live{Nodes: three}, "engine=broken"},
		{"worker", func(v *Vitals) { v.Manager = false }, Live{}, "manager=broken"},
		{"one manager lost", nil, Live{Nodes: []swarm.Node{three[0], three[1], node("c", true, false, false)}}, "quorum=warning node=broken"},
		{"no quorum", nil, Live{Nodes: []swarm.Node{three[0], node("b", true, false, false), node("c", true, false, false)}}, "quorum=broken node=broken node=broken"},
		{"two managers", nil, Live{Nodes: three[:2]}, "quorum=warning"},
		{"clock", func(v *Vitals) { v.EngineTime = now.Add(-time.Minute) }, Live{Nodes: three}, "clock=warning"},
		{"subnets", func(v *Vitals) { v.Pools = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/21")} },
			Live{Nodes: three, Networks: []network.Network{{IPAM: network.IPAM{Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix("10.0.0.0/24")}}}}}}, "subnets=warning"},
		{"a docker proxy", nil, Live{Nodes: three, Configs: []swarm.Config{{Spec: swarm.ConfigSpec{Data: []byte("[redacted]")}}}}, "docker proxy=broken"},
		{"a node's clock", nil, Live{Nodes: three, Tasks: []swarm.Task{{
			NodeID: "a", Meta: swarm.Meta{CreatedAt: now, UpdatedAt: now}, Status: swarm.TaskStatus{State: swarm.TaskStateRunning, Timestamp: now.Add(time.Hour)},
		}}}, "node clocks=warning"},
		{"no secret driver", nil, Live{Nodes: three, Secrets: []swarm.Secret{{Spec: swarm.SecretSpec{Driver: &swarm.Driver{Name: "op"}}}}}, "secret driver=warning"},
		{"certificates", func(v *Vitals) { v.TrustRoot = "nonsense" }, Live{Nodes: three}, "certificates=warning"},
		{"paused", nil, Live{Nodes: three, Services: []swarm.Service{{UpdateStatus: &swarm.UpdateStatus{State: swarm.UpdateStatePaused}}}}, "updates=warning"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := sound
			if c.vitals != nil {
				c.vitals(&v)
			}
			var bad []string
			for _, f := range Diagnose(v, c.live) {
				if f.Verdict != Fine {
					bad = append(bad, fmt.Sprintf("%s=%s", f.Check, f.Verdict))
					if f.Remedy == "" {
						t.Errorf("%s has no remedy", f.Check)
					}
				}
			}
			if got := strings.Join(bad, " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
