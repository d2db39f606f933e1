package agefile_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/goccy/go-yaml"

	"skep/secrets"
	"skep/secrets/agefile"
	"skep/secrets/secretstest"
)

// box is an encrypted file and its key.
type box struct {
	path     string
	identity *age.X25519Identity
}

func newBox(t *testing.T) box {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return box{filepath.Join(t.TempDir(), "secrets.age"), identity}
}

func (b box) write(t *testing.T, plain string, armored bool) {
	t.Helper()
	var file bytes.Buffer
	var out io.WriteCloser = nop{&file}
	if armored {
		out = armor.NewWriter(&file)
	}
	w, err := age.Encrypt(out, b.identity.Recipient())
	if err == nil {
		_, err = io.WriteString(w, plain)
	}
	if err := errors.Join(err, w.Close(), out.Close(), os.WriteFile(b.path, file.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
}

type nop struct{ io.Writer }

func (nop) Close() error { return nil }

func (b box) open(t *testing.T) *agefile.Source {
	t.Helper()
	s, err := agefile.New(b.path, env(agefile.IdentityVariable, b.identity.String()))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

func TestConformance(t *testing.T) {
	for name, armored := range map[string]bool{"binary": false, "armored": true} {
		t.Run(name, func(t *testing.T) {
			secretstest.Conformance(t, func(t *testing.T, content secretstest.Content) secretstest.Subject {
				b := newBox(t)
				vaults := agefile.Vaults{}
				for vault, items := range content {
					vaults[vault] = map[string]agefile.Item{}
					for item, fields := range items {
						copied := map[string]string{}
						for k, v := range fields {
							copied[k] = v
						}
						vaults[vault][item] = agefile.Item{Version: 1, Fields: copied}
					}
				}
				save := func() {
					plain, err := yaml.Marshal(vaults)
					if err != nil {
						t.Fatal(err)
					}
					b.write(t, string(plain), armored)
				}
				save()
				return secretstest.Subject{Source: b.open(t), Set: func(vault, item, field, value string) {
					i := vaults[vault][item]
					i.Fields[field] = value
					i.Version++
					vaults[vault][item] = i
					save()
				}}
			})
		})
	}
}

func TestErrors(t *testing.T) {
	r, err := secrets.ParseReference("op://v/i/f")
	if err != nil {
		t.Fatal(err)
	}
	b := newBox(t)
	ask := func() error { return b.open(t).Read(t.Context(), []secrets.Reference{r}).Err() }
	if err := ask(); !errors.Is(err, secrets.ErrUnavailable) || !strings.Contains(err.Error(), "there is no file") {
		t.Errorf("no file: %v", err)
	}
	for name, plain := range map[string]string{
		"unknown key": "v:\n  i:\n    field: {f: hunter2}\n",
		"a list":      "- hunter2\n",
		"no YAML":     "v: {i: [hunter2\n",
		"a version":   "v: {i: {version: hunter2}}\n",
		"negative":    "v: {i: {version: -1, fields: {f: hunter2}}}\n",
		"zero":        "v: {i: {version: 0, fields: {f: hunter2}}}\n",
		"a fraction":  "v: {i: {version: 1.10, fields: {f: hunter2}}}\n",
	} {
		b.write(t, plain, false)
		if err := ask(); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.write(t, "v: {i: {fields: {f: hunter2}}}\n", false)
	if err := ask(); err != nil {
		t.Errorf("version 1 is not the default: %v", err)
	}
	b.identity = newBox(t).identity
	if err := ask(); !errors.Is(err, secrets.ErrDenied) {
		t.Errorf("another's key: %v", err)
	}
	if _, err := agefile.New(b.path, env()); err == nil {
		t.Error("no identity is taken")
	}
	if _, err := agefile.New(b.path, env(agefile.IdentityVariable, "a", agefile.IdentityFileVariable, "b")); err == nil {
		t.Error("two identities are taken")
	}
	s, err := agefile.New(b.path, env(agefile.IdentityVariable, "AGE-SECRET-KEY-1BROKEN"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Read(t.Context(), []secrets.Reference{r}).Err(); err == nil || strings.Contains(err.Error(), "BROKEN") {
		t.Errorf("a broken identity: %v", err)
	}
}

// What YAML takes for something else than text would come out changed.
func TestFieldsAreText(t *testing.T) {
	r, err := secrets.ParseReference("op://v/i/f")
	if err != nil {
		t.Fatal(err)
	}
	b := newBox(t)
	read := func(written string) (string, error) {
		b.write(t, "v: {i: {fields: {g: hunter2, f: "+written+"}}}\n", false)
		answers := b.open(t).Read(t.Context(), []secrets.Reference{r})
		defer answers.Wipe()
		got, err := answers[r].Value.Bytes()
		return string(got), errors.Join(err, answers.Err())
	}
	for _, value := range []string{"012345", "1.10", "0x1F", "0b11", "0o17", "1_000", "1.5E+3", "-0", "+1", "true", "False", "null", "~", "", ".inf", ".NaN", "[x]", "{x: y}"} {
		if got, err := read(value); err == nil || !strings.HasSuffix(err.Error(), "item i of vault v: field f is no text, put it in quotes") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %q, %v", value, got, err)
		}
		if got, err := read(`"` + value + `"`); err != nil || got != value {
			t.Errorf("%q in quotes: %q, %v", value, got, err)
		}
	}
	for _, value := range []string{"hunter2", "yes", "1e3", "123456789012345678901234567890", "2026-11-21", "12:30:45", "1.2.3", "0xZZ", "5tr0ng"} {
		if got, err := read(value); err != nil || got != value {
			t.Errorf("%s: got %q, %v", value, got, err)
		}
	}
}
