package dns

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"skep/generator/problem"
	"skep/networks"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func rec(name string, kind networks.RecordType, content string) networks.Record {
	return networks.Record{Name: name, Type: kind, Content: content, Owner: "stack/service"}
}

// mine is a live record of cluster homelab, gone since a time or not.
func mine(r networks.Record, gone time.Time) Live {
	m := NewMark("homelab", r.Owner)
	m.Gone = gone
	r.Owner = ""
	return Live{Record: r, ID: r.Name, Mark: &m}
}

func compare(records []networks.Record, live []Live, t Traits, o Options) Plan {
	o.Cluster, o.Now = "homelab", now
	if o.Grace == 0 {
		o.Grace = time.Hour
	}
	return Compare(Zones([]networks.Zone{{Name: "z", Domain: "example.com", Records: records}})[0], live, t, o)
}

func summary(p Plan) string {
	var out []string
	for _, c := range p.Changes {
		out = append(out, fmt.Sprintf("%s %s %s", c.Action, c.Record.Type, c.Record.Name))
	}
	for _, c := range p.Conflicts {
		out = append(out, "refused "+c.Record.Name)
	}
	for _, c := range p.Held {
		out = append(out, "held "+c.Record.Name)
	}
	for _, c := range p.Waiting {
		out = append(out, "waits "+c.Record.Name)
	}
	return strings.Join(out, ", ")
}

func TestCompare(t *testing.T) {
	a, b := rec("a.example.com", networks.A, "192.0.2.1"), rec("b.example.com", networks.CNAME, "a.example.com")
	never := time.Time{}
	other := Mark{Cluster: "other"}
	for name, test := range map[string]struct {
		wanted []networks.Record
		live   []Live
		traits Traits
		want   string
	}{
		"nothing":  {want: ""},
		"new":      {wanted: []networks.Record{b, a}, want: "create A a.example.com, create CNAME b.example.com"},
		"the same": {wanted: []networks.Record{a}, live: []Live{mine(a, never)}, want: ""},
		"gone":     {live: []Live{mine(a, never)}, want: "retire A a.example.com"},
		"waiting":  {live: []Live{mine(a, now.Add(-time.Hour+time.Second))}, want: "waits a.example.com"},
		"due":      {live: []Live{mine(a, now.Add(-time.Hour))}, want: "remove A a.example.com"},
		"back":     {wanted: []networks.Record{a}, live: []Live{mine(a, now)}, want: "restore A a.example.com"},
		"an alias in place of addresses": {
			wanted: []networks.Record{rec("a.example.com", networks.CNAME, "x.example.net")},
			live:   []Live{mine(a, never), mine(rec("a.example.com", networks.AAAA, "2001:db8::1"), now)},
			want:   "remove AAAA a.example.com, update CNAME a.example.com"},
		"two addresses, one changes": {
			wanted: []networks.Record{a, rec("a.example.com", networks.A, "192.0.2.3")},
			live:   []Live{mine(a, never), mine(rec("a.example.com", networks.A, "192.0.2.2"), never)},
			want:   "update A a.example.com"},
		"by hand":       {wanted: []networks.Record{a}, live: []Live{{Record: rec("a.example.com", networks.A, "192.0.2.9")}}, want: "refused a.example.com"},
		"just so":       {wanted: []networks.Record{a}, live: []Live{{Record: a}}, want: ""},
		"the other's":   {wanted: []networks.Record{a}, live: []Live{{Record: rec("a.example.com", networks.AAAA, "2001:db8::1"), Mark: &other}}, want: "refused a.example.com"},
		"not ours":      {live: []Live{{Record: a}, {Record: b, Mark: &other}}, want: ""},
		"mail stays":    {wanted: []networks.Record{a}, live: []Live{{Record: rec("a.example.com", "MX", "10 mail.")}}, want: "create A a.example.com"},
		"mail in way":   {wanted: []networks.Record{b}, live: []Live{{Record: rec("b.example.com", "MX", "10 mail.")}}, want: "refused b.example.com"},
		"delegated":     {wanted: []networks.Record{a}, live: []Live{{Record: rec("a.example.com", "NS", "ns.")}}, want: "refused a.example.com"},
		"apex":          {wanted: []networks.Record{rec("example.com", networks.CNAME, "x.example.net")}, want: "refused example.com"},
		"flat apex":     {wanted: []networks.Record{rec("example.com", networks.CNAME, "x.example.net")}, live: []Live{{Record: rec("example.com", "MX", "m.")}, {Record: rec("example.com", "NS", "n.")}}, traits: Traits{FlattensApex: true}, want: "create CNAME example.com"},
		"outside":       {wanted: []networks.Record{rec("a.example.net", networks.A, "192.0.2.1")}, want: "refused a.example.net"},
		"refused stays": {wanted: []networks.Record{b, rec("b.example.com", networks.A, "192.0.2.1")}, live: []Live{mine(b, never)}, want: "refused b.example.com, refused b.example.com"},
		"loop": {wanted: []networks.Record{rec("a.example.com", networks.CNAME, "b.example.com"), b, rec("c.example.com", networks.CNAME, "a.example.com")},
			want: "create CNAME c.example.com, refused a.example.com, refused b.example.com"},
		"itself":       {wanted: []networks.Record{rec("a.example.com", networks.CNAME, "a.example.com")}, want: "refused a.example.com"},
		"orphan":       {live: []Live{{Record: rec("a.example.com", networks.TXT, "skep=homelab"), Mark: &Mark{Cluster: "homelab"}, Orphan: true}}, want: "remove TXT a.example.com"},
		"orphan taken": {wanted: []networks.Record{a}, live: []Live{{Record: rec("a.example.com", networks.TXT, "skep=homelab"), Mark: &Mark{Cluster: "homelab"}, Orphan: true}}, want: "create A a.example.com"},
		"their orphan": {live: []Live{{Record: rec("a.example.com", networks.TXT, "skep=other"), Mark: &other, Orphan: true}}, want: ""},
		"spelling":     {wanted: []networks.Record{rec("A.Example.COM", networks.A, "192.0.2.1")}, live: []Live{mine(a, never)}, want: ""},
		"proxy of no account": {wanted: []networks.Record{{Name: a.Name, Type: a.Type, Content: a.Content, Owner: a.Owner, Proxied: true}},
			live: []Live{mine(a, never)}, want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := compare(test.wanted, test.live, test.traits, Options{})
			if got := summary(p); got != test.want {
				t.Errorf("got  %s\nwant %s\n%v", got, test.want, p.Conflicts)
			}
		})
	}
}

