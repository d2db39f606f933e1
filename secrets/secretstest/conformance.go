package secretstest

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"skep/secrets"
)

// Content is what a source holds: values by vault, item and field, where a
// field in a section is "section/field".
type Content map[string]map[string]map[string]string

// sample is what the suite asks a source for.
var sample = Content{
	"homelab": {
		"postgres-shared": {"password": "s3cret-db", "username": "skep", "admin/email": "root@example.com"},
		"My Item":         {"the field": "line one\nline two\n", "quoted": "a\"b\\c <&> \u00e9"},
	},
	"other": {"postgres-shared": {"password": "s3cret-other"}},
}

// Subject is a source under test.
type Subject struct {
	secrets.Source
	// Set changes a value as its owner would, new version included.
	Set func(vault, item, field, value string)
}

// Conformance runs the suite. open makes a source that holds the content.
func Conformance(t *testing.T, open func(*testing.T, Content) Subject) {
	t.Run("read", func(t *testing.T) {
		s := open(t, sample)
		want := map[secrets.Reference]string{}
		for vault, items := range sample {
			for item, fields := range items {
				for field, value := range fields {
					want[reference(t, "op://"+vault+"/"+item+"/"+field)] = value
				}
			}
		}
		refs := slices.Collect(maps.Keys(want))
		for range 2 { // what is wiped does not come back
			answers := s.Read(t.Context(), append(refs, refs[0]))
			if len(answers) != len(want) {
				t.Errorf("%d references have %d answers", len(want), len(answers))
			}
			for r, value := range want {
				expect(t, answers, r, value)
			}
			answers.Wipe()
		}
	})
	t.Run("versions", func(t *testing.T) {
		s := open(t, sample)
		refs := []secrets.Reference{
			reference(t, "op://homelab/postgres-shared/password"),
			reference(t, "op://HOMELAB/Postgres-Shared/admin/email"),
			reference(t, "op://other/postgres-shared/password"),
		}
		versions, values := s.Versions(t.Context(), refs), s.Read(t.Context(), refs)
		defer values.Wipe()
		if err := errors.Join(versions.Err(), values.Err()); err != nil {
			t.Fatal(err)
		}
		for _, r := range refs {
			v := versions[r]
			if n, err := strconv.ParseUint(v.Item.Version, 10, 63); err != nil || n == 0 {
				t.Errorf("%s has version %q, not a positive integer", r, v.Item.Version)
			}
			if v.Item != values[r].Item || v.Value.Len() != 0 {
				t.Errorf("%s: versions say %+v, read says %+v", r, v, values[r])
			}
		}
		if a, b := versions[refs[0]].Item, versions[refs[1]].Item; a != b {
			t.Errorf("two fields of one item have items %v and %v", a, b)
		}
		if a, b := versions[refs[0]].Item, versions[refs[2]].Item; a.ID == b.ID {
			t.Errorf("two items have one id, %s", a.ID)
		}
	})
	t.Run("edit", func(t *testing.T) {
		s := open(t, sample)
		edited, other := reference(t, "op://homelab/my item/the field"), reference(t, "op://other/postgres-shared/password")
		refs := []secrets.Reference{edited, other}
		before := s.Versions(t.Context(), refs)
		s.Set("homelab", "My Item", "the field", "changed")
		after, values := s.Versions(t.Context(), refs), s.Read(t.Context(), refs)
		defer values.Wipe()
		expect(t, values, edited, "changed")
		expect(t, values, other, "s3cret-other")
		old, _ := strconv.ParseUint(before[edited].Item.Version, 10, 63)
		if now, err := strconv.ParseUint(after[edited].Item.Version, 10, 63); err != nil || now <= old || after[edited].Item.ID != before[edited].Item.ID {
			t.Errorf("an edit makes %+v of %+v", after[edited].Item, before[edited].Item)
		}
		if values[edited].Item != after[edited].Item {
			t.Errorf("read says %+v, versions say %+v", values[edited].Item, after[edited].Item)
		}
	})
	t.Run("missing", func(t *testing.T) {
		s := open(t, sample)
		good := reference(t, "op://homelab/postgres-shared/password")
		refs := []secrets.Reference{good}
		for _, missing := range []string{
			"op://nowhere/postgres-shared/password", "op://homelab/nothing/password", "op://homelab/postgres-shared/passwort", "op://homelab/postgres-shared/staff/email",
		} {
			refs = append(refs, reference(t, missing))
		}
		answers := s.Read(t.Context(), refs)
		defer answers.Wipe()
		expect(t, answers, good, "s3cret-db")
		for _, r := range refs[1:] {
			a := answers[r]
			if !errors.Is(a.Err, secrets.ErrNotFound) || a.Value.Len() != 0 {
				t.Errorf("%s: %v, %d bytes; want ErrNotFound", r, a.Err, a.Value.Len())
			}
		}
		versions := s.Versions(t.Context(), refs)
		for _, r := range refs[1:3] {
			if !errors.Is(versions[r].Err, secrets.ErrNotFound) {
				t.Errorf("the version of %s: %v; want ErrNotFound", r, versions[r].Err)
			}
		}
		for _, items := range sample {
			for _, fields := range items {
				for _, value := range fields {
					if strings.Contains(answers.Err().Error(), value) && value != "skep" {
						t.Errorf("an error holds a value: %v", answers.Err())
					}
				}
			}
		}
	})
	t.Run("nothing", func(t *testing.T) {
		s := open(t, sample)
		if answers := s.Read(t.Context(), nil); len(answers) != 0 {
			t.Errorf("no reference has answers %v", answers)
		}
	})
}

func expect(t *testing.T, answers secrets.Answers, r secrets.Reference, want string) {
	t.Helper()
	a, ok := answers[r]
	if !ok || a.Err != nil {
		t.Errorf("%s: answered %t, %v", r, ok, a.Err)
		return
	}
	if got, err := a.Value.Bytes(); err != nil || string(got) != want {
		t.Errorf("%s is %q, %v; want %q", r, got, err, want)
	}
}

func reference(t *testing.T, s string) secrets.Reference {
	t.Helper()
	r, err := secrets.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
