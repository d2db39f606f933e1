package cloudflare_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"skep/networks"
	"skep/services/dns"
	"skep/services/dns/cloudflare"
	"skep/services/dns/dnstest"
)

func client(t *testing.T, f *dnstest.Cloudflare) *cloudflare.Client {
	t.Helper()
	c, err := cloudflare.NewClient(f.URL, f.Token)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConformance(t *testing.T) {
	for _, domain := range []string{"example.com", "admin.example.com"} {
		t.Run(domain, func(t *testing.T) {
			dnstest.Conform(t, func(t *testing.T) dnstest.Subject {
				fake := dnstest.NewCloudflare(t, "example.com")
				return dnstest.Subject{
					Domain:   domain,
					Provider: client(t, fake).Zone(domain),
					ByHand:   func(t *testing.T, r networks.Record) { fake.Insert(t, r, "") },
					Size:     func(t *testing.T) int { return fake.Size(t) },
				}
			})
		})
	}
}

func sync(t *testing.T, p dns.Provider, domain string, records ...networks.Record) dns.Plan {
	t.Helper()
	zones := dns.Zones([]networks.Zone{{Name: "public", Domain: domain, Records: records}})
	plan, err := dns.Read(t.Context(), p, zones[0], dns.Options{Cluster: "homelab", Now: time.Now(), Share: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := dns.Apply(t.Context(), p, plan, func(dns.Change, error) {}); err != nil {
		t.Fatal(err)
	}
	return plan
}

const tunnel = "6ff42ae2-765d-4adf-8112-31c55c1551ef.cfargotunnel.com"

func TestTunnelRecords(t *testing.T) {
	fake := dnstest.NewCloudflare(t, "example.com")
	zone := client(t, fake).Zone("example.com")
	record := networks.Record{Name: "app.example.com", Type: networks.CNAME, Content: tunnel, Proxied: true, Owner: "apps/app"}
	apex := networks.Record{Name: "example.com", Type: networks.CNAME, Content: tunnel, Proxied: true, Owner: "apps/home"}
	fake.Insert(t, networks.Record{Name: "example.com", Type: "MX", Content: "mail.example.com"}, "")
	sync(t, zone, "example.com", record, apex)
	live, err := zone.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	proxied := 0
	for _, l := range live {
		if l.Proxied && l.Content == tunnel {
			proxied++
		}
	}
	if proxied != 2 {
		t.Errorf("%d records lead proxied into the tunnel, want 2: %v", proxied, live)
	}
	if got := fake.Comments()["app.example.com"]; got != "skep=homelab owner=apps/app" {
		t.Errorf("the comment is %q", got)
	}
	record.Proxied = false
	if plan := sync(t, zone, "example.com", record, apex); len(plan.Changes) != 1 || plan.Changes[0].Reason != "the proxy is on" {
		t.Errorf("switching the proxy off: %v", plan.Changes)
	}
}

// Zones of the cluster that share a zone of the account leave each other alone.
func TestZoneInsideAZone(t *testing.T) {
	fake := dnstest.NewCloudflare(t, "example.com")
	c := client(t, fake)
	zones := dns.Zones([]networks.Zone{
		{Name: "public", Domain: "example.com"},
		{Name: "admin", Domain: "admin.example.com", Records: []networks.Record{{Name: "db.admin.example.com", Type: networks.A, Content: "203.0.113.10"}}},
	})
	for round := range 2 {
		for _, z := range zones {
			p := c.Zone(z.Domain)
			plan, err := dns.Read(t.Context(), p, z, dns.Options{Cluster: "homelab", Now: time.Now(), Share: 1})
			if err != nil {
				t.Fatal(err)
			}
			if err := dns.Apply(t.Context(), p, plan, func(dns.Change, error) {}); err != nil {
				t.Fatal(err)
			}
			if round > 0 && plan.Pending() {
				t.Errorf("zone %s wants %v of what is there", z.Name, plan.Changes)
			}
		}
		if fake.Size(t) != 1 {
			t.Fatalf("%d records, want 1", fake.Size(t))
		}
	}
}

func TestRateLimit(t *testing.T) {
	fake := dnstest.NewCloudflare(t, "example.com")
	c := client(t, fake)
	var waited []time.Duration
	c.SetWait(func(_ context.Context, d time.Duration) error {
		waited = append(waited, d)
		return nil
	})
	fake.Limit(2, "3")
	sync(t, c.Zone("example.com"), "example.com", networks.Record{Name: "a.example.com", Type: networks.A, Content: "192.0.2.1"})
	if len(waited) != 2 || waited[0] != 3*time.Second || waited[1] < waited[0] {
		t.Errorf("waited %v", waited)
	}
	fake.Limit(1, "86400")
	if _, err := c.Zone("example.com").List(t.Context()); err == nil || !strings.Contains(err.Error(), "24h") {
		t.Errorf("a day's wait: %v", err)
	}
	fake.Limit(100, "1")
	if _, err := c.Zone("example.com").List(t.Context()); err == nil || !strings.Contains(err.Error(), "429") {
		t.Errorf("limits without end: %v", err)
	}
}

// A redirect would take the token along, and make a GET of a write.
func TestRedirect(t *testing.T) {
	from, reached := dnstest.Redirect(t)
	c, err := cloudflare.NewClient(from, "t")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Zone("example.com").List(t.Context()); err == nil || !strings.Contains(err.Error(), "a redirect, which is not followed") || reached() {
		t.Errorf("got %v, followed %t", err, reached())
	}
}

func TestErrors(t *testing.T) {
	fake := dnstest.NewCloudflare(t, "example.com")
	wrong, err := cloudflare.NewClient(fake.URL, "not-the-token")
	if err != nil {
		t.Fatal(err)
	}
	_, err = wrong.Zone("example.com").List(t.Context())
	if err == nil || !strings.Contains(err.Error(), "Invalid access token (9109)") || strings.Contains(err.Error(), "not-the-token") {
		t.Errorf("a wrong token: %v", err)
	}
	if _, err := client(t, fake).Zone("example.net").List(t.Context()); err == nil || !strings.Contains(err.Error(), "no zone of example.net") {
		t.Errorf("no such zone: %v", err)
	}
	if _, err := cloudflare.NewClient(fake.URL, ""); err == nil {
		t.Error("no token, and no error")
	}
	edge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "<html>error code: 1015</html>", http.StatusForbidden)
	}))
	defer edge.Close()
	odd, err := cloudflare.NewClient(edge.URL, "t")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := odd.Zone("example.com").List(t.Context()); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("an answer of the edge: %v", err)
	}
}
