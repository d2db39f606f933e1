package networks

import (
	"strings"
	"testing"
)

func TestParseHost(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	host253 := strings.Join([]string{label63, label63, label63, strings.Repeat("b", 61)}, ".")
	for in, want := range map[string]string{
		"sonarr":                "sonarr",
		"Sonarr.Example.COM":    "sonarr.example.com",
		"*.example.com":         "*.example.com",
		"1.example.com":         "1.example.com",
		"123":                   "123",
		"a-b.c--d.example":      "a-b.c--d.example",
		"xn--mnchen-3ya.de":     "xn--mnchen-3ya.de",
		"example.c0":            "example.c0",
		label63 + ".example.io": label63 + ".example.io",
		host253:                 host253,
	} {
		if got, err := ParseHost(in); err != nil || got != want {
			t.Errorf("ParseHost(%q) = %q, %v", in, got, err)
		}
	}
	for in, want := range map[string]string{
		"":                    "it is empty",
		".":                   "ends with a dot",
		"example.com.":        "ends with a dot",
		".example.com":        "empty part",
		"a..b":                "empty part",
		"*":                   "a wildcard is the first part",
		"a.*.com":             "a wildcard is the first part",
		"*.*.com":             "a wildcard is the first part",
		"*a.com":              `holds '*'`,
		"*.":                  "ends with a dot",
		"_dmarc.example.com":  `holds '_'`,
		"-a.com":              "begins or ends with -",
		"a-.com":              "begins or ends with -",
		"münchen.de":          "punycode",
		"https://example.com": "it is a URL",
		"example.com:80":      `holds ':'`,
		"exam ple.com":        `holds ' '`,
		"10.0.0.1":            "it is an address",
		"::1":                 "it is an address",
		"example.1":           `its last part, "1", is a number`,
		"*.5":                 "is a number",
		label63 + "a.com":     "a part may have 63",
		host253 + "b":         "it has 254 characters",
		"example.com\n":       `holds '\n'`,
	} {
		if got, err := ParseHost(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseHost(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func FuzzParseHost(f *testing.F) {
	for _, s := range []string{"sonarr", "Sonarr.Example.COM", "*.example.com", "10.0.0.1", "a..b", "*", "münchen.de", "\u212aa.com", "example.com.", "-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, err := ParseHost(s)
		if err != nil {
			return
		}
		if again, err := ParseHost(host); err != nil || again != host {
			t.Errorf("%q is %q, and that is %q, %v", s, host, again, err)
		}
		if len(host) > 253 || strings.ContainsAny(host, "_/: ") || host != strings.ToLower(host) {
			t.Errorf("%q is %q", s, host)
		}
		for label := range strings.SplitSeq(host, ".") {
			if label == "" || len(label) > 63 {
				t.Errorf("%q has part %q", host, label)
			}
		}
	})
}
