package deploy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/swarm"
)

// Verdict is how a check went.
type Verdict string

const (
	Fine    Verdict = "ok"
	Warning Verdict = "warning"
	Broken  Verdict = "broken"
)

// Finding is what one check found, and what to do about it.
type Finding struct {
	Check   string  `json:"check"`
	Verdict Verdict `json:"verdict"`
	Text    string  `json:"text"`
	Remedy  string  `json:"remedy,omitempty"`
}

// Vitals are the facts that Diagnose judges beside the live state.
type Vitals struct {
	EngineVersion string
	APIVersion    string
	Manager       bool
	// EngineTime and Asked are when the engine answered, by its clock and ours.
	EngineTime, Asked time.Time
	// Pools are where Swarm takes subnets from, and how long their prefix is.
	Pools      []netip.Prefix
	SubnetBits int
	// TrustRoot is the certificate of Swarm's authority, in PEM.
	TrustRoot    string
	RootRotation bool // it is being replaced
}

// Limits of the checks.
const (
	oldestEngine = "20.10"
	maxSkew      = 2 * time.Second
	fewSubnets   = 10
)

// Diagnose judges a Swarm. It is pure.
func Diagnose(v Vitals, live Live) []Finding {
	var out []Finding
	add := func(check string, verdict Verdict, remedy, format string, args ...any) {
		if verdict == Fine {
			remedy = ""
		}
		out = append(out, Finding{check, verdict, fmt.Sprintf(format, args...), remedy})
	}
	verdict := func(bad bool, how Verdict) Verdict {
		if bad {
			return how
		}
		return Fine
	}
	add("engine", verdict(older(v.EngineVersion, oldestEngine), Broken), "upgrade the engine to "+oldestEngine+" or later",
		"engine %s, API %s", v.EngineVersion, v.APIVersion)
	add("manager", verdict(!v.Manager, Broken), "let DOCKER_HOST name a manager; `docker swarm init` makes this engine one", "the engine is a manager: %v", v.Manager)
	if !v.Manager {
		return out
	}
	out = append(out, quorum(live.Nodes)...)
	out = append(out, nodes(live.Nodes)...)
	skew := v.EngineTime.Sub(v.Asked).Abs()
	add("clock", verdict(skew > maxSkew, Warning), "set the clocks by NTP, with chrony for example", "the manager's clock is off by %v", skew.Round(time.Millisecond))
	out = append(out, nodeClocks(live)...)
	out = append(out, authority(v, live.Nodes)...)
	out = append(out, secretDrivers(live)...)
	out = append(out, encryptedNetworks(live)...)
	if free, total := freeSubnets(v, live); total > 0 {
		add("subnets", verdict(free < fewSubnets, Warning),
			"`docker swarm init --default-addr-pool` sets a larger pool, on a new Swarm; pin subnets of networks outside of it until then",
			"%d of %d subnets for networks are free", free, total)
	}
	if err := live.Whole(); err != nil {
		add("docker proxy", Broken, Hint(err), "%v; nothing can be planned or deployed through it", err)
	}
	out = append(out, stuckUpdates(live)...)
	if _, ok := live.config(leaseName); ok {
		add("lease", Warning, "when no deploy is under way the next one takes it over after a moment", "somebody holds the lease of deploys")
	}
	return out
}

// older compares versions by their first two numbers.
func older(version, than string) bool {
	number := func(s string) (major, minor int) {
		_, _ = fmt.Sscanf(s, "%d.%d", &major, &minor)
		return major, minor
	}
	a, b := number(version)
	c, d := number(than)
	return cmp.Or(cmp.Compare(a, c), cmp.Compare(b, d)) < 0
}

func quorum(nodes []swarm.Node) []Finding {
	managers, reachable, leader := 0, 0, ""
	for _, n := range nodes {
		if m := n.ManagerStatus; m != nil {
			managers++
			if m.Reachability == swarm.ReachabilityReachable {
				reachable++
			}
			if m.Leader {
				leader = n.Description.Hostname
			}
		}
	}
	needed := managers/2 + 1
	f := Finding{Check: "quorum", Verdict: Fine, Text: fmt.Sprintf("%d of %d managers reachable, %d needed, leader %s", reachable, managers, needed, leader)}
	switch {
	case reachable < needed || leader == "":
		f.Verdict, f.Remedy = Broken, "start the managers that are away; as the last way out `docker swarm init --force-new-cluster` on one that is left"
	case managers > 1 && reachable == needed:
		f.Verdict, f.Remedy = Warning, "no further manager may be lost: start those that are away, or add one"
	case managers%2 == 0:
		f.Verdict, f.Remedy = Warning, "an even number of managers stands no more losses than one less: add one, or demote one"
	}
	return []Finding{f}
}

func nodes(all []swarm.Node) []Finding {
	var out []Finding
	versions := map[string]bool{}
	for _, n := range all {
		versions[n.Description.Engine.EngineVersion] = true
		switch {
		case n.Status.State != swarm.NodeStateReady:
			out = append(out, Finding{"node", Broken, fmt.Sprintf("%s is %s %s", n.Description.Hostname, n.Status.State, n.Status.Message),
				"start its engine, or remove it with `docker node rm`"})
		case n.Spec.Availability != swarm.NodeAvailabilityActive:
			out = append(out, Finding{"node", Warning, fmt.Sprintf("%s is set to %s", n.Description.Hostname, n.Spec.Availability),
				"`docker node update --availability active` puts it to work again"})
		}
	}
	if len(versions) > 1 {
		out = append(out, Finding{"node", Warning, fmt.Sprintf("%d versions of the engine are in use", len(versions)), "upgrade them to one"})
	}
	if len(out) == 0 {
		out = append(out, Finding{Check: "node", Verdict: Fine, Text: fmt.Sprintf("%d nodes are ready", len(all))})
	}
	return out
}

// freeSubnets counts the subnets of the default pools that no network has.
func freeSubnets(v Vitals, live Live) (free, total int) {
	var used []netip.Prefix
	for _, n := range live.Networks {
		for _, c := range n.IPAM.Config {
			if c.Subnet.IsValid() {
				used = append(used, c.Subnet)
			}
		}
	}
	for _, pool := range v.Pools {
		if bits := v.SubnetBits - pool.Bits(); bits >= 0 && bits < 31 {
			total += 1 << bits
		}
	}
	taken := 0
	for _, u := range used {
		if slices.ContainsFunc(v.Pools, u.Overlaps) {
			// One that is larger than a subnet of the pool takes several.
			taken += 1 << max(0, v.SubnetBits-u.Bits())
		}
	}
	return max(0, total-taken), total
}

func stuckUpdates(live Live) []Finding {
	var names []string
	for _, s := range live.Services {
		if stuck(s.UpdateStatus) {
			names = append(names, s.Spec.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return []Finding{{"updates", Warning, "paused: " + strings.Join(names, ", "), "`skep plan` says why, `skep deploy` tries again"}}
}
