package secrets

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// mark renders a template with each reference as <field>.
func mark(t *testing.T, tmpl Template) string {
	t.Helper()
	out, err := tmpl.Render(func(r Reference) (string, error) { return "<" + r.Field + ">", nil })
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestParseTemplate(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"no reference", "plain", "plain"},
		{"empty", "", ""},
		{"sole", "op://v/i/f", "<f>"},
		{"sole with spaces", "op://v/my item/the field", "<the field>"},
		{"sole with query", "op://v/i/f?attribute=otp&ssh-format=openssh", "<f>"},
		{"enclosed", "{{ op://v/i/f }}", "<f>"},
		{"enclosed tight", "{{op://v/i/f}}", "<f>"},
		{"enclosed with spaces", "a {{ op://v/my item/the field?attr=id }} b", "a <the field> b"},
		{"enclosed in braces", "{{{ op://v/i/f }}}", "{<f>}"},
		{"bare in a URL", "postgres://user:op://v/i/f@host:5432/db", "postgres://user:<f>@host:5432/db"},
		{"bare with query", `key="op://v/i/f?attribute=otp"`, `key="<f>"`},
		{"two bare", "op://v/i/f op://v/i/g\n", "<f> <g>\n"},
		{"bare ends at a quote", `"op://v/i/f"`, `"<f>"`},
		{"bare then =", "op://v/i/f=x", "<f>=x"},
		{"dot belongs to it", "see op://v/i/f.", "see <f.>"},
		{"part of a word", `xop://v/i/f -op://v +op://v \op://v .op://v 1op://`, `xop://v/i/f -op://v +op://v \op://v .op://v 1op://`},
		{"after an underscore", "_op://v/i/f", "_<f>"},
		{"quoted text", `{{ "{{ test op://v/i/f }}" }} op://v/i/g`, `{{ test op://v/i/f }} <g>`},
		{"quoted quotes", `{{ "{{ test \"op://\" test }}" }}`, `{{ test "op://" test }}`},
		{"other braces", "{{ .Node.Hostname }} {{ op://v/i/f }} {{", "{{ .Node.Hostname }} <f> {{"},
		{"reference in other braces", `{{ pass "op://v/i/f" }}`, `{{ pass "<f>" }}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			tmpl, err := ParseTemplate(test.in)
			if err != nil {
				t.Fatal(err)
			}
			if got := mark(t, tmpl); got != test.want {
				t.Errorf("%q renders %q, want %q", test.in, got, test.want)
			}
			if tmpl.String() != test.in {
				t.Errorf("String() = %q, want %q", tmpl, test.in)
			}
		})
	}
}

func TestTemplateErrors(t *testing.T) {
	for _, test := range []struct {
		in     string
		offset int
		want   string
	}{
		{"op://vault/item", 0, "no field"},
		{"x: op://vault", 3, "no item"},
		{"op://$ENV/item/field", 0, "write it out"},
		{"op://vault/my item!/field", 0, "with spaces as {{ op://"},
		{"é op://vault ü", 3, "ends before ' '"},
		{"op://vaultü", 0, "ends before 'ü'"},
		{"is it op://v/i/f?", 6, "nothing follows the ?"},
		{"a {{ op://v/i/f", 2, "}} is missing"},
		{"a {{ op://v/i/f \n}}", 2, "}} is missing"},
		{"{{ op://v/i/f | base64 }}", 0, `holds '|'`},
	} {
		_, err := ParseTemplate(test.in)
		var te *TemplateError
		if !errors.As(err, &te) || te.Offset != test.offset || !strings.Contains(err.Error(), test.want) {
			t.Errorf("ParseTemplate(%q): %v; want offset %d and %q", test.in, err, test.offset, test.want)
		}
	}
}

func TestTemplateReportsEveryError(t *testing.T) {
	_, err := ParseTemplate("op://a, {{ op://b }}, op://c/d/e, op://f/g/")
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 3 {
		t.Errorf("want three errors, got %v", err)
	}
}

func TestTemplateReferences(t *testing.T) {
	tmpl, err := ParseTemplate("{{ op://V/b/f }} op://v/a/f op://v/b/f")
	if err != nil {
		t.Fatal(err)
	}
	want := []Reference{{Vault: "v", Item: "a", Field: "f"}, {Vault: "v", Item: "b", Field: "f"}}
	if got := tmpl.References(); !slices.Equal(got, want) {
		t.Errorf("References() = %v, want %v", got, want)
	}
}

func TestTemplateSole(t *testing.T) {
	for in, want := range map[string]bool{
		"op://v/i/f": true, "{{ op://v/i/f }}": true, "op://v/i/f\n": false, "plain": false, "": false,
		"op://v/i/f,op://v/i/f": false, `{{ "op://v/i/f" }}`: false,
	} {
		tmpl, err := ParseTemplate(in)
		if err != nil {
			t.Fatal(err)
		}
		if r, ok := tmpl.Sole(); ok != want || ok && r != (Reference{Vault: "v", Item: "i", Field: "f"}) {
			t.Errorf("Sole(%q) = %v, %v", in, r, ok)
		}
	}
}

func TestTemplateRenderError(t *testing.T) {
	tmpl, err := ParseTemplate("a op://v/i/f")
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("no such item")
	out, err := tmpl.Render(func(Reference) (string, error) { return "", cause })
	if out != "" || !errors.Is(err, cause) || !strings.Contains(err.Error(), "op://v/i/f") {
		t.Errorf("Render = %q, %v", out, err)
	}
}

func FuzzParseTemplate(f *testing.F) {
	for _, s := range []string{
		"plain", "op://v/i/f", "{{ op://v/my item/f }}", "postgres://u:op://v/i/f@h", `{{ "{{ \"op://\" }}" }}`,
		"{{{ op://v/i/f }}}", "op://", "{{ op://", "op://v/i/f?attr=otp", "op://v/i/f op://v/i/g", `\op://v/i/f`, "{{\"\\",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tmpl, err := ParseTemplate(s)
		if err != nil {
			for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
				if te := e.(*TemplateError); te.Offset < 0 || te.Offset >= len(s) {
					t.Fatalf("%q: offset %d is outside", s, te.Offset)
				}
			}
			return
		}
		refs := tmpl.References()
		if len(refs) > 0 && !HasReference(s) {
			t.Errorf("%q has references %v and HasReference says no", s, refs)
		}
		if len(refs) == 0 && !quoted.MatchString(s) && !strings.Contains(s, "{{") && mark(t, tmpl) != s {
			t.Errorf("%q without references renders %q", s, mark(t, tmpl))
		}
		if strings.Contains(s, "{{") {
			return // quoted text may hold what is a reference once unquoted
		}
		// Written out in the canonical way, it means the same.
		canonical, _ := tmpl.Render(func(r Reference) (string, error) { return "{{ " + r.String() + " }}", nil })
		again, err := ParseTemplate(canonical)
		if err != nil || !slices.Equal(again.References(), refs) || mark(t, again) != mark(t, tmpl) {
			t.Errorf("%q is not %q: %v", s, canonical, err)
		}
	})
}

func BenchmarkHasReference(b *testing.B) {
	s := strings.Repeat("SONARR__POSTGRES__HOST=postgresql\n", 30)
	for b.Loop() {
		HasReference(s)
	}
}

func BenchmarkParseTemplate(b *testing.B) {
	for _, size := range []int{10, 1000} {
		s := strings.Repeat("password: {{ op://homelab/postgres/password }} # op://homelab/x/y\n", size)
		b.Run(fmt.Sprintf("references=%d", 2*size), func(b *testing.B) {
			b.SetBytes(int64(len(s)))
			for b.Loop() {
				if _, err := ParseTemplate(s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
