// Package agefile reads secrets from a file that is encrypted with age
// (https://age-encryption.org/v1), for a laptop without 1Password Connect.
package agefile

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/goccy/go-yaml"

	"skep/secrets"
)

// Where the identity, the private key, is looked for.
const (
	IdentityVariable     = "SKEP_AGE_IDENTITY"
	IdentityFileVariable = "SKEP_AGE_IDENTITY_FILE"
)

// Vaults is what the file holds once it is decrypted: items by vault.
type Vaults map[string]map[string]Item

// Item is one item. Its version is its owner's to raise when a value changes:
// deriving one from the values would tell who sees it something about them.
type Item struct {
	Version int               `yaml:"version"` // 1 when left out
	Fields  map[string]string `yaml:"fields"`  // "field" or "section/field"
}

// Parse reads the plain text. Its errors quote nothing of it but names.
func Parse(plain []byte) (Vaults, error) {
	var read map[string]map[string]struct {
		Version any            `yaml:"version"`
		Fields  map[string]any `yaml:"fields"`
	}
	if err := yaml.UnmarshalWithOptions(plain, &read, yaml.Strict()); err != nil {
		var at yaml.Error
		if errors.As(err, &at) && at.GetToken() != nil {
			return nil, fmt.Errorf("line %d of the decrypted file is not as it should be: vault, item, then version and fields", at.GetToken().Position.Line)
		}
		return nil, errors.New("the decrypted file is no YAML")
	}
	vaults := Vaults{}
	for _, vault := range slices.Sorted(maps.Keys(read)) {
		vaults[vault] = map[string]Item{}
		for _, name := range slices.Sorted(maps.Keys(read[vault])) {
			item := read[vault][name]
			version, err := parseVersion(item.Version)
			if err != nil {
				return nil, fmt.Errorf("item %s of vault %s: %w", name, vault, err)
			}
			fields, err := parseFields(item.Fields)
			if err != nil {
				return nil, fmt.Errorf("item %s of vault %s: %w", name, vault, err)
			}
			vaults[vault][name] = Item{Version: version, Fields: fields}
		}
	}
	return vaults, nil
}

func parseVersion(value any) (int, error) {
	switch v := value.(type) {
	case nil:
		return 1, nil
	case uint64:
		if 0 < v && v <= math.MaxInt32 {
			return int(v), nil
		}
	}
	return 0, errors.New("the version is no whole number from 1 on")
}

// parseFields takes text alone: YAML reads 012345 and 1.10 as numbers, and
// would give others back.
func parseFields(values map[string]any) (map[string]string, error) {
	fields := make(map[string]string, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		text, ok := values[name].(string)
		if !ok {
			return nil, fmt.Errorf("field %s is no text, put it in quotes", name)
		}
		fields[name] = text
	}
	return fields, nil
}

// Source reads the file at every question, so that it is never stale, and
// keeps nothing of it.
type Source struct {
	path       string
	identities func() ([]age.Identity, error)
}

var _ secrets.Source = (*Source)(nil)

// New makes a source over a file. The identity is looked for in the
// environment.
func New(path string, lookup func(string) (string, bool)) (*Source, error) {
	file, _ := lookup(IdentityFileVariable)
	key, _ := lookup(IdentityVariable)
	switch {
	case file != "" && key != "":
		return nil, fmt.Errorf("both %s and %s are set: unset one", IdentityFileVariable, IdentityVariable)
	case file == "" && key == "":
		return nil, fmt.Errorf("there is no age identity: set %s to the file that age-keygen wrote", IdentityFileVariable)
	}
	return &Source{path: path, identities: func() ([]age.Identity, error) {
		text := []byte(key)
		if file != "" {
			var err error
			if text, err = os.ReadFile(file); err != nil {
				return nil, fmt.Errorf("read the age identity: %w", err)
			}
		}
		defer clear(text)
		identities, err := age.ParseIdentities(bytes.NewReader(text))
		if err != nil {
			return nil, errors.New("the age identity cannot be read: it is a line that begins with AGE-SECRET-KEY-1")
		}
		return identities, nil
	}}, nil
}

