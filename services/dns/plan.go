package dns

import (
	"cmp"
	"slices"
	"time"

	"skep/networks"
)

// Action is what a change does.
type Action string

const (
	Create  Action = "create"
	Update  Action = "update"  // of content, TTL, proxy or mark; the type may change
	Restore Action = "restore" // it was on its way out and is wanted again
	Retire  Action = "retire"  // not wanted any more: the mark says since when
	Remove  Action = "remove"
)

// Change is one step of a plan.
type Change struct {
	Action Action
	// Record is what the record becomes, or is where it goes.
	Record networks.Record
	Mark   Mark  // what the record is marked with from now on; of no use to Remove
	Old    *Live // nil to create
	// Reason says why, for people.
	Reason string
	// Due is when a record on its way out is removed; zero otherwise.
	Due time.Time
	// first: it makes room for the others.
	first bool
}

// Plan is what it takes to bring a zone to its records.
type Plan struct {
	Zone     string
	Domain   string
	Provider string
	Changes  []Change // in the order to make them
	// Held are records on their way out that are too many at once.
	Held      []Change
	Waiting   []Change // to be removed when their time has come
	Conflicts []Conflict
	Unchanged int
	// Foreign counts wanted records that somebody else has made already.
	Foreign int
}

// Options of a plan.
type Options struct {
	Cluster Cluster
	Now     time.Time
	// Grace is how long a record stays after nothing wants it any more.
	Grace time.Duration
	// Share is the part of the cluster's records in a zone that may begin to go
	// at once.
	Share float64
	Force bool // however many
	// Stale: what is wanted may be out of date, so that no record goes or begins
	// to.
	Stale bool
	// Keep picks names that something answers to that the zone does not know of:
	// their records stay as they are. Nil picks none.
	Keep func(name string) bool
}

// Defaults of the options.
const (
	DefaultGrace = 10 * time.Minute
	DefaultShare = 0.3
)

// freeRemovals may always begin to go: a share of three records says little.
const freeRemovals = 2

// Compare plans one zone.
func Compare(zone Zone, live []Live, traits Traits, o Options) Plan {
	zone = zone.Fit(traits)
	c := comparison{
		zone: zone, traits: traits, options: o,
		plan:    Plan{Zone: zone.Name, Domain: zone.Domain, Provider: zone.Provider, Conflicts: slices.Clone(zone.Refused)},
		desired: map[string][]networks.Record{}, mine: map[string][]Live{}, foreign: map[string][]Live{}, refused: map[string]bool{},
	}
	c.read(live)
	for _, name := range sortedKeys(c.desired) {
		c.name(name, c.desired[name])
	}
	for _, name := range sortedKeys(c.mine) {
		if len(c.desired[name]) == 0 && !c.refused[name] {
			for _, l := range c.mine[name] {
				c.leave(l)
			}
		}
	}
	c.hold()
	slices.SortStableFunc(c.plan.Changes, compareChanges)
	slices.SortFunc(c.plan.Conflicts, func(a, b Conflict) int {
		return cmp.Or(a.Record.Compare(b.Record), cmp.Compare(a.Reason, b.Reason))
	})
	return c.plan
}

// Removes reports whether a record goes, begins to, or would if it were let.
func (p Plan) Removes() bool {
	return len(p.Held) > 0 || slices.ContainsFunc(p.Changes, func(c Change) bool { return c.Action == Retire || c.Action == Remove })
}

type comparison struct {
	zone    Zone
	traits  Traits
	options Options
	plan    Plan

	desired       map[string][]networks.Record // by name
	mine, foreign map[string][]Live            // by name
	refused       map[string]bool              // names that are wanted and not planned: what is there stays
	owned         int
	leaving       []Change // begin to go in this plan
}

func (c *comparison) read(live []Live) {
	for _, l := range live {
		switch {
		case !c.zone.Holds(l.Name), c.kept(l):
		case l.Mark != nil && l.Mark.Cluster == c.options.Cluster:
			c.mine[l.Name] = append(c.mine[l.Name], l)
			if !l.Orphan {
				c.owned++
			}
		case !l.Orphan:
			c.foreign[l.Name] = append(c.foreign[l.Name], l)
		}
	}
	for _, r := range c.zone.Records {
		c.desired[r.Name] = append(c.desired[r.Name], r)
	}
	for _, conflict := range c.zone.Refused {
		c.refused[conflict.Record.Name] = true
	}
	for name, records := range c.desired {
		if c.loops(name) {
			c.refused[name] = true
			c.conflict(records, "the CNAMEs lead back to it")
		}
	}
	for name := range c.refused {
		delete(c.desired, name)
	}
}

