// Package dnstest holds the conformance suite that every DNS provider passes,
// fakes that follow published APIs, and real DNS servers for tests.
package dnstest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"skep/networks"
	"skep/services/dns"
)

// Subject is an empty zone.
type Subject struct {
	Domain   string
	Provider dns.Provider
	// ByHand writes a record as a person does.
	ByHand func(t *testing.T, r networks.Record)
	// Size counts what lies in the zone, marks included, but for what a server
	// needs to serve it.
	Size func(t *testing.T) int
}

var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// zone is a run of the suite's cluster on the subject.
type zone struct {
	*testing.T
	subject Subject
	options dns.Options
}

func (z *zone) record(name string, kind networks.RecordType, content string) networks.Record {
	if name != "" {
		name += "."
	}
	return networks.Record{Name: name + z.subject.Domain, Type: kind, Content: content, Owner: "stack/service"}
}

func (z *zone) plan(records ...networks.Record) dns.Plan {
	z.Helper()
	zones := dns.Zones([]networks.Zone{{Name: "test", Domain: z.subject.Domain, Records: records}})
	plan, err := dns.Read(z.Context(), z.subject.Provider, zones[0], z.options)
	if err != nil {
		z.Fatalf("plan: %v", err)
	}
	return plan
}

// sync applies a plan, and wants the next to be empty.
func (z *zone) sync(records ...networks.Record) dns.Plan {
	z.Helper()
	plan := z.plan(records...)
	if err := dns.Apply(z.Context(), z.subject.Provider, plan, func(dns.Change, error) {}); err != nil {
		z.Fatalf("apply: %v", err)
	}
	if next := z.plan(records...); next.Pending() {
		z.Fatalf("after the sync the plan is\n%s", text(next))
	}
	return plan
}

func text(p dns.Plan) string {
	var out strings.Builder
	for _, c := range p.Changes {
		fmt.Fprintf(&out, "%s %s %s %s (%s)\n", c.Action, c.Record.Type, c.Record.Name, c.Record.Content, c.Reason)
	}
	for _, c := range p.Conflicts {
		fmt.Fprintf(&out, "refused %s %s: %s\n", c.Record.Type, c.Record.Name, c.Reason)
	}
	return out.String()
}

func (z *zone) actions(p dns.Plan, want ...dns.Action) {
	z.Helper()
	var got []dns.Action
	for _, c := range p.Changes {
		got = append(got, c.Action)
	}
	if !slices.Equal(got, want) {
		z.Fatalf("the plan is %v, want %v\n%s", got, want, text(p))
	}
}

func (z *zone) size(want int) {
	z.Helper()
	if got := z.subject.Size(z.T); got != want {
		z.Fatalf("the zone holds %d records, want %d", got, want)
	}
}

// Conform runs the suite; make gives an empty zone to each test.
func Conform(t *testing.T, make func(t *testing.T) Subject) {
	for _, test := range []struct {
		name string
		run  func(*zone)
	}{
		{"kinds of records", kinds},
		{"update", update},
		{"change of type", changeOfType},
		{"leave and come back", comeBack},
		{"leave for good", leave},
		{"somebody else's", foreign},
		{"two clusters", twoClusters},
		{"cut short", cutShort},
		{"changed meanwhile", changedMeanwhile},
		{"many", many},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.run(&zone{T: t, subject: make(t), options: dns.Options{
				Cluster: "homelab", Now: start, Grace: time.Hour, Share: dns.DefaultShare,
			}})
		})
	}
}

func kinds(z *zone) {
	records := []networks.Record{
		z.record("a", networks.A, "192.0.2.1"),
		z.record("aaaa", networks.AAAA, "2001:db8::1"),
		z.record("deep.below", networks.CNAME, "a."+z.subject.Domain),
		z.record("*.any", networks.A, "192.0.2.2"),
		z.record("", networks.A, "192.0.2.3"),
	}
	z.sync(records...)
	live, err := z.subject.Provider.List(z.Context())
	if err != nil {
		z.Fatal(err)
	}
	for _, want := range records {
		i := slices.IndexFunc(live, func(l dns.Live) bool { return l.Name == want.Name && l.Type == want.Type })
		switch {
		case i < 0:
			z.Errorf("%s %s is not there", want.Type, want.Name)
		case live[i].Content != want.Content:
			z.Errorf("%s %s has %s, want %s", want.Type, want.Name, live[i].Content, want.Content)
		case live[i].Mark == nil || live[i].Mark.Cluster != "homelab" || live[i].Mark.Owner != "stack/service":
			z.Errorf("%s %s has the mark %v", want.Type, want.Name, live[i].Mark)
		}
	}
}

func update(z *zone) {
	r := z.record("a", networks.A, "192.0.2.1")
	z.sync(r)
	size := z.subject.Size(z.T)
	r.Content = "192.0.2.9"
	z.actions(z.sync(r), dns.Update)
	r.TTL = 600
	z.actions(z.sync(r), dns.Update)
	r.Owner = "other/service"
	z.actions(z.sync(r), dns.Update)
	z.size(size)
}

func changeOfType(z *zone) {
	address, alias := z.record("a", networks.A, "192.0.2.1"), z.record("a", networks.CNAME, "target.example.net")
	z.sync(address)
	size := z.subject.Size(z.T)
	z.actions(z.sync(alias), dns.Update)
	z.actions(z.sync(address), dns.Update)
	z.size(size)
}

