// Package integration opens the APIs of providers with the credentials of an
// integration: which settings and credentials a provider wants, how they reach
// one operation, and the HTTP that all clients share. A folder below it is a
// provider; cmd/ puts those that a binary links into a Registry.
package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"skep/secrets"
	"skep/services/controlplane"
)

// Driver knows one provider.
type Driver struct {
	Provider controlplane.Provider
	Fields   []Field
	// Together looks at what no field shows alone, such as two ways to sign in.
	// Values may be references, op://, that nobody has resolved. Nil: nothing.
	Together func(Settings, Values) Problems
	// Open makes a client and asks nothing yet. Settings have their defaults.
	Open func(Settings, Credentials, Options) (Account, error)
}

// Account is an integration's account at a provider. One with repositories is a
// controlplane.Forge.
type Account interface {
	// Test says whether the credentials work: who they are.
	Test(ctx context.Context) (string, error)
}

// Settings are what is no secret, by the name of the field.
type Settings map[string]string

// Values are credentials, by the name of the field.
type Values map[string]secrets.Value

// Field is a setting or a credential.
type Field struct {
	Name     string
	Secret   bool
	Required bool
	Default  string // of a setting
	// Address says that credentials go to this URL: it is held to ParseBase.
	Address bool
	// Help says in one line what it is and where to find it.
	Help string
	// Check may be nil. Its error says what is wrong and what to do, and holds
	// nothing of a secret.
	Check func(value []byte) error
}

// Problem is something wrong with a field.
type Problem struct {
	Field   string // empty: with all of them together
	Message string
}

func (p Problem) String() string {
	if p.Field == "" {
		return p.Message
	}
	return p.Field + ": " + p.Message
}

// Problems are all that is wrong at once. Empty ones are no error: see Err.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "; ")
}

// Err is nil if there are none.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// maxField bounds a value: a private key of 16,384 bits has 13 KB.
const maxField = 64 << 10

func (d Driver) check(settings Settings, values Values, o Options) error {
	problems := append(d.unknown(slices.Sorted(maps.Keys(settings)), false), d.unknown(slices.Sorted(maps.Keys(values)), true)...)
	for _, f := range d.Fields {
		if message := f.problem(settings, values, o); message != "" {
			problems = append(problems, Problem{Field: f.Name, Message: message})
		}
	}
	if len(problems) == 0 && d.Together != nil {
		problems = d.Together(settings, values)
	}
	return problems.Err()
}

func (d Driver) unknown(names []string, secret bool) Problems {
	var problems Problems
	for _, name := range names {
		i := slices.IndexFunc(d.Fields, func(f Field) bool { return f.Name == name })
		switch {
		case i < 0:
			problems = append(problems, Problem{Field: name, Message: fmt.Sprintf("%s has no such field; it has %s", d.Provider, d.names())})
		case secret && !d.Fields[i].Secret:
			problems = append(problems, Problem{Field: name, Message: "is a setting and no credential: put it into the settings"})
		case !secret && d.Fields[i].Secret:
			problems = append(problems, Problem{Field: name, Message: "is a credential: put it there, where it is encrypted, and change it, as settings are shown"})
		}
	}
	return problems
}

func (d Driver) names() string {
	names := make([]string, len(d.Fields))
	for i, f := range d.Fields {
		names[i] = f.Name
	}
	return strings.Join(names, ", ")
}

func (f Field) problem(settings Settings, values Values, o Options) string {
	value := []byte(settings[f.Name])
	if f.Secret {
		var err error
		if value, err = values[f.Name].Bytes(); err != nil {
			return err.Error()
		}
	}
	switch {
	case len(value) == 0 && f.Required:
		return "is missing: " + f.Help
	case len(value) == 0:
		return ""
	case len(value) > maxField:
		return fmt.Sprintf("has %d bytes; %d are taken", len(value), maxField)
	case f.Secret && IsReference(value):
		return ""
	}
	var err error
	switch {
	case f.Address:
		_, err = ParseBase(string(value), o)
	case f.Check != nil:
		err = f.Check(value)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// Token is the Check of a credential that goes into a header as it is.
func Token(value []byte) error {
	for _, b := range value {
		if b <= ' ' || b > '~' {
			return errors.New("holds a space, a line break or what is not ASCII, as a token never does: paste it again without them")
		}
	}
	return nil
}

// Digits is the Check of a number that a provider gave.
func Digits(value []byte) error {
	if len(value) > 19 || bytes.ContainsFunc(value, func(r rune) bool { return r < '0' || r > '9' }) {
		return fmt.Errorf("%q is no number", value)
	}
	return nil
}