// kept reports whether a record of the cluster that nothing wants stays.
func (c *comparison) kept(l Live) bool {
	return l.Mark != nil && l.Mark.Cluster == c.options.Cluster && c.options.Keep != nil && c.options.Keep(l.Name) &&
		!slices.ContainsFunc(c.zone.Records, func(r networks.Record) bool { return r.Name == l.Name })
}

// same compares records but for owner, TTL and proxy.
func same(a, b networks.Record) bool {
	return a.Name == b.Name && a.Type == b.Type && a.Content == b.Content
}

// loops follows CNAMEs through what is wanted and what others have made.
func (c *comparison) loops(name string) bool {
	seen := map[string]bool{}
	for at := name; ; {
		if seen[at] {
			return at == name
		}
		seen[at] = true
		next := ""
		for _, r := range c.desired[at] {
			if isCNAME(r) {
				next = r.Content
			}
		}
		for _, l := range c.foreign[at] {
			if next == "" && isCNAME(l.Record) {
				next = l.Content
			}
		}
		if next == "" {
			return false
		}
		at = next
	}
}

func isCNAME(r networks.Record) bool { return r.Type == networks.CNAME }

// name plans the records of one name.
func (c *comparison) name(name string, wanted []networks.Record) {
	wanted = slices.Clone(wanted)
	mine := slices.Clone(c.mine[name])
	if c.traits.StrictCNAME && count(c.foreign[name], func(l Live) bool { return isCNAME(l.Record) }) > 1 {
		c.conflict(wanted, "somebody has made two CNAMEs of this name, which stop this server: remove one")
		return
	}
	// What somebody else has made just so needs no second record.
	wanted = slices.DeleteFunc(wanted, func(r networks.Record) bool {
		there := slices.ContainsFunc(c.foreign[name], func(l Live) bool { return same(l.Record, r) && !l.Off })
		if there {
			c.plan.Foreign++
		}
		return there
	})
	for _, r := range wanted {
		if other, ok := inTheWay(r, c.foreign[name], c.zone.Domain); ok {
			c.conflict(wanted, other)
			return
		}
	}
	// First what is there already, then a record of the same type, then any.
	for _, match := range []func(networks.Record, Live) bool{
		func(r networks.Record, l Live) bool { return !l.Orphan && same(r, l.Record) },
		func(r networks.Record, l Live) bool { return !l.Orphan && r.Type == l.Type },
		func(r networks.Record, l Live) bool { return !l.Orphan && (isCNAME(r) || isCNAME(l.Record)) },
	} {
		wanted = slices.DeleteFunc(wanted, func(r networks.Record) bool {
			i := slices.IndexFunc(mine, func(l Live) bool { return match(r, l) })
			if i < 0 {
				return false
			}
			c.keep(r, mine[i])
			mine = slices.Delete(mine, i, i+1)
			return true
		})
	}
	for _, r := range wanted {
		c.add(Change{Action: Create, Record: r, Mark: NewMark(c.options.Cluster, r.Owner)})
	}
	cname := slices.ContainsFunc(c.desired[name], isCNAME)
	for _, l := range mine {
		switch {
		case l.Orphan: // the record that is made takes its mark over
		case cname || isCNAME(l.Record):
			c.add(Change{Action: Remove, Record: l.Record, Old: &l, Mark: *l.Mark, Reason: "a CNAME stands alone", first: true})
		default:
			c.leave(l)
		}
	}
}

func count[T any](list []T, is func(T) bool) (n int) {
	for _, v := range list {
		if is(v) {
			n++
		}
	}
	return n
}

func (c *comparison) conflict(wanted []networks.Record, reason string) {
	for _, r := range wanted {
		c.plan.Conflicts = append(c.plan.Conflicts, Conflict{r, reason})
	}
}