// What is wanted may be out of date: records are made and mended, and none
// goes or begins to.
func TestStale(t *testing.T) {
	a := rec("a.example.com", networks.A, "192.0.2.1")
	due, gone, never := now.Add(-2*time.Hour), now.Add(-time.Minute), time.Time{}
	live := []Live{
		mine(rec("b.example.com", networks.A, "192.0.2.2"), due),
		mine(rec("c.example.com", networks.A, "192.0.2.3"), never),
		mine(rec("d.example.com", networks.A, "192.0.2.4"), gone),
		mine(rec("e.example.com", networks.A, "192.0.2.9"), never),
		{Record: rec("f.example.com", networks.TXT, "skep=homelab"), Mark: &Mark{Cluster: "homelab"}, Orphan: true},
	}
	wanted := []networks.Record{a, rec("e.example.com", networks.A, "192.0.2.5")}
	p := compare(wanted, live, Traits{}, Options{Stale: true})
	if got, want := summary(p), "create A a.example.com, update A e.example.com, waits b.example.com, waits c.example.com, waits d.example.com, waits f.example.com"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var text strings.Builder
	if err := p.WriteText(&text, problem.Paint{}); err != nil || !strings.Contains(text.String(), "c.example.com  nothing wanted it when") || !strings.Contains(text.String(), "b.example.com  until 2026-11-21T11:00:00Z") {
		t.Errorf("%v\n%s", err, &text)
	}
}

