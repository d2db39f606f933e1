package environ_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"skep/secrets"
	"skep/secrets/environ"
	"skep/secrets/secretstest"
)

func TestConformance(t *testing.T) {
	secretstest.Conformance(t, func(t *testing.T, content secretstest.Content) secretstest.Subject {
		env := map[string]string{}
		set := func(vault, item, field, value string) {
			env[environ.Variable(parse(t, "op://"+vault+"/"+item+"/"+field))] = value
		}
		for vault, items := range content {
			for item, fields := range items {
				for field, value := range fields {
					set(vault, item, field, value)
				}
			}
		}
		run := 1
		return secretstest.Subject{
			Source: environ.New(lookup(env)),
			Set: func(vault, item, field, value string) {
				set(vault, item, field, value)
				run++
				env[environ.VersionVariable] = strconv.Itoa(run)
			},
		}
	})
}

func TestVariable(t *testing.T) {
	for ref, want := range map[string]string{
		"op://homelab/postgres-shared/password": "SKEP_SECRET_HOMELAB_POSTGRES_SHARED_PASSWORD",
		"op://v/my item/a section/the.field":    "SKEP_SECRET_V_MY_ITEM_A_SECTION_THE_FIELD",
	} {
		if got := environ.Variable(parse(t, ref)); got != want {
			t.Errorf("%s is %s, want %s", ref, got, want)
		}
	}
}

func TestErrors(t *testing.T) {
	env := map[string]string{"SKEP_SECRET_V_A_B": "hunter2"}
	s := environ.New(lookup(env))
	dash, space, query := parse(t, "op://v/a-b/f"), parse(t, "op://v/a b/f"), parse(t, "op://v/a/b?attribute=otp")
	env["SKEP_SECRET_V_A_B_F"] = "hunter2"
	if err := s.Read(t.Context(), []secrets.Reference{dash, space}).Err(); !errors.Is(err, secrets.ErrAmbiguous) || !strings.Contains(err.Error(), "op://v/a b/f and op://v/a-b/f are both the variable SKEP_SECRET_V_A_B_F") {
		t.Errorf("got %v", err)
	}
	if err := s.Read(t.Context(), []secrets.Reference{dash, dash}).Err(); err != nil {
		t.Errorf("one reference twice: %v", err)
	}
	if err := s.Read(t.Context(), []secrets.Reference{query}).Err(); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a query: %v", err)
	}
	env[environ.VersionVariable] = "0"
	if err := s.Versions(t.Context(), []secrets.Reference{dash}).Err(); err == nil {
		t.Error("version 0 is taken")
	}
}

func lookup(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := env[name]; return v, ok }
}

func parse(t *testing.T, s string) secrets.Reference {
	t.Helper()
	r, err := secrets.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
