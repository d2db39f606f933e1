package rfc2136

import (
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"skep/networks"
	"skep/services/dns"
	"skep/services/dns/dnstest"
)

// Whoever changes the records between the last look and the update wins: the
// server refuses the update.
func TestPrerequisites(t *testing.T) {
	for name, start := range map[string]func(testing.TB, string) *dnstest.Server{"knot": dnstest.Knot, "bind": dnstest.BIND} {
		t.Run(name, func(t *testing.T) {
			server := start(t, "example.com.")
			z, err := New("example.com", Config{Server: server.Addr, Key: dnstest.Key, Secret: dnstest.Secret})
			if err != nil {
				t.Fatal(err)
			}
			if err := z.find(t.Context()); err != nil {
				t.Fatal(err)
			}
			refused := func(c dns.Change, meanwhile networks.Record) {
				t.Helper()
				u, err := z.update(t.Context(), c)
				if err != nil {
					t.Fatal(err)
				}
				server.Insert(t, meanwhile)
				size := server.Size(t)
				answer, err := z.exchange(t.Context(), u)
				if err != nil || answer.Rcode == mdns.RcodeSuccess || server.Size(t) != size {
					t.Errorf("%s after somebody's change: %v %v", c.Action, answer, err)
				}
			}
			mark := dns.NewMark("homelab", "a/b")
			alias := networks.Record{Name: "new.example.com", Type: networks.CNAME, Content: "x.example.net"}
			theirs := networks.Record{Name: "new.example.com", Type: networks.A, Content: "192.0.2.9"}
			refused(dns.Change{Action: dns.Create, Record: alias, Mark: mark}, theirs)

			address := networks.Record{Name: "a.example.com", Type: networks.A, Content: "192.0.2.1"}
			if err := z.Apply(t.Context(), dns.Change{Action: dns.Create, Record: address, Mark: mark}); err != nil {
				t.Fatal(err)
			}
			old := &dns.Live{Record: address, Mark: &mark}
			gone := mark
			gone.Gone = time.Unix(1, 0)
			for i, c := range []dns.Change{
				{Action: dns.Update, Record: networks.Record{Name: "a.example.com", Type: networks.A, Content: "192.0.2.2"}, Mark: mark, Old: old},
				{Action: dns.Retire, Record: address, Mark: gone, Old: old},
				{Action: dns.Remove, Record: address, Mark: mark, Old: old},
			} {
				refused(c, networks.Record{Name: "a.example.com", Type: networks.A, Content: []string{"192.0.2.7", "192.0.2.8", "192.0.2.9"}[i]})
			}
		})
	}
}
