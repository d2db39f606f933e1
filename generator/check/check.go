// Package check holds the policies: what the model allows to be said and a
// Swarm, or the people who run it, would regret. Each policy is a pure function
// of the model, in a file of its own; its page is in rules/.
package check

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"skep/generator/problem"
	"skep/generator/stack"
)

// policy is a function over the model and the rule that it may find broken.
type policy struct {
	rule problem.Rule
	find func(*stack.Cluster) problem.List
	// strict policies cannot be waived: what they find does not work, or
	// belongs to no service that could hold a waiver.
	strict bool
}

var policies = []policy{
	{rule: ruleDockerSocket, find: services(dockerSocket)},
	{rule: ruleDockerData, find: services(dockerData)},
	{rule: ruleProxyShared, find: proxyShared},
	{rule: rulePlaintextSecret, find: services(plaintextSecret)},
	{rule: ruleUnpinnedImage, find: services(unpinnedImage)},
	{rule: ruleSwarmUnsupported, find: services(swarmUnsupported)},
	{rule: ruleSwarmIgnored, find: services(swarmIgnored)},
	{rule: rulePrivileged, find: services(privileged)},
	{rule: ruleHostNetwork, find: services(hostNetwork)},
	{rule: ruleAddedCapability, find: services(addedCapability)},
	{rule: rulePublishedPort, find: services(publishedPort)},
	{rule: rulePortTaken, find: portTaken, strict: true},
	{rule: ruleHostClaimed, find: hostClaimed},
	{rule: ruleRouteClaimed, find: routeClaimed},
	{rule: ruleTLSConflict, find: tlsConflict},
	{rule: ruleSplitHorizon, find: splitHorizon},
	{rule: rulePrivateNamePublic, find: privateName},
	{rule: ruleMissingSSO, find: services(missingSSO)},
	{rule: ruleAdminPublic, find: services(adminPublic)},
	{rule: ruleMissingHealthcheck, find: services(missingHealthcheck)},
	{rule: ruleMissingLimits, find: services(missingLimits)},
	{rule: ruleUnpinnedVolume, find: services(unpinnedVolume)},
	{rule: ruleSharedWriter, find: services(sharedWriter)},
	{rule: ruleRelativeBind, find: services(relativeBind)},
	{rule: ruleUnknownEntrypoint, find: services(unknownEntrypoint), strict: true},
	{rule: ruleConfigTooLarge, find: configTooLarge, strict: true},
	{rule: ruleStackCycle, find: stackCycle, strict: true},
	{rule: ruleTierOrder, find: tierOrder},
	{rule: ruleUnusedNetwork, find: unusedNetwork, strict: true},
	{rule: ruleReservedLabel, find: services(reservedLabel), strict: true},
	{rule: ruleNameTaken, find: services(nameTaken), strict: true},
	{rule: ruleDockerScope, find: services(dockerScope), strict: true},
	{rule: ruleNameAmbiguous, find: ambiguousNames},
	{rule: ruleApexCNAME, find: services(apexCNAME), strict: true},
}

// services makes a policy of a function over one service.
func services(find func(*stack.Cluster, *stack.Stack, *stack.Service) problem.List) func(*stack.Cluster) problem.List {
	return func(c *stack.Cluster) problem.List {
		var found problem.List
		for _, s := range c.Stacks {
			for _, v := range s.Services {
				found = append(found, find(c, s, v)...)
			}
		}
		return found
	}
}

// Run holds the cluster against every policy. What a service waives with a
// reason is left out; a waiver that leaves nothing out is a finding itself.
func Run(c *stack.Cluster) problem.List {
	if c == nil {
		return nil
	}
	var found problem.List
	for _, p := range policies {
		found = append(found, p.find(c)...)
	}
	return waive(c, found).Sorted()
}

// waive drops what is waived. A waiver of a stack is a waiver of each of its
// services at one position, and is used when one of them needs it.
func waive(c *stack.Cluster, found problem.List) problem.List {
	waivers := map[string]map[string]stack.Waiver{} // subject -> rule -> waiver
	for _, s := range c.Services() {
		waivers[s.Ref.String()] = s.Waivers
	}
	used := map[problem.Position]bool{}
	kept := slices.DeleteFunc(found, func(p problem.Problem) bool {
		w, ok := waivers[p.Subject][p.Rule]
		if !ok || !slices.Contains(Waivable(), p.Rule) {
			return false
		}
		used[w.Pos] = true
		return true
	})
	for _, s := range c.Services() {
		for rule, w := range s.Waivers {
			if !used[w.Pos] {
				kept = append(kept, unusedWaiver(c, s, rule, w))
			}
		}
	}
	return kept
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func sortedKeys[K cmp.Ordered, V any, M ~map[K]V](m M) []K { return slices.Sorted(maps.Keys(m)) }

func itoa(i int) string { return strconv.Itoa(i) }
