// Package environ reads secrets from environment variables, for continuous
// integration.
package environ

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"skep/secrets"
)

const prefix = "SKEP_SECRET_"

// VersionVariable gives every item its version, 1 when it is not set. The
// number of the run will do: a variable does not say when it was changed.
const VersionVariable = "SKEP_SECRETS_VERSION"

// Source looks variables up: op://vault/item/[section/]field is
// SKEP_SECRET_VAULT_ITEM_[SECTION_]FIELD.
type Source struct {
	lookup func(string) (string, bool)
}

var _ secrets.Source = Source{}

// New makes a source over os.LookupEnv or what stands in for it.
func New(lookup func(string) (string, bool)) Source { return Source{lookup} }

// Variable is the name of a reference's variable.
func Variable(r secrets.Reference) string {
	parts := []string{r.Vault, r.Item, r.Field}
	if r.Section != "" {
		parts = []string{r.Vault, r.Item, r.Section, r.Field}
	}
	return prefix + strings.ToUpper(strings.Map(func(c rune) rune {
		if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' {
			return c
		}
		return '_'
	}, strings.Join(parts, "_")))
}

// Versions finds an item where a variable of it is set.
func (s Source) Versions(_ context.Context, refs []secrets.Reference) secrets.Answers {
	answers := s.answer(refs)
	answers.Wipe()
	for r, a := range answers {
		a.Value = secrets.Value{}
		answers[r] = a
	}
	return answers
}

// Read takes the values.
func (s Source) Read(_ context.Context, refs []secrets.Reference) secrets.Answers {
	return s.answer(refs)
}

func (s Source) answer(refs []secrets.Reference) secrets.Answers {
	version, err := s.version()
	if err != nil {
		return secrets.Fail(refs, err)
	}
	byVariable := map[string][]secrets.Reference{}
	for _, r := range refs {
		if name := Variable(r); !slices.Contains(byVariable[name], r) {
			byVariable[name] = append(byVariable[name], r)
		}
	}
	out := secrets.Answers{}
	for name, refs := range byVariable {
		maps.Copy(out, s.variable(name, refs, version))
	}
	return out
}

func (s Source) variable(name string, refs []secrets.Reference, version string) secrets.Answers {
	if len(refs) > 1 {
		ids := make([]string, len(refs))
		for i, r := range refs {
			ids[i] = r.String()
		}
		slices.Sort(ids)
		return secrets.Fail(refs, fmt.Errorf("%w: %s are both the variable %s", secrets.ErrAmbiguous, strings.Join(ids, " and "), name))
	}
	r := refs[0]
	if r.Attribute != "" && r.Attribute != "value" || r.SSHFormat != "" {
		return secrets.Fail(refs, fmt.Errorf("%s: a variable has a value alone, leave the query out of the reference", name))
	}
	value, ok := s.lookup(name)
	if !ok {
		return secrets.Fail(refs, fmt.Errorf("%w: the variable %s is not set", secrets.ErrNotFound, name))
	}
	return secrets.Answers{r: {
		Item:  secrets.Item{ID: r.Vault + "/" + r.Item, Version: version},
		Value: secrets.NewValue([]byte(value)),
	}}
}

func (s Source) version() (string, error) {
	v, ok := s.lookup(VersionVariable)
	if !ok {
		return "1", nil
	}
	n, err := strconv.ParseUint(v, 10, 63)
	if err != nil || n == 0 {
		return "", fmt.Errorf("%s is %q: it must be a positive integer", VersionVariable, v)
	}
	return strconv.FormatUint(n, 10), nil
}