// inTheWay finds a record of somebody else that a name cannot be shared with.
func inTheWay(r networks.Record, foreign []Live, domain string) (string, bool) {
	for _, l := range foreign {
		address := l.Type == networks.A || l.Type == networks.AAAA
		switch {
		case isCNAME(l.Record), isCNAME(r), l.Type == "NS" && r.Name != domain:
		case address && (r.Type == networks.A || r.Type == networks.AAAA):
		default:
			continue
		}
		if isCNAME(r) && r.Name == domain && !address && !isCNAME(l.Record) {
			continue // flattened: MX, TXT and the like may stand beside it
		}
		by := "made by hand"
		if l.Mark != nil {
			by = "of cluster " + string(l.Mark.Cluster)
		}
		state := "is there"
		if l.Off {
			state = "is there, switched off"
		}
		return string(l.Type) + " " + l.Content + ", " + by + ", " + state, true
	}
	return "", false
}

// keep brings a record of ours to what is wanted.
func (c *comparison) keep(r networks.Record, l Live) {
	mark := NewMark(c.options.Cluster, r.Owner)
	change := Change{Action: Update, Record: r, Mark: mark, Old: &l}
	switch {
	case l.Type != r.Type || l.Content != r.Content:
		change.Reason = "was " + string(l.Type) + " " + l.Content
	case l.Off:
		change.Reason = "it is switched off"
	case r.TTL != 0 && l.TTL != r.TTL && !l.Proxied:
		change.Reason = "the TTL differs"
	case c.traits.Proxied && l.Proxied != r.Proxied:
		change.Reason = "the proxy is on"
		if r.Proxied {
			change.Reason = "the proxy is off"
		}
	case !l.Mark.Gone.IsZero():
		change.Action, change.Reason = Restore, "it is wanted again"
	case l.Mark.Owner != mark.Owner:
		change.Reason = "its owner was " + cmp.Or(l.Mark.Owner, "nobody")
	default:
		c.plan.Unchanged++
		return
	}
	c.add(change)
}

// leave sees off a record of ours that nothing wants.
func (c *comparison) leave(l Live) {
	change := Change{Action: Remove, Record: l.Record, Mark: *l.Mark, Old: &l, Reason: "nothing wants it"}
	change.Record.Owner = l.Mark.Owner
	begin := l.Mark.Gone.IsZero()
	switch {
	case c.options.Stale:
		change.Reason = "nothing wanted it when the services were last seen"
		if !begin {
			change.Due = l.Mark.Gone.Add(c.options.Grace)
		}
		c.plan.Waiting = append(c.plan.Waiting, change)
		return
	case l.Orphan:
		change.Reason = "it marks no record"
		c.add(change)
		return
	case begin && c.options.Grace > 0:
		change.Action = Retire
		change.Mark.Gone = c.options.Now.UTC().Truncate(time.Second)
	case begin:
	case c.options.Now.Before(l.Mark.Gone.Add(c.options.Grace)):
		change.Due = l.Mark.Gone.Add(c.options.Grace)
		c.plan.Waiting = append(c.plan.Waiting, change)
		return
	}
	if begin {
		change.Due = c.options.Now.UTC().Truncate(time.Second).Add(c.options.Grace)
		c.leaving = append(c.leaving, change)
		return
	}
	c.add(change)
}

// hold lets records go unless they are too many.
func (c *comparison) hold() {
	allowed := max(freeRemovals, int(c.options.Share*float64(c.owned)))
	if len(c.leaving) > allowed && !c.options.Force {
		c.plan.Held = c.leaving
		return
	}
	c.plan.Changes = append(c.plan.Changes, c.leaving...)
}

func (c *comparison) add(change Change) { c.plan.Changes = append(c.plan.Changes, change) }

// compareChanges puts first what stands in the way of the rest and last what
// goes.
func compareChanges(a, b Change) int {
	rank := func(c Change) int {
		switch {
		case c.first:
			return 0
		case c.Action == Retire:
			return 2
		case c.Action == Remove:
			return 3
		}
		return 1
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), a.Record.Compare(b.Record))
}

// Pending reports whether applying the plan would change anything.
func (p Plan) Pending() bool { return len(p.Changes) > 0 }

// Next is when a record on its way out is due; zero if none is.
func (p Plan) Next() time.Time {
	var next time.Time
	for _, c := range slices.Concat(p.Waiting, p.Changes) {
		if !c.Due.IsZero() && (next.IsZero() || c.Due.Before(next)) {
			next = c.Due
		}
	}
	return next
}
