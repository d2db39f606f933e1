package networks

import (
	"strings"
	"testing"
)

func TestTarget(t *testing.T) {
	for _, test := range []struct {
		in      string
		typ     RecordType
		content string
	}{
		{"203.0.113.10", A, "203.0.113.10"},
		{"2001:DB8:0::1", AAAA, "2001:db8::1"},
		{"::ffff:203.0.113.10", A, "203.0.113.10"},
		{"Node1.in.example.com", CNAME, "node1.in.example.com"},
	} {
		if typ, content, err := Target(test.in); err != nil || typ != test.typ || content != test.content {
			t.Errorf("Target(%q) = %s %q, %v", test.in, typ, content, err)
		}
	}
	for in, want := range map[string]string{
		"fe80::1%eth0":  "an address with a zone",
		"*.example.com": "is a wildcard",
		"tunel":         "write the name in full, tunel.example.com",
		"a b":           `target: host "a b"`,
	} {
		if typ, content, err := Target(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Target(%q) = %s %q, %v; want %q", in, typ, content, err, want)
		}
	}
}
