package networks

import (
	"reflect"
	"slices"
	"testing"

	"github.com/goccy/go-yaml"
)

func TestDNSMarshal(t *testing.T) {
	in := DNS{Zones: []Zone{
		{Name: "public", Domain: "example.com", Provider: "cloudflare", Records: []Record{
			{Name: "www.example.com", Type: CNAME, Content: "example.net", Proxied: true, TTL: 60, Owner: "web/site"},
			{Name: "*.example.com", Type: TXT, Content: "yes"},
		}},
		{Name: "empty", Domain: "empty.example.com", Private: true},
	}}
	first := in.Zones[0].Records[0]
	got, err := in.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	checkGolden(t, "dns", string(got))
	if in.Zones[0].Name != "public" || in.Zones[0].Records[0] != first {
		t.Error("Marshal reordered its receiver")
	}
}

func TestDNSMarshalKeepsContent(t *testing.T) {
	var zone Zone
	for _, s := range []string{"", " ", "yes", "null", "~", "12", "1e3", "0x10", "a: b", "a #b", "- a", "*a", "&a", "!a", "%a", "@a", "`a",
		`"a"`, "'a'", `\n`, "a\nb", "a\n", "\na", "tail ", "{a}", "[a]", "|", ">", "é", "\x01", "v=spf1 include:x ~all", "2026-11-21"} {
		zone.Records = append(zone.Records, Record{Name: "a.example.com", Type: TXT, Content: s})
	}
	slices.SortFunc(zone.Records, Record.Compare)
	in := DNS{Zones: []Zone{zone}}
	data, err := in.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var out DNS
	if err := yaml.Unmarshal(data, &out); err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	for i, r := range in.Zones[0].Records {
		if i < len(out.Zones[0].Records) && out.Zones[0].Records[i] != r {
			t.Errorf("%q is read as %q", r.Content, out.Zones[0].Records[i].Content)
		}
	}
	if !reflect.DeepEqual(in, out) {
		t.Errorf("read back as %+v", out)
	}
}
