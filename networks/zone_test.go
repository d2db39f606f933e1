package networks

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

var homelab = Zone{
	Name: "internal", Domain: "in.example.com", Provider: "unifi", Private: true,
	Records: []Record{
		{Name: "sonarr.in.example.com", Type: CNAME, Content: "node1.in.example.com", Owner: "media-core/sonarr"},
		{Name: "Radarr.in.example.com", Type: CNAME, Content: "CDN.Example.net", TTL: 60, Owner: "media-core/radarr"},
		{Name: "in.example.com", Type: A, Content: "203.0.113.10"},
		{Name: "in.example.com", Type: TXT, Content: `v=spf1 "-all" \ ` + "ü"},
		{Name: "node1.in.example.com", Type: A, Content: "10.0.0.11"},
		{Name: "node1.in.example.com", Type: AAAA, Content: "2001:db8:0::11"},
		{Name: "node1.in.example.com", Type: A, Content: "10.0.0.10", Owner: "a/a"},
		{Name: "node1.in.example.com", Type: A, Content: "10.0.0.10", Owner: "b/b"},
		{Name: "*.apps.in.example.com", Type: A, Content: "10.0.0.12"},
		{Name: "_acme-challenge.in.example.com", Type: CNAME, Content: "x._acme.example.net"},
		{Name: "long.in.example.com", Type: TXT, Content: strings.Repeat("0123456789", 30)},
		{Name: "none.in.example.com", Type: TXT},
	},
}

func TestZoneFile(t *testing.T) {
	got, err := homelab.File()
	if err != nil {
		t.Fatal(err)
	}
	checkGolden(t, "zone", got)

	again := homelab
	again.Records = slices.Clone(homelab.Records)
	slices.Reverse(again.Records)
	if other, err := again.File(); err != nil || other != got {
		t.Errorf("another order of records gives another file: %v\n%s", err, other)
	}
}

// TestZoneFileIsRead reads the file back with a parser that is not ours.
func TestZoneFileIsRead(t *testing.T) {
	file, err := homelab.File()
	if err != nil {
		t.Fatal(err)
	}
	parser := dns.NewZoneParser(strings.NewReader(file), "", "")
	got := map[string][]string{}
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		key := rr.Header().Name + " " + dns.TypeToString[rr.Header().Rrtype]
		data := strings.TrimPrefix(rr.String(), rr.Header().String())
		got[key] = append(got[key], data)
		if want := uint32(zoneTTL); rr.Header().Name != "radarr.in.example.com." && rr.Header().Ttl != want {
			t.Errorf("%s has TTL %d", key, rr.Header().Ttl)
		}
	}
	if err := parser.Err(); err != nil {
		t.Fatalf("%v\n%s", err, file)
	}
	for key, want := range map[string][]string{
		"in.example.com. NS":                    {"ns.in.example.com."},
		"in.example.com. A":                     {"203.0.113.10"},
		"in.example.com. TXT":                   {`"v=spf1 \"-all\" \\ \195\188"`},
		"sonarr.in.example.com. CNAME":          {"node1.in.example.com."},
		"radarr.in.example.com. CNAME":          {"cdn.example.net."},
		"node1.in.example.com. A":               {"10.0.0.10", "10.0.0.11"},
		"node1.in.example.com. AAAA":            {"2001:db8::11"},
		"*.apps.in.example.com. A":              {"10.0.0.12"},
		"_acme-challenge.in.example.com. CNAME": {"x._acme.example.net."},
		"none.in.example.com. TXT":              {`""`},
	} {
		if !slices.Equal(got[key], want) {
			t.Errorf("%s = %q, want %q", key, got[key], want)
		}
	}
	if len(got) != 12 { // with SOA and the long TXT
		t.Errorf("%d record sets: %v", len(got), got)
	}
}

func TestZoneSerial(t *testing.T) {
	serial := func(z Zone) string {
		t.Helper()
		file, err := z.File()
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(file, "hostmaster."+z.Domain+". ")
		serial, _, _ := strings.Cut(rest, " ")
		return serial
	}
	z := Zone{Name: "z", Domain: "example.com", Records: []Record{{Name: "a.example.com", Type: A, Content: "10.0.0.1", Owner: "x/y"}}}
	first := serial(z)
	z.Records[0].Owner = "other/owner"
	if got := serial(z); got != first {
		t.Errorf("the owner changed the serial from %s to %s", first, got)
	}
	z.Records[0].TTL = 60
	if got := serial(z); got == first {
		t.Error("a new TTL left the serial alone")
	}
}

func TestZoneErrors(t *testing.T) {
	for _, test := range []struct {
		name    string
		records []Record
		want    []string
	}{
		{"CNAME and A", []Record{
			{Name: "a.example.com", Type: A, Content: "10.0.0.1", Owner: "s/one"},
			{Name: "A.example.com", Type: CNAME, Content: "b.example.com", Owner: "s/two"},
		}, []string{"CNAME a.example.com of s/two: a CNAME stands alone", "s/one has A 10.0.0.1 here"}},
		{"two CNAMEs", []Record{
			{Name: "a.example.com", Type: CNAME, Content: "c.example.com", Owner: "s/one"},
			{Name: "a.example.com", Type: CNAME, Content: "b.example.com", Owner: "s/two"},
		}, []string{"s/two has CNAME b.example.com here"}},
		{"CNAME and TXT", []Record{
			{Name: "a.example.com", Type: CNAME, Content: "c.example.com"},
			{Name: "a.example.com", Type: TXT, Content: "x"},
		}, []string{"a CNAME stands alone"}},
		{"CNAME at the domain", []Record{{Name: "example.com", Type: CNAME, Content: "c.example.net"}}, []string{"the domain itself has an SOA record"}},
		{"outside", []Record{{Name: "badexample.com", Type: A, Content: "10.0.0.1"}}, []string{"it is outside example.com"}},
		{"TTLs", []Record{
			{Name: "a.example.com", Type: A, Content: "10.0.0.1", TTL: 60, Owner: "s/one"},
			{Name: "a.example.com", Type: A, Content: "10.0.0.2", TTL: 90, Owner: "s/two"},
		}, []string{"its TTL is 90, and s/one has 60"}},
		{"all at once", []Record{
			{Name: "a.example.com", Type: A, Content: "::1"},
			{Name: "a.example.com", Type: AAAA, Content: "10.0.0.1"},
			{Name: "a.example.com", Type: AAAA, Content: "fe80::1%eth0"},
			{Name: "a.example.com", Type: CNAME, Content: "c.example.com."},
			{Name: "a.example.com", Type: CNAME, Content: "*.example.com"},
			{Name: "_a.example.com", Type: A, Content: "10.0.0.1"},
			{Name: "a.example.com", Type: "MX", Content: "10 b"},
		}, []string{`"::1" is not an IPv4`, `"10.0.0.1" is not an IPv6`, `"fe80::1%eth0" is not an IPv6`, "ends with a dot", "the target is a wildcard", `holds '_'`, `unknown record type "MX"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			file, err := Zone{Name: "z", Domain: "example.com", Records: test.records}.File()
			if err == nil || file != "" {
				t.Fatalf("%v\n%s", err, file)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v; want %q", err, want)
				}
			}
		})
	}
	if _, err := (Zone{Name: "z", Domain: "a b"}).File(); err == nil || !strings.Contains(err.Error(), "zone z: host") {
		t.Errorf("a domain with a space: %v", err)
	}
}
