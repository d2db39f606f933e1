package secrets

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func TestParseReference(t *testing.T) {
	for _, test := range []struct {
		in        string
		want      Reference
		canonical string // empty: as in
	}{
		{"op://homelab/postgres-shared/password", Reference{Vault: "homelab", Item: "postgres-shared", Field: "password"}, ""},
		{"op://Management/PagerDuty/Admin/email", Reference{Vault: "management", Item: "pagerduty", Section: "admin", Field: "email"}, "op://management/pagerduty/admin/email"},
		{"op://development/aws/Access Keys/access_key_id", Reference{Vault: "development", Item: "aws", Section: "access keys", Field: "access_key_id"}, "op://development/aws/access keys/access_key_id"},
		{"op://app-infra/ssh/key.pem?attribute=name", Reference{Vault: "app-infra", Item: "ssh", Field: "key.pem", Attribute: "name"}, ""},
		{"op://v/i/one-time password?attr=otp", Reference{Vault: "v", Item: "i", Field: "one-time password", Attribute: "otp"}, "op://v/i/one-time password?attribute=otp"},
		{"op://v/i/private key?ssh-format=openssh", Reference{Vault: "v", Item: "i", Field: "private key", SSHFormat: "openssh"}, ""},
		{"op://v/i/f?SSH-Format=OpenSSH&attr=value", Reference{Vault: "v", Item: "i", Field: "f", Attribute: "value", SSHFormat: "openssh"}, "op://v/i/f?attribute=value&ssh-format=openssh"},
	} {
		got, err := ParseReference(test.in)
		if err != nil || got != test.want {
			t.Errorf("ParseReference(%q) = %+v, %v", test.in, got, err)
			continue
		}
		canonical := test.canonical
		if canonical == "" {
			canonical = test.in
		}
		if got.String() != canonical {
			t.Errorf("%q is written %q, want %q", test.in, got, canonical)
		}
	}
}

func TestParseReferenceErrors(t *testing.T) {
	for in, want := range map[string]string{
		"":                                 "does not begin with op://",
		"OP://v/i/f":                       "does not begin with op://",
		"op://":                            "no vault",
		"op://vault":                       "no item",
		"op://vault/item":                  "no field",
		"op:///item/field":                 "the vault is empty",
		"op://vault//field":                "the item is empty",
		"op://vault/item/":                 "the field is empty",
		"op://vault/item//field":           "empty section",
		"op://vault/item/a/b/c":            "5 parts",
		"op://vault/my item!/field":        `the item "my item!" holds '!'`,
		"op://vault/größe/field":           `give the item by its id`,
		"op://$APP_ENV/item/field":         "holds a variable",
		"op://vault/ item/field":           "begins or ends with a space",
		"op://vault/item/field\n":          "begins or ends with a space",
		"op://vault/it\tem/field":          `holds '\t'`,
		"op://vault/item/field?":           "nothing follows the ?",
		"op://vault/item/field?attr":       "attr= does not exist: one of content, id,",
		"op://vault/item/field?attr=otpp":  "attr=otpp does not exist",
		"op://v/i/f?ssh-format=pem":        "one of openssh",
		"op://v/i/f?attr=otp&attribute=id": `"attribute" is given twice`,
		"op://v/i/f?colour=red":            `unknown query parameter "colour"`,
	} {
		if got, err := ParseReference(in); err == nil || !strings.Contains(err.Error(), want) || got != (Reference{}) {
			t.Errorf("ParseReference(%q) = %v, %v; want an error with %q", in, got, err, want)
		}
	}
}

func TestParseReferenceKeepsPastedSecretsToItself(t *testing.T) {
	_, err := ParseReference("hunter2")
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error repeats the value: %v", err)
	}
}

func TestReferenceText(t *testing.T) {
	in := map[Reference]int{{Vault: "v", Item: "i", Field: "f"}: 3}
	data, err := json.Marshal(in)
	if err != nil || string(data) != `{"op://v/i/f":3}` {
		t.Fatalf("json = %s, %v", data, err)
	}
	var out map[Reference]int
	if err := json.Unmarshal([]byte(`{"op://V/I/f":3}`), &out); err != nil || out[Reference{Vault: "v", Item: "i", Field: "f"}] != 3 {
		t.Errorf("unmarshal = %v, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"op://v":3}`), &out); err == nil {
		t.Error("a malformed reference was taken")
	}
}

func TestReferenceCompare(t *testing.T) {
	sorted := []string{"op://a/a/a", "op://a/a/a?attribute=id", "op://a/a/a?attribute=id&ssh-format=openssh", "op://a/a/b", "op://a/a/a/a", "op://a/b/a", "op://b/a/a"}
	var refs []Reference
	for _, s := range sorted {
		refs = append(refs, mustReference(t, s))
	}
	slices.Reverse(refs)
	slices.SortFunc(refs, Reference.Compare)
	for i, r := range refs {
		if r.String() != sorted[i] {
			t.Errorf("place %d: %s, want %s", i, r, sorted[i])
		}
	}
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{
		"op://homelab/postgres-shared/password", "op://V/I/S/F?attr=otp&ssh-format=openssh",
		"op://", "op://a/b/c?", "op://a/b/c?attribute=", "op://a//b/c", "op://a/b/c/d/e", "op://a/b/ c", "op://a/b/\u212a",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			return
		}
		again, err := ParseReference(r.String())
		if err != nil || again != r {
			t.Errorf("%q is %+v, its spelling %q is %+v, %v", s, r, r, again, err)
		}
		if slug := r.Slug(); slug == "" || slugGaps.MatchString(slug) {
			t.Errorf("%q has slug %q", s, slug)
		}
		if name := SecretName("stack", r.Slug(), "1"); len(name) > maxSwarmName || !swarmName.MatchString(name) {
			t.Errorf("%q has Swarm name %q", s, name)
		}
	})
}

func mustReference(t *testing.T, s string) Reference {
	t.Helper()
	r, err := ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
