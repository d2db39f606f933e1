package store_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/store"
)

// credentials reads what an integration has, as text.
func credentials(t *testing.T, s *store.Store, name controlplane.Name) map[string]string {
	t.Helper()
	got := map[string]string{}
	var kept secrets.Value
	err := s.Credentials(t.Context(), controlplane.GitHub, name, func(values map[string]secrets.Value) error {
		for field, v := range values {
			b, err := v.Bytes()
			if err != nil {
				return err
			}
			got[field], kept = string(b), v
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kept.Bytes(); len(got) > 0 && !errors.Is(err, secrets.ErrWiped) {
		t.Errorf("a value outlives its operation: %v", err)
	}
	return got
}

func TestIntegrations(t *testing.T) {
	s, _ := newStore(t)
	in := controlplane.Integration{Provider: controlplane.GitHub, Name: "main", Settings: map[string]string{"app": "1"}}
	want := map[string]string{"private-key": strings.Repeat("-key-", 600), "token": "op://vault/github/token", "zeros": "a\x00b\xff"}
	values := map[string]secrets.Value{}
	for field, v := range want {
		values[field] = value(v)
	}
	put, err := s.PutIntegration(t.Context(), in, values)
	if err != nil {
		t.Fatal(err)
	}
	if put.Version != 1 || put.KeyID != "k1" || !slices.Equal(put.Fields, []string{"private-key", "token", "zeros"}) {
		t.Errorf("PutIntegration = %+v", put)
	}
	if got := credentials(t, s, "main"); !maps.Equal(got, want) {
		t.Errorf("Credentials = %q", got)
	}
	if b, err := values["zeros"].Bytes(); err != nil || string(b) != want["zeros"] {
		t.Errorf("the caller's value is %q, %v", b, err)
	}

	in.Settings = map[string]string{"url": "https://github.example.com"}
	if put, err = s.PutIntegration(t.Context(), in, nil); err != nil || put.Version != 2 || !maps.Equal(put.Settings, in.Settings) {
		t.Errorf("new settings: %+v, %v", put, err)
	}
	if got := credentials(t, s, "main"); !maps.Equal(got, want) {
		t.Errorf("new settings took the credentials along: %q", got)
	}
	if _, err = s.PutIntegration(t.Context(), in, map[string]secrets.Value{"token": value("two")}); err != nil {
		t.Fatal(err)
	}
	if got := credentials(t, s, "main"); !maps.Equal(got, map[string]string{"token": "two"}) {
		t.Errorf("after rotation: %q", got)
	}
	if err := s.IntegrationTested(t.Context(), controlplane.GitHub, "main"); err != nil {
		t.Error(err)
	}
	listed, err := s.ListIntegrations(t.Context(), controlplane.GitHub)
	if err != nil || len(listed) != 1 || listed[0].Tested.IsZero() {
		t.Errorf("ListIntegrations = %+v, %v", listed, err)
	}
	if none, err := s.ListIntegrations(t.Context(), controlplane.GitLab); err != nil || len(none) != 0 {
		t.Errorf("ListIntegrations of another provider = %+v, %v", none, err)
	}

	cause := errors.New("cause")
	if err := s.Credentials(t.Context(), controlplane.GitHub, "main", func(map[string]secrets.Value) error { return cause }); !errors.Is(err, cause) {
		t.Errorf("the operation's error is lost: %v", err)
	}
	if err := s.Credentials(t.Context(), controlplane.GitHub, "other", nil); !errors.Is(err, controlplane.ErrNotFound) {
		t.Errorf("credentials of nobody: %v", err)
	}

	source := controlplane.Source{Provider: controlplane.GitHub, Name: "hook", Integration: "main", Secret: value("s")}
	if _, err := s.PutSource(t.Context(), source); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteIntegration(t.Context(), controlplane.GitHub, "main"); !errors.Is(err, controlplane.ErrConflict) {
		t.Errorf("an integration that a source needs: %v", err)
	}
	if err := s.DeleteSource(t.Context(), controlplane.GitHub, "hook"); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteIntegration(t.Context(), controlplane.GitHub, "main"); err != nil {
		t.Error(err)
	}
	if err := s.DeleteIntegration(t.Context(), controlplane.GitHub, "main"); !errors.Is(err, controlplane.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
}

func TestIntegrationRefused(t *testing.T) {
	s, dsn := newStore(t)
	wiped := value("gone")
	wiped.Wipe()
	many := map[string]secrets.Value{}
	for i := range 51 {
		many[fmt.Sprint("field", i)] = value("x")
	}
	good := controlplane.Integration{Provider: controlplane.GitHub, Name: "main"}
	for name, test := range map[string]struct {
		in     controlplane.Integration
		values map[string]secrets.Value
	}{
		"empty value":   {good, map[string]secrets.Value{"token": value("")}},
		"zero value":    {good, map[string]secrets.Value{"token": {}}},
		"wiped value":   {good, map[string]secrets.Value{"token": wiped}},
		"large value":   {good, map[string]secrets.Value{"token": value(strings.Repeat("x", 65<<10))}},
		"empty field":   {good, map[string]secrets.Value{"": value("x")}},
		"many fields":   {good, many},
		"no name":       {controlplane.Integration{Provider: controlplane.GitHub}, nil},
		"no provider":   {controlplane.Integration{Name: "main"}, nil},
		"wrong setting": {controlplane.Integration{Provider: controlplane.GitHub, Name: "main", Settings: map[string]string{"a": "\x00"}}, nil},
	} {
		if _, err := s.PutIntegration(t.Context(), test.in, test.values); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if n := query[int64](t, dsn, "SELECT count(*) FROM integration"); n[0] != 0 {
		t.Errorf("%d integrations are left of those that were refused", n[0])
	}
}

func TestSources(t *testing.T) {
	s, _ := newStore(t)
	id := newSource(t, s, "main")
	found, err := s.Source(t.Context(), controlplane.GitHub, "main")
	if err != nil {
		t.Fatal(err)
	}
	if secret, err := found.Secret.Bytes(); err != nil || string(secret) != "signs main" || found.ID != id {
		t.Errorf("Source = %+v with %d bytes, %v", found, len(secret), err)
	}
	for name, secret := range map[string]secrets.Value{
		"missing": {}, "empty": value(""), "a reference": value("op://vault/item/secret"), "huge": value(strings.Repeat("x", 65<<10)),
	} {
		source := controlplane.Source{Provider: controlplane.GitHub, Name: "main", Secret: secret}
		if _, err := s.PutSource(t.Context(), source); !errors.Is(err, controlplane.ErrInvalid) {
			t.Errorf("a secret that is %s: %v", name, err)
		}
	}
	orphan := controlplane.Source{Provider: controlplane.GitHub, Name: "orphan", Integration: "nobody", Secret: value("x")}
	if _, err := s.PutSource(t.Context(), orphan); !errors.Is(err, controlplane.ErrNotFound) || !strings.Contains(err.Error(), "the integration that it names") {
		t.Errorf("a source of no integration: %v", err)
	}
	again, err := s.PutSource(t.Context(), controlplane.Source{Provider: controlplane.GitHub, Name: "main", Secret: value("new"), Disabled: true})
	if err != nil || again.ID != id {
		t.Errorf("put again: %+v, %v", again, err)
	}
	if found, err := s.SourceByID(t.Context(), id); err != nil || !found.Disabled || found.Name != "main" || found.Secret.Len() > 0 {
		t.Errorf("SourceByID = %+v, %v", found, err)
	}
	listed, err := s.ListSources(t.Context())
	if err != nil || len(listed) != 1 || listed[0].Secret.Len() > 0 {
		t.Errorf("ListSources = %+v, %v", listed, err)
	}
	if _, err := s.Source(t.Context(), controlplane.GitLab, "main"); !errors.Is(err, controlplane.ErrNotFound) {
		t.Errorf("a source of another provider: %v", err)
	}
}

func TestProjects(t *testing.T) {
	s, _ := newStore(t)
	if _, err := s.PutIntegration(t.Context(), controlplane.Integration{Provider: controlplane.GitHub, Name: "main"}, nil); err != nil {
		t.Fatal(err)
	}
	in := controlplane.Project{
		Name: "home", Integration: "main", Provider: controlplane.GitHub, Repository: "Ada/Home", Branch: "main", Folder: "stacks",
		Cluster: "homelab", Deploy: controlplane.DeployAlways,
		Previews: controlplane.Previews{Enabled: true, Label: "preview", Lifetime: 72e9, Limit: 3},
	}
	put, err := s.PutProject(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	in.ID, in.Created = put.ID, put.Created
	if got, err := s.Project(t.Context(), "home"); err != nil || got != in {
		t.Errorf("Project = %+v, %v; want %+v", got, err, in)
	}
	if of, err := s.ProjectsOf(t.Context(), controlplane.GitHub, "ada/home"); err != nil || len(of) != 1 || of[0] != in {
		t.Errorf("ProjectsOf = %+v, %v", of, err)
	}
	if of, err := s.ProjectsOf(t.Context(), controlplane.GitHub, "ada/other"); err != nil || len(of) != 0 {
		t.Errorf("ProjectsOf another = %+v, %v", of, err)
	}
	for name, change := range map[string]func(*controlplane.Project){
		"no name":     func(p *controlplane.Project) { p.Name = "" },
		"no policy":   func(p *controlplane.Project) { p.Deploy = "" },
		"path out":    func(p *controlplane.Project) { p.Repository = "ada/../home" },
		"branch":      func(p *controlplane.Project) { p.Branch = "-x" },
		"previews":    func(p *controlplane.Project) { p.Previews.Limit = -1 },
		"long folder": func(p *controlplane.Project) { p.Folder = strings.Repeat("x", 1001) },
	} {
		bad := in
		change(&bad)
		if _, err := s.PutProject(t.Context(), bad); !errors.Is(err, controlplane.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	orphan := in
	orphan.Name, orphan.Integration = "orphan", "nobody"
	if _, err := s.PutProject(t.Context(), orphan); !errors.Is(err, controlplane.ErrNotFound) {
		t.Errorf("a project of no integration: %v", err)
	}
	if all, err := s.ListProjects(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("ListProjects = %+v, %v", all, err)
	}
	if err := s.DeleteProject(t.Context(), "home"); err != nil {
		t.Error(err)
	}
	if _, err := s.Project(t.Context(), "home"); !errors.Is(err, controlplane.ErrNotFound) {
		t.Errorf("after its deletion: %v", err)
	}
}
