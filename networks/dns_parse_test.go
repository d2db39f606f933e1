package networks

import (
	"reflect"
	"testing"
)

func TestParseDNS(t *testing.T) {
	want := DNS{Cluster: "homelab", Zones: []Zone{
		{Name: "a", Domain: "example.com", Provider: "cloudflare", Target: "t.cfargotunnel.com", Proxied: true,
			Records: []Record{{Name: "x.example.com", Type: CNAME, Content: "t.cfargotunnel.com", Proxied: true, Owner: "s/t"}}},
		{Name: "b", Domain: "in.example.com", Private: true, Target: "10.0.0.1", Records: []Record{}},
	}}
	text, err := want.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseDNS(text); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s\nreads as %+v (%v)", text, got, err)
	}
	for name, text := range map[string]string{
		"a misspelt key": "zone: []",
		"no name":        "zones: [{domain: example.com}]",
		"no domain":      "zones: [{name: a}]",
		"a bad domain":   "zones: [{name: a, domain: 'https://example.com'}]",
		"a name twice":   "zones: [{name: a, domain: example.com}, {name: a, domain: example.net}]",
		"a domain twice": "zones: [{name: a, domain: example.com}, {name: b, domain: EXAMPLE.com}]",
		"a bad target":   "zones: [{name: a, domain: example.com, target: node1}]",
	} {
		if _, err := ParseDNS([]byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzParseDNS(f *testing.F) {
	f.Add([]byte("cluster: c\nzones: [{name: a, domain: example.com, target: 10.0.0.1, records: [{name: x, type: A, content: y}]}]"))
	f.Add([]byte("&a [*a]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := ParseDNS(text)
		if err != nil {
			return
		}
		if _, err := d.Marshal(); err != nil {
			t.Errorf("what was read cannot be written: %v", err)
		}
	})
}
