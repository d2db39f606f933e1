package networks

import (
	"cmp"
	"net/netip"
	"slices"
)

// Scope says who may be on an overlay.
type Scope string

const (
	StackScope  Scope = "stack"  // services of its stack
	SharedScope Scope = "shared" // whoever asks for it
	ProxyScope  Scope = "proxy"  // a docker proxy and its consumer
)

// Overlay is a network and who is on it.
type Overlay struct {
	Name       Name
	Scope      Scope
	Owner      string // stack, empty if no stack is
	Internal   bool
	Encrypted  bool
	Attachable bool
	Subnet     netip.Prefix // zero: Docker chooses
	Members    []Member
}

// Member is a service on a network, and what put it there.
type Member struct {
	Stack, Service string
	Why            string
}

// Compare orders members by stack and service.
func (m Member) Compare(o Member) int {
	return cmp.Or(cmp.Compare(m.Stack, o.Stack), cmp.Compare(m.Service, o.Service), cmp.Compare(m.Why, o.Why))
}

// Map is every overlay of the cluster.
type Map []Overlay

// Sorted returns the overlays by name, their members in order and once each.
func (m Map) Sorted() Map {
	out := slices.Clone(m)
	for i, o := range out {
		out[i].Members = slices.Compact(slices.SortedFunc(slices.Values(o.Members), Member.Compare))
	}
	slices.SortStableFunc(out, func(a, b Overlay) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
