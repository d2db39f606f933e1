package label

import (
	"cmp"
	"slices"
	"time"
)

// Host is a name that sites answer for, in lower case; empty for a site that
// answers for every name.
type Host string

// Claim says that a host belongs to a stack.
type Claim struct {
	Host  Host      `json:"host"`
	Stack Stack     `json:"stack"`
	Since time.Time `json:"since"`
	// Left is when the stack stopped asking for the host.
	Left time.Time `json:"left,omitzero"`
}

// wish is a stack that asks for a host.
type wish struct {
	host    Host
	stack   Stack
	created time.Time
	name    string // of the service
}

// settle gives each host to the stack that had it first: by the claims of
// before, else by the creation of the service that asks. A stack that stops
// asking keeps its host for a grace period, so that nobody takes it over
// during a redeployment. The claims come back in order of hosts.
func settle(before []Claim, wishes []wish, now time.Time, grace time.Duration) []Claim {
	wishes = slices.Clone(wishes)
	slices.SortFunc(wishes, func(a, b wish) int {
		return cmp.Or(cmp.Compare(a.host, b.host), a.created.Compare(b.created), cmp.Compare(a.name, b.name), cmp.Compare(a.stack, b.stack))
	})
	type ask struct {
		host  Host
		stack Stack
	}
	asks := make(map[ask]bool, len(wishes))
	for _, w := range wishes {
		asks[ask{w.host, w.stack}] = true
	}
	held := make(map[Host]Claim, len(before))
	for _, c := range before {
		switch {
		case asks[ask{c.Host, c.Stack}]:
			c.Left = time.Time{}
		case c.Left.IsZero():
			c.Left = now
		case now.Sub(c.Left) >= grace:
			continue
		}
		held[c.Host] = c
	}
	for _, w := range wishes {
		if _, ok := held[w.host]; !ok {
			held[w.host] = Claim{Host: w.host, Stack: w.stack, Since: now}
		}
	}
	out := make([]Claim, 0, len(held))
	for _, c := range held {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Claim) int { return cmp.Compare(a.Host, b.Host) })
	return out
}
