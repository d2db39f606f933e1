package label

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"
)

// covers reports whether a site for h also answers for the host o when no site
// names it: h stands for every name, or its labels "*" for one label each.
func (h Host) covers(o Host) bool {
	if h == "" || h == o {
		return h != o
	}
	for {
		mine, restMine, moreMine := strings.Cut(string(h), ".")
		its, restIts, moreIts := strings.Cut(string(o), ".")
		if mine != "*" && mine != its || moreMine != moreIts {
			return false
		}
		if !moreMine {
			return true
		}
		h, o = Host(restMine), Host(restIts)
	}
}

func (h Host) wildcard() bool { return h == "" || slices.Contains(strings.Split(string(h), "."), "*") }

// wildcards are the claims to more than one host, the narrowest first.
func wildcards(claims []Claim) []Claim {
	out := slices.DeleteFunc(slices.Clone(claims), func(c Claim) bool { return !c.Host.wildcard() })
	width := func(c Claim) int {
		if c.Host == "" {
			return math.MaxInt
		}
		return strings.Count(string(c.Host), "*")
	}
	slices.SortStableFunc(out, func(a, b Claim) int { return cmp.Compare(width(a), width(b)) })
	return out
}

// hold returns the hosts whose stack stopped asking for them a moment ago and
// that a wildcard of another stack would answer for. Nobody does: what their
// visitors send, cookies and all, is not for that stack.
func hold(claims []Claim) []Host {
	wild := wildcards(claims)
	var out []Host
	for _, c := range claims {
		if c.Left.IsZero() {
			continue
		}
		i := slices.IndexFunc(wild, func(w Claim) bool { return w.Left.IsZero() && w.Host.covers(c.Host) })
		if i >= 0 && wild[i].Stack != c.Stack {
			out = append(out, c.Host)
		}
	}
	return out
}

// reserved finds the wildcard that the policy keeps to its stack, if the host
// lies below one of another stack.
func (p Policy) reserved(wild []Claim, host Host, stack Stack) (Claim, bool) {
	if len(p.names[Reserve]) == 0 {
		return Claim{}, false
	}
	i := slices.IndexFunc(wild, func(w Claim) bool {
		return w.Stack != stack && w.Host.covers(host) && slices.Contains(p.names[Reserve], string(w.Host))
	})
	if i < 0 {
		return Claim{}, false
	}
	return wild[i], true
}

// settleReserved settles who has which host where the policy reserves
// wildcards: what lies below one is no other stack's, even if it had it before.
func (p Policy) settleReserved(before []Claim, wishes []wish, now time.Time, grace time.Duration) []Claim {
	claims := settle(before, wishes, now, grace)
	if len(p.names[Reserve]) == 0 {
		return claims
	}
	wild := wildcards(claims)
	before = slices.DeleteFunc(slices.Clone(before), func(c Claim) bool {
		_, not := p.reserved(wild, c.Host, c.Stack)
		return not
	})
	wishes = slices.DeleteFunc(slices.Clone(wishes), func(w wish) bool {
		_, not := p.reserved(wild, w.host, w.stack)
		return not
	})
	return settle(before, wishes, now, grace)
}