// What somebody answers for stays; a name that is wanted is planned all the same.
func TestKeep(t *testing.T) {
	live := []Live{
		mine(rec("a.example.com", networks.A, "192.0.2.1"), time.Time{}),
		mine(rec("b.example.com", networks.A, "192.0.2.2"), time.Time{}),
		mine(rec("c.example.com", networks.A, "192.0.2.3"), now.Add(-2*time.Hour)),
		mine(rec("d.example.com", networks.A, "192.0.2.4"), time.Time{}),
	}
	wanted := []networks.Record{rec("a.example.com", networks.A, "192.0.2.9")}
	p := compare(wanted, live, Traits{}, Options{Keep: func(name string) bool { return name != "d.example.com" }})
	if got, want := summary(p), "update A a.example.com, retire A d.example.com"; got != want || !p.Removes() {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if p := compare(wanted, live, Traits{}, Options{Keep: func(string) bool { return true }}); p.Removes() {
		t.Errorf("got %s", summary(p))
	}
}

func TestShare(t *testing.T) {
	var live []Live
	for i := range 20 {
		live = append(live, mine(rec(fmt.Sprintf("h%02d.example.com", i), networks.A, "192.0.2.1"), time.Time{}))
	}
	keep := func(n int) []networks.Record {
		var out []networks.Record
		for _, l := range live[:n] {
			r := l.Record
			r.Owner = "stack/service"
			out = append(out, r)
		}
		return out
	}
	o := Options{Share: 0.3}
	if p := compare(keep(14), live, Traits{}, o); len(p.Changes) != 6 || len(p.Held) != 0 {
		t.Errorf("6 of 20: %s", summary(p))
	}
	if p := compare(append(keep(13), rec("new.example.com", networks.A, "192.0.2.1")), live, Traits{}, o); len(p.Changes) != 1 || len(p.Held) != 7 {
		t.Errorf("7 of 20: %s", summary(p))
	}
	o.Force = true
	if p := compare(nil, live, Traits{}, o); len(p.Changes) != 20 {
		t.Errorf("with force: %s", summary(p))
	}
	if p := compare(nil, live[:2], Traits{}, Options{}); len(p.Changes) != 2 {
		t.Errorf("two always may: %s", summary(p))
	}
	for i := range live {
		live[i].Mark.Gone = now.Add(-2 * time.Hour)
	}
	if p := compare(nil, live, Traits{}, Options{}); len(p.Changes) != 20 {
		t.Errorf("what began to go with leave ends so: %s", summary(p))
	}
}

func TestZones(t *testing.T) {
	a := rec("a.in.example.com", networks.A, "192.0.2.1")
	zones := Zones([]networks.Zone{
		{Name: "public", Domain: "example.com", Records: []networks.Record{a, rec("b.in.example.com", networks.A, "192.0.2.1"), rec("c.example.com", networks.A, "not an address")}},
		{Name: "internal", Domain: "IN.example.com", Records: []networks.Record{a, rec("d.in.example.com", networks.A, "192.0.2.1")}},
	})
	if got := len(zones[0].Records) + len(zones[1].Records); got != 1 || len(zones[0].Refused) != 3 || len(zones[1].Refused) != 1 {
		t.Errorf("%d records, refused: %v, %v", got, zones[0].Refused, zones[1].Refused)
	}
	for name, want := range map[string]bool{"example.com": true, "x.example.com": true, "in.example.com": false, "a.in.example.com": false, "xin.example.com": true, "example.org": false} {
		if got := zones[0].Holds(name); got != want {
			t.Errorf("the public zone holds %s: %v", name, got)
		}
	}
}

func TestMark(t *testing.T) {
	long := strings.Repeat("s", 40) + "/" + strings.Repeat("t", 60)
	for _, m := range []Mark{
		NewMark("homelab", "media/sonarr"), NewMark("homelab", long), NewMark(Cluster(strings.Repeat("c", 40)), "a/b"),
		NewMark("homelab", "an owner with spaces"), {Cluster: "homelab", Owner: "a/b", Gone: now},
	} {
		if got, ok := ParseMark(m.String()); !ok || got != m || len(m.String()) > maxMark {
			t.Errorf("%q reads as %v", m, got)
		}
		m.Gone = now
		if len(m.String()) > maxMark {
			t.Errorf("%q is too long for a comment", m)
		}
	}
	for _, text := range []string{"", "skep", "skep=", "skep=UPPER", "made by hand", "my skep=homelab", "skep=homelab gone=yesterday"} {
		if m, ok := ParseMark(text); ok {
			t.Errorf("%q is a mark: %v", text, m)
		}
	}
}

// Whatever lies in a zone, a plan touches only what is marked with the
// cluster's name, and its changes name only what is wanted or was ours.
func FuzzCompare(f *testing.F) {
	f.Add("a A 192.0.2.1\nb CNAME a.example.com", "a A 192.0.2.2 skep=homelab\nc TXT x skep=other\nb CNAME z", 0.3)
	f.Add("* CNAME a.example.com\n@ CNAME b.example.net", "* A 192.0.2.1 skep=homelab gone=2026-11-21T11:00:00Z\n@ MX m", 1.0)
	f.Add("a CNAME b.example.com\nb CNAME a.example.com\na A 192.0.2.1", "\x00 \xff \n a", -1.0)
	f.Fuzz(func(t *testing.T, wanted, live string, share float64) {
		var records []networks.Record
		for line := range strings.Lines(wanted) {
			if w := strings.Fields(line); len(w) >= 3 {
				records = append(records, rec(fuzzName(w[0]), networks.RecordType(w[1]), w[2]))
			}
		}
		var there []Live
		for line := range strings.Lines(live) {
			if w := strings.Fields(line); len(w) >= 3 {
				l := Live{Record: rec(fuzzName(w[0]), networks.RecordType(w[1]), w[2]), ID: line}
				if m, ok := ParseMark(strings.Join(w[3:], " ")); ok {
					l.Mark = &m
				}
				there = append(there, l)
			}
		}
		for _, traits := range []Traits{{}, {FlattensApex: true, Proxied: true}, {StrictCNAME: true}} {
			p := compare(records, there, traits, Options{Share: share})
			final := slices.Clone(there)
			for _, c := range p.Changes {
				if c.Old != nil && (c.Old.Mark == nil || c.Old.Mark.Cluster != "homelab") {
					t.Fatalf("%s %v, which is not ours", c.Action, c.Old)
				}
				if c.Old != nil {
					final = slices.DeleteFunc(final, func(l Live) bool { return l.ID == c.Old.ID })
				}
				if c.Action != Remove {
					final = append(final, Live{Record: c.Record, ID: "new", Mark: &c.Mark})
				}
			}
			for _, c := range p.Changes {
				if c.Action == Create || c.Action == Update {
					alone(t, c, final, traits)
				}
			}
			if _, err := json.Marshal(p); err != nil {
				t.Fatal(err)
			}
			if err := p.WriteText(&strings.Builder{}, problem.Paint{}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func fuzzName(s string) string {
	if s == "@" {
		return "example.com"
	}
	return s + ".example.com"
}

// alone: no change leaves a CNAME beside another record that counts.
func alone(t *testing.T, c Change, final []Live, traits Traits) {
	for _, l := range final {
		if l.Name != c.Record.Name || l.ID == "new" && same(l.Record, c.Record) {
			continue
		}
		flat := traits.FlattensApex && c.Record.Name == "example.com" && l.Type != networks.A && l.Type != networks.AAAA && !isCNAME(l.Record)
		if isCNAME(c.Record) && !flat || isCNAME(l.Record) {
			t.Fatalf("%s %v leaves %v beside it", c.Action, c.Record, l.Record)
		}
	}
}

func TestHold(t *testing.T) {
	h := Hold{Grace: time.Minute}
	a, b := rec("a.example.com", networks.A, "192.0.2.1"), rec("b.example.com", networks.A, "192.0.2.2")
	step := func(at time.Duration, wanted []networks.Record, names string, next time.Duration) {
		t.Helper()
		got, due := h.Update(wanted, now.Add(at))
		var list []string
		for _, r := range got {
			list = append(list, r.Name[:1]+r.Content[len(r.Content)-1:])
		}
		if strings.Join(list, " ") != names || next == 0 && !due.IsZero() || next != 0 && due != now.Add(next) {
			t.Errorf("at %v: %v until %v", at, list, due)
		}
	}
	step(0, []networks.Record{b, a}, "a1 b2", 0)
	step(time.Second, []networks.Record{a}, "a1 b2", 61*time.Second)
	step(30*time.Second, []networks.Record{a, b}, "a1 b2", 0)
	step(40*time.Second, []networks.Record{a}, "a1 b2", 100*time.Second)
	changed := a
	changed.Content = "192.0.2.9"
	step(99*time.Second, []networks.Record{changed}, "a9 b2", 100*time.Second)
	step(100*time.Second, []networks.Record{changed}, "a9", 0)
}
