package integration_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/integration"
)

// account says what it was opened with.
type account struct{ settings integration.Settings }

func (a account) Test(context.Context) (string, error) { return fmt.Sprint(a.settings), nil }

func driver() integration.Driver {
	return integration.Driver{
		Provider: controlplane.GitLab,
		Fields: []integration.Field{
			{Name: "url", Address: true, Default: "https://gitlab.com/"},
			{Name: "group", Required: true, Help: "the group's number", Check: integration.Digits},
			{Name: "token", Secret: true, Required: true, Help: "a token of the group's", Check: integration.Token},
			{Name: "second", Secret: true},
		},
		Together: func(_ integration.Settings, v integration.Values) integration.Problems {
			if v.Has("second") {
				return integration.Problems{{Message: "one is enough"}}
			}
			return nil
		},
		Open: func(s integration.Settings, _ integration.Credentials, _ integration.Options) (integration.Account, error) {
			return account{s}, nil
		},
	}
}

func values(of map[string]string) integration.Values {
	v := integration.Values{}
	for name, value := range of {
		v[name] = secrets.NewValue([]byte(value))
	}
	return v
}

func TestCheck(t *testing.T) {
	const secret = "s3cret value"
	for name, test := range map[string]struct {
		settings integration.Settings
		values   map[string]string
		want     []string
	}{
		"fine":      {integration.Settings{"group": "12"}, map[string]string{"token": "abc"}, nil},
		"reference": {integration.Settings{"group": "12"}, map[string]string{"token": "op://vault/my item/token"}, nil},
		"all at once": {integration.Settings{"url": "http://gitlab.example.com", "group": "a", "x": "1"}, map[string]string{"token": secret, "y": "1"},
			[]string{"x: gitlab has no such field; it has url, group, token, second", "y: gitlab has no such field", "url: must begin with https://", "group: ", "token: holds a space"}},
		"nothing":  {nil, nil, []string{"group: is missing: the group's number", "token: is missing: a token of the group's"}},
		"together": {integration.Settings{"group": "12"}, map[string]string{"token": "abc", "second": "d"}, []string{"one is enough"}},
		"long":     {integration.Settings{"group": "12"}, map[string]string{"token": strings.Repeat("a", 70_000)}, []string{"token: has 70000 bytes"}},
		"empty":    {integration.Settings{"group": ""}, map[string]string{"token": ""}, []string{"group: is missing", "token: is missing"}},
	} {
		err := integration.NewRegistry(integration.Options{}, driver()).Check(controlplane.GitLab, test.settings, values(test.values))
		var problems integration.Problems
		if errors.As(err, &problems); len(problems) != len(test.want) {
			t.Errorf("%s: %v; want %d problems", name, err, len(test.want))
		}
		for _, want := range test.want {
			if err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret)) {
				t.Errorf("%s: %v; want %q", name, err, want)
			}
		}
	}
}

func TestOpen(t *testing.T) {
	r := integration.NewRegistry(integration.Options{}, driver())
	opened, err := r.Open(controlplane.GitLab, integration.Settings{"group": "12", "url": ""}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if who, _ := opened.Test(t.Context()); who != "map[group:12 url:https://gitlab.com/]" {
		t.Errorf("it was opened with %s", who)
	}
	if _, err := r.Forge(controlplane.GitLab, nil, nil); err == nil || !strings.Contains(err.Error(), "gitlab has no repositories") {
		t.Errorf("a forge that is none: %v", err)
	}
	if _, err := r.Open(controlplane.Generic, nil, nil); !errors.Is(err, controlplane.ErrNotFound) || !strings.Contains(err.Error(), "[gitlab] do") {
		t.Errorf("a provider without a driver: %v", err)
	}
	if got := r.Providers(); !slices.Equal(got, []controlplane.Provider{controlplane.GitLab}) {
		t.Errorf("the providers are %v", got)
	}
}

// source answers from a map and keeps what it handed out.
type source struct {
	values  map[string]string
	answers []secrets.Answers
}

func (s *source) Versions(context.Context, []secrets.Reference) secrets.Answers { panic("not asked") }

func (s *source) Read(_ context.Context, refs []secrets.Reference) secrets.Answers {
	answers := secrets.Answers{}
	for _, r := range refs {
		value, ok := s.values[r.String()]
		if !ok {
			answers[r] = secrets.Answer{Err: secrets.ErrNotFound}
			continue
		}
		answers[r] = secrets.Answer{Value: secrets.NewValue([]byte(value))}
	}
	s.answers = append(s.answers, answers)
	return answers
}

func TestResolve(t *testing.T) {
	kept := map[string]string{"token": "op://v/i/f", "twin": "op://V/i/f", "plain": "as it is"}
	vault := &source{values: map[string]string{"op://v/i/f": "the value"}}
	open := integration.Keep(func() integration.Values { return values(kept) })
	var handed []secrets.Value
	for range 2 {
		err := integration.Resolve(open, vault)(t.Context(), func(v integration.Values) error {
			for name, want := range map[string]string{"token": "the value", "twin": "the value", "plain": "as it is"} {
				if got, err := v.Bytes(name); err != nil || string(got) != want {
					t.Errorf("%s is %q, %v", name, got, err)
				}
				handed = append(handed, v[name])
			}
			if _, err := v.Bytes("other"); err == nil || v.Has("other") {
				t.Error("there is a credential that nobody set")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, answers := range vault.answers {
		for _, answer := range answers {
			handed = append(handed, answer.Value)
		}
	}
	for _, value := range handed {
		if _, err := value.Bytes(); !errors.Is(err, secrets.ErrWiped) {
			t.Errorf("a value is left behind: %v", err)
		}
	}
	never := func(integration.Values) error {
		t.Error("it is used")
		return nil
	}
	if err := integration.Resolve(open, nil)(t.Context(), never); err == nil || !strings.Contains(err.Error(), "no 1Password") {
		t.Errorf("without a source: %v", err)
	}
	if err := integration.Resolve(open, &source{})(t.Context(), never); !errors.Is(err, secrets.ErrNotFound) {
		t.Errorf("an item that is gone: %v", err)
	}
	kept["token"] = "op://v"
	if err := integration.Resolve(open, vault)(t.Context(), never); err == nil {
		t.Error("a reference that is none is resolved")
	}
	mine := errors.New("mine")
	delete(kept, "token")
	delete(kept, "twin")
	if err := integration.Resolve(open, nil)(t.Context(), func(integration.Values) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("the user's error became %v", err)
	}
}

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"a\nb\t c\x1b[31m": "a b c [31m", "\xff": "\uFFFD", strings.Repeat("\u00fc", 20): strings.Repeat("\u00fc", 8) + "...", "": "", "12345678901234567890": "12345678901234567890",
	} {
		if got := integration.Line(in, 20); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}
