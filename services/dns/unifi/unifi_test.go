package unifi_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"skep/networks"
	"skep/services/dns"
	"skep/services/dns/dnstest"
	"skep/services/dns/unifi"
)

func open(t *testing.T, f *dnstest.UniFi) *unifi.Zone {
	t.Helper()
	zone, err := unifi.New(unifi.Config{URL: f.URL, Key: f.Key})
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func TestConformance(t *testing.T) {
	dnstest.Conform(t, func(t *testing.T) dnstest.Subject {
		fake := dnstest.NewUniFi(t)
		t.Cleanup(func() { startsDnsmasq(t, fake.Dnsmasq()) })
		return dnstest.Subject{
			Domain:   "in.example.com",
			Provider: open(t, fake),
			ByHand:   func(_ *testing.T, r networks.Record) { fake.Insert(r, true) },
			Size:     func(t *testing.T) int { return fake.Size(t) },
		}
	})
}

// startsDnsmasq asks dnsmasq itself whether it would start; the test goes on
// without it where it is not installed.
func startsDnsmasq(t *testing.T, config string) {
	t.Helper()
	path, err := exec.LookPath("dnsmasq")
	if err != nil {
		path = "/usr/sbin/dnsmasq"
		if _, err := os.Stat(path); err != nil {
			if os.Getenv("SKEP_NO_SKIP") == "1" {
				t.Error("this test needs dnsmasq: apt-get install dnsmasq-base")
			}
			return
		}
	}
	file := filepath.Join(t.TempDir(), "dnsmasq.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(path, "--test", "--conf-file="+file).CombinedOutput(); err != nil {
		t.Errorf("dnsmasq does not start: %s\n%s", out, config)
	}
}

func plan(t *testing.T, p dns.Provider, records ...networks.Record) dns.Plan {
	t.Helper()
	zones := dns.Zones([]networks.Zone{{Name: "internal", Domain: "in.example.com", Records: records}})
	out, err := dns.Read(t.Context(), p, zones[0], dns.Options{Cluster: "homelab", Now: time.Now(), Share: 1})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func cname(name, target string) networks.Record {
	return networks.Record{Name: name + ".in.example.com", Type: networks.CNAME, Content: target, Owner: "stack/service"}
}

// What would stop the gateway's DNS never gets there.
func TestTraps(t *testing.T) {
	for name, test := range map[string]struct {
		byHand  []networks.Record
		wanted  []networks.Record
		refused string
	}{
		"a wildcard": {wanted: []networks.Record{cname("*", "node.in.example.com")}, refused: "wildcard CNAME"},
		"a second CNAME": {
			wanted: []networks.Record{cname("a", "node1.in.example.com"), cname("a", "node2.in.example.com")}, refused: "wanted twice"},
		"two CNAMEs by hand": {
			byHand: []networks.Record{cname("a", "node1.in.example.com"), cname("a", "node2.in.example.com")},
			wanted: []networks.Record{cname("a", "node1.in.example.com")}, refused: "two CNAMEs"},
		"a CNAME by hand": {
			byHand: []networks.Record{cname("a", "node1.in.example.com")},
			wanted: []networks.Record{cname("a", "node2.in.example.com")}, refused: "made by hand"},
		"a loop with a CNAME by hand": {
			byHand: []networks.Record{cname("b", "a.in.example.com")},
			wanted: []networks.Record{cname("a", "b.in.example.com")}, refused: "lead back"},
	} {
		t.Run(name, func(t *testing.T) {
			fake := dnstest.NewUniFi(t)
			for _, r := range test.byHand {
				fake.Insert(r, true)
			}
			p := plan(t, open(t, fake), test.wanted...)
			if p.Pending() || len(p.Conflicts) != len(test.wanted) || !strings.Contains(p.Conflicts[0].Reason, test.refused) {
				t.Errorf("changes %v, conflicts %v", p.Changes, p.Conflicts)
			}
		})
	}
}

// A CNAME that somebody makes between the plan and the change.
func TestTrapAfterThePlan(t *testing.T) {
	fake := dnstest.NewUniFi(t)
	zone := open(t, fake)
	p := plan(t, zone, cname("a", "node1.in.example.com"))
	fake.Insert(cname("a", "node2.in.example.com"), true)
	if err := dns.Apply(t.Context(), zone, p, func(dns.Change, error) {}); err == nil {
		t.Error("a second CNAME was made")
	}
	startsDnsmasq(t, fake.Dnsmasq())
}

func TestSwitchedOff(t *testing.T) {
	fake := dnstest.NewUniFi(t)
	fake.Insert(cname("a", "node1.in.example.com"), false)
	p := plan(t, open(t, fake), cname("a", "node1.in.example.com"))
	if p.Pending() || len(p.Conflicts) != 1 || !strings.Contains(p.Conflicts[0].Reason, "switched off") {
		t.Errorf("changes %v, conflicts %v", p.Changes, p.Conflicts)
	}
}

// Whatever request fails, the next run ends where an undisturbed one does.
func TestCutShortAnywhere(t *testing.T) {
	old, changed := cname("a", "node1.in.example.com"), cname("a", "node2.in.example.com")
	address := networks.Record{Name: old.Name, Type: networks.A, Content: "10.0.0.1", Owner: old.Owner}
	for name, step := range map[string]struct{ before, after []networks.Record }{
		"create": {nil, []networks.Record{old}},
		"update": {[]networks.Record{old}, []networks.Record{changed}},
		"type":   {[]networks.Record{old}, []networks.Record{address}},
		"remove": {[]networks.Record{old}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n++ {
				fake := dnstest.NewUniFi(t)
				zone := open(t, fake)
				apply := func(records []networks.Record) error {
					return dns.Apply(t.Context(), zone, plan(t, zone, records...), func(dns.Change, error) {})
				}
				if err := apply(step.before); err != nil {
					t.Fatal(err)
				}
				p := plan(t, zone, step.after...)
				fake.FailAt(n + 1) // the first reads the records, and is repeated
				failed := dns.Apply(t.Context(), zone, p, func(dns.Change, error) {}) != nil
				fake.FailAt(0)
				if err := apply(step.after); err != nil {
					t.Fatalf("request %d failed; then: %v", n, err)
				}
				if err := apply(step.after); err != nil {
					t.Fatal(err)
				}
				if p := plan(t, zone, step.after...); p.Pending() || len(p.Conflicts) > 0 || fake.Size(t) != 2*len(step.after) {
					t.Fatalf("request %d failed; then changes %v, conflicts %v, %d records", n, p.Changes, p.Conflicts, fake.Size(t))
				}
				if !failed {
					return
				}
			}
		})
	}
}

// A redirect would take the key along, and make a GET of a write.
func TestRedirect(t *testing.T) {
	from, reached := dnstest.Redirect(t)
	zone, err := unifi.New(unifi.Config{URL: from, Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := zone.List(t.Context()); err == nil || !strings.Contains(err.Error(), "a redirect, which is not followed") || reached() {
		t.Errorf("got %v, followed %t", err, reached())
	}
}

func TestErrors(t *testing.T) {
	fake := dnstest.NewUniFi(t)
	zone, err := unifi.New(unifi.Config{URL: fake.URL, Key: "wrong-key"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := zone.List(t.Context()); err == nil || !strings.Contains(err.Error(), "401") || strings.Contains(err.Error(), "wrong-key") {
		t.Errorf("a wrong key: %v", err)
	}
	for name, c := range map[string]unifi.Config{"no key": {URL: fake.URL}, "no scheme": {URL: "192.168.1.1", Key: "k"}} {
		if _, err := unifi.New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
