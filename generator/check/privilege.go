package check

import (
	"slices"
	"strings"

	"skep/generator/problem"
	"skep/generator/stack"
)

var (
	rulePrivileged      = rule("privileged", problem.Error, "A privileged container")
	ruleHostNetwork     = rule("host-network", problem.Error, "The network of the node")
	ruleAddedCapability = rule("added-capability", problem.Warning, "A capability is added")
)

func privileged(_ *stack.Cluster, _ *stack.Stack, v *stack.Service) problem.List {
	if !v.Compose.Privileged {
		return nil
	}
	p := rulePrivileged.At(v.At("privileged"), "%s wants to be privileged, which Swarm drops without a word", v.Ref.Service)
	return problem.List{p.WithRemedy("name the one capability that it needs in cap_add, or run it beside the Swarm").About(v.Ref)}
}

func hostNetwork(_ *stack.Cluster, s *stack.Stack, v *stack.Service) problem.List {
	pos := v.At("network_mode")
	if v.Compose.NetworkMode != "host" {
		i := slices.IndexFunc(v.Uses, func(u stack.Use) bool { return u.Network == "host" })
		switch {
		case i >= 0:
			pos = v.Uses[i].Pos
		case attached(s, v, "host"):
			pos = v.At("networks")
		default:
			return nil
		}
	}
	p := ruleHostNetwork.At(pos, "%s shares the network of the node, past every overlay and allow list", v.Ref.Service)
	return problem.List{p.WithRemedy("publish the ports that it needs, `ports: [{target: 53, published: 53, protocol: udp, mode: host}]`").About(v.Ref)}
}

// attached reports whether the service names a shared network in `networks`.
func attached(s *stack.Stack, v *stack.Service, network string) bool {
	for key := range v.Compose.Networks {
		if string(s.External[key]) == network {
			return true
		}
	}
	return false
}

// nearRoot are capabilities that amount to root on the node
// (https://man7.org/linux/man-pages/man7/capabilities.7.html).
var nearRoot = []string{"ALL", "SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "NET_ADMIN"}

func addedCapability(_ *stack.Cluster, _ *stack.Stack, v *stack.Service) problem.List {
	var found problem.List
	for i, name := range v.Compose.CapAdd {
		name = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
		p := ruleAddedCapability.At(v.At("cap_add", itoa(i)), "%s adds capability %s", v.Ref.Service, name)
		if slices.Contains(nearRoot, name) {
			p.Message += ", from which it is not far to root on the node"
			p.Severity = problem.Error
		}
		found = append(found, p.WithRemedy("leave it out, or waive it with what breaks without it").About(v.Ref))
	}
	return found
}
