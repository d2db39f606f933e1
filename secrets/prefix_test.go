package secrets

import "testing"

func TestPrefixCovers(t *testing.T) {
	cases := []struct {
		prefix, reference string
		want              bool
	}{
		{"op://previews", "op://previews/app/token", true},
		{"op://previews/", "op://previews/app/token", true},
		{"op://Previews", "op://previews/App/token", true},
		{"op://previews", "op://previews-prod/app/token", false},
		{"op://prev", "op://previews/app/token", false},
		{"op://previews/app", "op://previews/app/db/token", true},
		{"op://previews/app", "op://previews/apple/token", false},
		{"op://previews/app/db", "op://previews/app/db/token", true},
		{"op://previews/app/token", "op://previews/app/token?attribute=otp", true},
		{"op://previews/app/db/token", "op://previews/app/db", false},
	}
	for _, c := range cases {
		prefix, err := ParsePrefix(c.prefix)
		if err != nil {
			t.Fatal(err)
		}
		ref, err := ParseReference(c.reference)
		if err != nil {
			t.Fatal(err)
		}
		if got := prefix.Covers(ref); got != c.want {
			t.Errorf("%s covers %s: %t, want %t", c.prefix, c.reference, got, c.want)
		}
	}
}

func TestPrefixRefuses(t *testing.T) {
	for _, s := range []string{"", "op://", "op:///", "previews", "op:///app", "op://a/b/c/d/e", "op://a//b", "op://*"} {
		if p, err := ParsePrefix(s); err == nil {
			t.Errorf("%q is read as %v", s, p)
		}
	}
}