// Versions are those that the file gives its items.
func (s *Source) Versions(ctx context.Context, refs []secrets.Reference) secrets.Answers {
	return s.answer(ctx, refs, func(_ Item, _ secrets.Reference, _ string) (secrets.Value, error) { return secrets.Value{}, nil })
}

// Read takes the values from the file.
func (s *Source) Read(ctx context.Context, refs []secrets.Reference) secrets.Answers {
	return s.answer(ctx, refs, Item.value)
}

func (s *Source) answer(ctx context.Context, refs []secrets.Reference, value func(Item, secrets.Reference, string) (secrets.Value, error)) secrets.Answers {
	if err := ctx.Err(); err != nil {
		return secrets.Fail(refs, err)
	}
	vaults, err := s.read()
	if err != nil {
		return secrets.Fail(refs, err)
	}
	out := secrets.Answers{}
	for _, r := range refs {
		id, item, err := vaults.find(r)
		if err != nil {
			out[r] = secrets.Answer{Err: err}
			continue
		}
		v, err := value(item, r, id)
		out[r] = secrets.Answer{Item: secrets.Item{ID: id, Version: strconv.Itoa(item.Version)}, Value: v, Err: err}
	}
	return out
}

func (s *Source) read() (Vaults, error) {
	identities, err := s.identities()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", secrets.ErrDenied, err)
	}
	f, err := os.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no file %s; age -r RECIPIENT -o %[2]s makes it", secrets.ErrUnavailable, s.path)
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", secrets.ErrUnavailable, err)
	}
	defer f.Close()
	plain, err := decrypt(f, identities)
	if err != nil {
		return nil, fmt.Errorf("%w: decrypt %s: %w", secrets.ErrDenied, s.path, err)
	}
	defer clear(plain)
	return Parse(plain)
}

// decrypt takes the binary format and the armored one.
func decrypt(f io.Reader, identities []age.Identity) ([]byte, error) {
	buffered := bufio.NewReader(f)
	var in io.Reader = buffered
	if start, _ := buffered.Peek(len(armor.Header)); string(start) == armor.Header {
		in = armor.NewReader(buffered)
	}
	out, err := age.Decrypt(in, identities...)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(out)
}

// find returns an item and its id, which is its place in the file.
func (v Vaults) find(r secrets.Reference) (string, Item, error) {
	vault, ok := fold(v, r.Vault)
	if !ok {
		return "", Item{}, &secrets.NotFoundError{What: "vault", Name: r.Vault, Near: near(r.Vault, v)}
	}
	name, ok := fold(v[vault], r.Item)
	if !ok {
		return "", Item{}, &secrets.NotFoundError{What: "item", Name: r.Item, In: "vault " + vault, Near: near(r.Item, v[vault])}
	}
	return vault + "/" + name, v[vault][name], nil
}

func (i Item) value(r secrets.Reference, id string) (secrets.Value, error) {
	if r.Attribute != "" && r.Attribute != "value" || r.SSHFormat != "" {
		return secrets.Value{}, errors.New("a file has values alone: leave the query out of the reference")
	}
	name := r.Field
	if r.Section != "" {
		name = r.Section + "/" + r.Field
	}
	field, ok := fold(i.Fields, name)
	if !ok {
		return secrets.Value{}, &secrets.NotFoundError{What: "field", Name: name, In: "item " + id, Near: near(name, i.Fields)}
	}
	return secrets.NewValue([]byte(i.Fields[field])), nil
}

// fold finds a key without regard to case; references have none.
func fold[V any](m map[string]V, name string) (string, bool) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if strings.EqualFold(key, name) {
			return key, true
		}
	}
	return "", false
}

func near[V any](name string, m map[string]V) []string {
	return secrets.Nearest(name, slices.Collect(maps.Keys(m)))
}
