package onepassword

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/1Password/connect-sdk-go/onepassword"
	"golang.org/x/crypto/ssh"

	"skep/secrets"
)

// value takes what a reference names from an item. The value is a copy: the
// item is wiped.
func (c *Client) value(ctx context.Context, it *item, r secrets.Reference) (secrets.Value, error) {
	f, file, err := it.find(r)
	switch {
	case err != nil:
		return secrets.Value{}, err
	case file != nil:
		return c.ofFile(ctx, it, file, r)
	}
	return f.attribute(r)
}

// target is a field or a file that a reference may name.
type target struct {
	field   *field
	file    *onepassword.File
	id      string
	label   string
	section *onepassword.ItemSection
}

func (it *item) targets() []target {
	var out []target
	for _, f := range it.Fields {
		out = append(out, target{field: f, id: f.ID, label: f.Label, section: f.Section})
	}
	for _, f := range it.Files {
		out = append(out, target{file: f, id: f.ID, label: f.Name, section: f.Section})
	}
	return out
}

// find picks the one field or file of a reference. Without a section, one that
// is in no section goes before one that is.
func (it *item) find(r secrets.Reference) (*field, *onepassword.File, error) {
	in := fmt.Sprintf("item %s of vault %s", r.Item, r.Vault)
	candidates := it.targets()
	if r.Section != "" {
		ids, err := it.sections(r, in)
		if err != nil {
			return nil, nil, err
		}
		in = fmt.Sprintf("section %s of %s", r.Section, in)
		candidates = slices.DeleteFunc(candidates, func(t target) bool {
			return t.section == nil || !slices.Contains(ids, t.section.ID)
		})
	}
	matches := matching(candidates, r.Field)
	if r.Section == "" && len(matches) > 1 {
		bare := slices.DeleteFunc(slices.Clone(matches), func(t target) bool { return t.section != nil && it.SectionLabelForID(t.section.ID) != "" })
		if len(bare) > 0 {
			matches = bare
		}
	}
	switch len(matches) {
	case 1:
		return matches[0].field, matches[0].file, nil
	case 0:
		var labels []string
		for _, t := range candidates {
			labels = append(labels, t.label)
		}
		return nil, nil, &secrets.NotFoundError{What: "field", Name: r.Field, In: in, Near: secrets.Nearest(r.Field, labels)}
	}
	ids := make([]string, len(matches))
	for i, t := range matches {
		ids[i] = t.id
	}
	return nil, nil, &secrets.AmbiguousError{What: "field", Name: r.Field, In: in, IDs: ids}
}

// matching are the targets of a name: the one with that id, or all with that
// label.
func matching(targets []target, name string) []target {
	var out []target
	for _, t := range targets {
		if strings.EqualFold(t.id, name) {
			return []target{t}
		}
		if strings.EqualFold(t.label, name) {
			out = append(out, t)
		}
	}
	return out
}

// sections are the ids of the sections that a name fits; several may have one
// label.
func (it *item) sections(r secrets.Reference, in string) ([]string, error) {
	var ids, labels []string
	for _, s := range it.Sections {
		if strings.EqualFold(s.ID, r.Section) || strings.EqualFold(s.Label, r.Section) {
			ids = append(ids, s.ID)
		}
		labels = append(labels, s.Label)
	}
	if len(ids) == 0 {
		return nil, &secrets.NotFoundError{What: "section", Name: r.Section, In: in, Near: secrets.Nearest(r.Section, labels)}
	}
	return ids, nil
}

var errNoAttribute = errors.New("no such attribute")

func (f *field) attribute(r secrets.Reference) (secrets.Value, error) {
	switch r.Attribute {
	case "", "value":
		if r.SSHFormat == "openssh" {
			return openSSH(f.Value.Value)
		}
		return f.Value.Clone()
	case "otp":
		if f.Type != onepassword.FieldTypeOTP {
			return secrets.Value{}, fmt.Errorf("%w: the field %s is no one-time password", errNoAttribute, r.Field)
		}
		return f.TOTP.Clone()
	case "type":
		return textValue(string(f.Type))
	case "id":
		return textValue(f.ID)
	case "name":
		return textValue(f.Label)
	case "purpose":
		return textValue(string(f.Purpose))
	}
	return secrets.Value{}, fmt.Errorf("%w: a field has no %s", errNoAttribute, r.Attribute)
}

func (c *Client) ofFile(ctx context.Context, it *item, f *onepassword.File, r secrets.Reference) (secrets.Value, error) {
	switch r.Attribute {
	case "", "value", "content":
		body, err := c.transport.get(ctx, "v1", "vaults", it.Vault.ID, "items", it.ID, "files", f.ID, "content")
		if err != nil {
			return secrets.Value{}, fmt.Errorf("read file %s: %w", r.Field, c.explain(ctx, err))
		}
		if r.SSHFormat == "openssh" {
			defer clear(body)
			return openSSH(secrets.NewValue(body))
		}
		return secrets.NewValue(body), nil
	case "size":
		return textValue(strconv.Itoa(f.Size))
	case "id":
		return textValue(f.ID)
	case "name":
		return textValue(f.Name)
	case "type":
		return textValue(string(onepassword.FieldTypeFile))
	}
	return secrets.Value{}, fmt.Errorf("%w: a file has no %s", errNoAttribute, r.Attribute)
}

func textValue(s string) (secrets.Value, error) { return secrets.NewValue([]byte(s)), nil }

var errNoSSHKey = errors.New("ssh-format=openssh: the value is no private key in PKCS #8")

// openSSH turns a private key from PKCS #8, as 1Password keeps it, into
// OpenSSH's own format. The errors of the parsers are left out: they may quote
// the key.
func openSSH(v secrets.Value) (secrets.Value, error) {
	b, err := v.Bytes()
	if err != nil {
		return secrets.Value{}, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return secrets.Value{}, errNoSSHKey
	}
	defer clear(block.Bytes)
	if block.Type == "OPENSSH PRIVATE KEY" {
		return v.Clone()
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return secrets.Value{}, errNoSSHKey
	}
	out, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return secrets.Value{}, errNoSSHKey
	}
	defer clear(out.Bytes)
	return secrets.NewValue(pem.EncodeToMemory(out)), nil
}
