package txtmark

import (
	"slices"
	"strings"
	"testing"

	"skep/networks"
	"skep/services/dns"
)

func TestName(t *testing.T) {
	for _, name := range []string{"a.example.com", "*.example.com", "example.com", "*.a.example.com"} {
		mark, err := Name(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := marked(mark); !ok || got != name {
			t.Errorf("%s marks %s, not %s", mark, got, name)
		}
		if _, err := (networks.Record{Name: mark, Type: networks.TXT}).Canonical(); err != nil {
			t.Errorf("%s is no name: %v", mark, err)
		}
	}
	if _, err := Name(strings.Repeat("abcdefg.", 31) + "com"); err == nil {
		t.Error("a name that leaves no room for its mark")
	}
}

// A record that a person adds to a marked name is not the cluster's.
func TestClaim(t *testing.T) {
	ours := networks.Record{Name: "a.example.com", Type: networks.A, Content: "192.0.2.1"}
	theirs := networks.Record{Name: "a.example.com", Type: networks.A, Content: "192.0.2.2"}
	mark := networks.Record{Name: "_skep.a.example.com", Type: networks.TXT, Content: For(dns.NewMark("homelab", "s/t"), ours).Text()}
	stray := networks.Record{Name: "_skep.b.example.com", Type: networks.TXT, Content: For(dns.NewMark("homelab", "s/t"), ours).Text()}
	text := networks.Record{Name: "_skep.c.example.com", Type: networks.TXT, Content: "a person's"}
	var live []dns.Live
	for _, r := range []networks.Record{theirs, mark, ours, stray, text} {
		live = append(live, dns.Live{Record: r})
	}
	got := Claim(live)
	at := func(r networks.Record) dns.Live {
		i := slices.IndexFunc(got, func(l dns.Live) bool { return l.Record == r })
		if i < 0 {
			t.Fatalf("%v is not there: %v", r, got)
		}
		return got[i]
	}
	if len(got) != 4 || at(ours).Mark == nil || at(theirs).Mark != nil || at(text).Mark != nil {
		t.Errorf("claimed %v", got)
	}
	stray.Name = "b.example.com"
	if orphan := at(stray); !orphan.Orphan || orphan.Mark == nil {
		t.Errorf("the stray mark: %v", orphan)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("skep=homelab owner=a/b rr=a:010203040506")
	f.Add("skep=homelab rr=,, rr=x")
	f.Add("skep")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(e.Text())
		if err != nil || again.Mark != e.Mark {
			t.Errorf("%q reads as %v, and that as %v (%v)", text, e, again, err)
		}
	})
}
