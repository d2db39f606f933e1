package networks

import (
	"strings"
	"testing"
)

func TestParseName(t *testing.T) {
	for _, ok := range []string{"a", "proxy_network", "op-connect", "media-core_default", "A1", strings.Repeat("n", 63)} {
		if got, err := ParseName(ok); err != nil || string(got) != ok {
			t.Errorf("ParseName(%q) = %q, %v", ok, got, err)
		}
	}
	for in, want := range map[string]string{
		"":                      "needs a name",
		strings.Repeat("n", 64): "has 64 characters",
		"-a":                    "begins and ends",
		"a_":                    "begins and ends",
		"a.b":                   "letters, digits, - and _ only",
		"a b":                   "letters, digits, - and _ only",
		"a\n":                   "letters, digits, - and _ only",
		"é":                     "letters, digits, - and _ only",
	} {
		if got, err := ParseName(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseName(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}