func comeBack(z *zone) {
	r := z.record("a", networks.CNAME, "target.example.net")
	z.sync(r)
	z.actions(z.sync(), dns.Retire)
	z.options.Now = start.Add(59 * time.Minute)
	plan := z.plan()
	if len(plan.Waiting) != 1 || plan.Next() != start.Add(time.Hour) {
		z.Fatalf("waiting %v until %v", plan.Waiting, plan.Next())
	}
	z.actions(z.sync(r), dns.Restore)
	z.options.Now = start.Add(2 * time.Hour)
	z.actions(z.sync(), dns.Retire) // the time counts anew
}

func leave(z *zone) {
	z.size(0)
	z.sync(z.record("a", networks.CNAME, "target.example.net"), z.record("*.b", networks.A, "192.0.2.1"))
	z.actions(z.sync(), dns.Retire, dns.Retire)
	z.options.Now = start.Add(time.Hour)
	z.actions(z.sync(), dns.Remove, dns.Remove)
	z.size(0)
}

func foreign(z *zone) {
	byHand := []networks.Record{
		z.record("a", networks.A, "192.0.2.1"),
		z.record("b", networks.CNAME, "target.example.net"),
		z.record("c", networks.TXT, "hello"),
		z.record("same", networks.A, "192.0.2.4"),
	}
	for _, r := range byHand {
		z.subject.ByHand(z.T, r)
	}
	wanted := []networks.Record{
		z.record("a", networks.A, "192.0.2.9"),
		z.record("b", networks.CNAME, "other.example.net"),
		z.record("c", networks.CNAME, "other.example.net"),
		z.record("same", networks.A, "192.0.2.4"),
	}
	plan := z.sync(wanted...)
	z.actions(plan)
	if len(plan.Conflicts) != 3 || plan.Foreign != 1 {
		z.Errorf("%d conflicts, %d foreign\n%s", len(plan.Conflicts), plan.Foreign, text(plan))
	}
	z.options.Grace = 0
	z.actions(z.sync())
	z.size(len(byHand))
	for _, r := range byHand {
		z.has(r)
	}
}

// has wants a record to be there as it is.
func (z *zone) has(r networks.Record) {
	z.Helper()
	live, err := z.subject.Provider.List(z.Context())
	if err != nil {
		z.Fatal(err)
	}
	if !slices.ContainsFunc(live, func(l dns.Live) bool { return l.Name == r.Name && l.Type == r.Type && l.Content == r.Content }) {
		z.Errorf("%s %s %s is gone", r.Type, r.Name, r.Content)
	}
}

func twoClusters(z *zone) {
	theirs := z.record("a", networks.A, "192.0.2.1")
	z.options.Cluster = "other"
	z.sync(theirs)
	z.options.Cluster = "homelab"
	z.options.Grace = 0
	plan := z.sync(z.record("a", networks.A, "192.0.2.2"), z.record("b", networks.A, "192.0.2.3"))
	z.actions(plan, dns.Create)
	if len(plan.Conflicts) != 1 || !strings.Contains(plan.Conflicts[0].Reason, "of cluster other") {
		z.Errorf("conflicts: %v", plan.Conflicts)
	}
	z.actions(z.sync(), dns.Remove)
	z.has(theirs)
	z.options.Cluster = "other"
	z.actions(z.sync(theirs))
}

// cutShort makes each change twice, as a run does that was ended before it
// heard of its success.
func cutShort(z *zone) {
	r := z.record("a", networks.A, "192.0.2.1")
	twice := func(records ...networks.Record) {
		z.Helper()
		plan := z.plan(records...)
		for _, c := range plan.Changes {
			if err := z.subject.Provider.Apply(z.Context(), c); err != nil {
				z.Fatalf("%s: %v", c.Action, err)
			}
			if err := z.subject.Provider.Apply(z.Context(), c); err != nil && !errors.Is(err, dns.ErrChanged) {
				z.Fatalf("%s again: %v", c.Action, err)
			}
		}
		z.actions(z.sync(records...))
	}
	twice(r)
	size := z.subject.Size(z.T)
	r.Content = "192.0.2.2"
	twice(r)
	z.size(size)
	twice()
	z.options.Now = start.Add(time.Hour)
	twice()
	z.size(0)
}

// changedMeanwhile: somebody removes the record between plan and change.
func changedMeanwhile(z *zone) {
	r := z.record("a", networks.A, "192.0.2.1")
	z.sync(r)
	r.Content = "192.0.2.2"
	stale := z.plan(r)
	z.options.Grace = 0
	removal := z.sync()
	if err := z.subject.Provider.Apply(z.Context(), stale.Changes[0]); !errors.Is(err, dns.ErrChanged) {
		z.Errorf("update of a record that is gone: %v", err)
	}
	if err := z.subject.Provider.Apply(z.Context(), removal.Changes[0]); err != nil {
		z.Errorf("removal of a record that is gone: %v", err)
	}
	z.size(0)
}

func many(z *zone) {
	var records []networks.Record
	first := netip.MustParseAddr("198.18.0.1")
	for i, addr := 0, first; i < 130; i, addr = i+1, addr.Next() {
		records = append(records, z.record(fmt.Sprintf("host%03d", i), networks.A, addr.String()))
	}
	z.sync(records...)
	plan := z.plan()
	if len(plan.Held) != len(records) || plan.Pending() {
		z.Fatalf("%d held, want all", len(plan.Held))
	}
	z.options.Grace, z.options.Force = 0, true
	z.sync()
	z.size(0)
}
