// Package secrets holds secrets by reference: what a stack file may write in
// place of a value, and which version of it a deployment was locked to. A
// Source resolves references to values, which refuse to be printed.
package secrets

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Reference names one field of an item, op://vault/item/[section/]field, by
// 1Password's rules.
// https://developer.1password.com/docs/cli/secret-reference-syntax
//
// References are case-insensitive, so ParseReference folds them to lower case
// and two spellings of one reference are one map key. Whoever resolves one
// compares names without regard to case.
type Reference struct {
	Vault, Item, Section, Field string // a name, or the id of what it names
	Attribute                   string // query attribute=, such as "otp"
	SSHFormat                   string // query ssh-format=
}

const scheme = "op://"

// attributes are those of fields and those of file attachments.
var attributes = []string{"content", "id", "name", "otp", "purpose", "size", "type", "value"}

// ParseReference reads a whole string as a reference.
func ParseReference(s string) (Reference, error) {
	rest, ok := strings.CutPrefix(s, scheme)
	if !ok {
		// s may be a secret that somebody pasted: it is not repeated.
		return Reference{}, errors.New("not a secret reference: it does not begin with " + scheme)
	}
	path, query, hasQuery := strings.Cut(rest, "?")
	var r Reference
	switch parts := strings.Split(strings.ToLower(path), "/"); {
	case path == "":
		return Reference{}, fmt.Errorf("%q names no vault: write op://vault/item/field", s)
	case len(parts) == 1:
		return Reference{}, fmt.Errorf("%q names a vault and no item: write op://vault/item/field", s)
	case len(parts) == 2:
		return Reference{}, fmt.Errorf("%q names an item and no field: write op://vault/item/field", s)
	case len(parts) == 3:
		r = Reference{Vault: parts[0], Item: parts[1], Field: parts[2]}
	case len(parts) == 4:
		r = Reference{Vault: parts[0], Item: parts[1], Section: parts[2], Field: parts[3]}
		if r.Section == "" {
			return Reference{}, fmt.Errorf("%q has an empty section: leave its slash out too", s)
		}
	default:
		return Reference{}, fmt.Errorf("%q has %d parts, a reference has three or four: a name with a / in it is given by its id", s, len(parts))
	}
	err := cmp.Or(
		checkPart("vault", r.Vault),
		checkPart("item", r.Item),
		checkPart("section", r.Section),
		checkPart("field", r.Field),
	)
	if err == nil && hasQuery {
		err = r.parseQuery(query)
	}
	if err != nil {
		return Reference{}, fmt.Errorf("%q: %w", s, err)
	}
	return r, nil
}

func checkPart(what, name string) error {
	switch {
	case name == "" && what == "section":
		return nil
	case name == "":
		return fmt.Errorf("the %s is empty", what)
	case strings.TrimSpace(name) != name:
		return fmt.Errorf("the %s %q begins or ends with a space", what, name)
	}
	for _, c := range name {
		if c == '$' {
			return fmt.Errorf("the %s %q holds a variable, and a reference is never filled in: write it out", what, name)
		}
		if !nameRune(c) {
			return fmt.Errorf("the %s %q holds %q; a name may hold letters, digits, -, _, . and spaces: give the %[1]s by its id", what, name, c)
		}
	}
	return nil
}

// nameRune reports whether c may stand in a name. "The whitespace character"
// of the documentation is read as the space.
func nameRune(c rune) bool {
	return c == ' ' || c < 0x80 && bareByte(byte(c))
}

func (r *Reference) parseQuery(query string) error {
	if query == "" {
		return errors.New("nothing follows the ?")
	}
	for parameter := range strings.SplitSeq(strings.ToLower(query), "&") {
		key, value, _ := strings.Cut(parameter, "=")
		var target *string
		var allowed []string
		switch key {
		case "attribute", "attr":
			target, allowed = &r.Attribute, attributes
		case "ssh-format":
			target, allowed = &r.SSHFormat, []string{"openssh"}
		default:
			return fmt.Errorf("unknown query parameter %q: attribute (or attr) and ssh-format exist", key)
		}
		if *target != "" {
			return fmt.Errorf("query parameter %q is given twice", key)
		}
		if !slices.Contains(allowed, value) {
			return fmt.Errorf("%s=%s does not exist: one of %s", key, value, strings.Join(allowed, ", "))
		}
		*target = value
	}
	return nil
}

// String is the one canonical spelling.
func (r Reference) String() string {
	var b strings.Builder
	b.WriteString(scheme + r.Vault + "/" + r.Item + "/")
	if r.Section != "" {
		b.WriteString(r.Section + "/")
	}
	b.WriteString(r.Field)
	separator := "?"
	if r.Attribute != "" {
		b.WriteString(separator + "attribute=" + r.Attribute)
		separator = "&"
	}
	if r.SSHFormat != "" {
		b.WriteString(separator + "ssh-format=" + r.SSHFormat)
	}
	return b.String()
}

// MarshalText writes the canonical spelling.
func (r Reference) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what ParseReference reads.
func (r *Reference) UnmarshalText(text []byte) (err error) {
	*r, err = ParseReference(string(text))
	return err
}

// Compare orders references by vault, item, section and field.
func (r Reference) Compare(o Reference) int {
	return cmp.Or(
		cmp.Compare(r.Vault, o.Vault),
		cmp.Compare(r.Item, o.Item),
		cmp.Compare(r.Section, o.Section),
		cmp.Compare(r.Field, o.Field),
		cmp.Compare(r.Attribute, o.Attribute),
		cmp.Compare(r.SSHFormat, o.SSHFormat),
	)
}
