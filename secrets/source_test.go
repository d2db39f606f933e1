package secrets

import (
	"errors"
	"slices"
	"testing"
)

func TestNearest(t *testing.T) {
	names := []string{"password", "username", "Passphrase", "db", "one-time password", "password"}
	for name, want := range map[string][]string{
		"pasword":  {"password"},
		"PASSWORD": {"password", "one-time password"},
		"passwrod": {"password"},
		"bd":       {"db"},
		"colour":   nil,
	} {
		if got := Nearest(name, names); !slices.Equal(got, want) {
			t.Errorf("Nearest(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestSourceErrors(t *testing.T) {
	missing := &NotFoundError{What: "field", Name: "pasword", In: "item db", Near: []string{"password", "passphrase"}}
	if got := missing.Error(); got != `there is no field "pasword" in item db; did you mean password or passphrase?` || !errors.Is(missing, ErrNotFound) {
		t.Errorf("got %s", got)
	}
	ambiguous := &AmbiguousError{What: "item", Name: "db", In: "vault homelab", IDs: []string{"a", "b", "c"}}
	if got := ambiguous.Error(); got != `3 items are called "db" in vault homelab: name one by its id, a, b or c` || !errors.Is(ambiguous, ErrAmbiguous) {
		t.Errorf("got %s", got)
	}
}

func TestAnswersErr(t *testing.T) {
	a, b := mustReference(t, "op://v/i/a"), mustReference(t, "op://v/i/b")
	if err := (Answers{a: {}, b: {}}).Err(); err != nil {
		t.Errorf("got %v", err)
	}
	err := (Answers{b: {Err: ErrDenied}, a: {Err: ErrNotFound}}).Err()
	if err == nil || err.Error() != "resolve op://v/i/a: not found\nresolve op://v/i/b: access denied" {
		t.Errorf("got %v", err)
	}
}
