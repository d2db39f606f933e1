package store_test

import (
	"errors"
	"fmt"
	"testing"

	"skep/services/controlplane"
)

// What is in more than one page is listed whole, and in order.
func TestLongLists(t *testing.T) {
	s, dsn := newStore(t)
	const many = 1203
	if _, err := s.PutIntegration(t.Context(), controlplane.Integration{Provider: controlplane.GitHub, Name: "main"}, nil); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		`INSERT INTO skep.integration (provider, name) SELECT 'github', 'i' || n FROM generate_series(1, $1 - 1) n`,
		`INSERT INTO skep.source (provider, name, cipher, key_id) SELECT 'generic', 's' || n, 'x', 'k' FROM generate_series(1, $1) n`,
		`INSERT INTO skep.project (name, provider, integration, repository, cluster, deploy)
			SELECT 'p' || n, 'github', 'main', 'a/b', 'c', 'never' FROM generate_series(1, $1) n`,
		`INSERT INTO skep.run (id, key, kind, task) SELECT gen_random_uuid(), 'k' || n, 'task', 'busy' FROM generate_series(1, $1) n`,
		`INSERT INTO skep.preview (project, number, commit, expires) SELECT 'p1', n, '', now() FROM generate_series(1, $1) n`,
	} {
		query[int](t, dsn, sql+" RETURNING 1", many)
	}
	check := func(what string, list []string, err error) {
		t.Helper()
		seen := map[string]bool{}
		for _, l := range list {
			seen[l] = true
		}
		if err != nil || len(list) != many || len(seen) != many {
			t.Errorf("%d %s, %d of them different: %v", len(list), what, len(seen), err)
		}
	}
	integrations, err := s.ListIntegrations(t.Context(), "")
	check("integrations", keys(integrations, func(i controlplane.Integration) any { return i.Name }), err)
	sources, err := s.ListSources(t.Context())
	check("sources", keys(sources, func(i controlplane.Source) any { return i.Name }), err)
	projects, err := s.ListProjects(t.Context())
	check("projects", keys(projects, func(i controlplane.Project) any { return i.Name }), err)
	runs, err := s.Unfinished(t.Context(), "busy")
	check("unfinished runs", keys(runs, func(r controlplane.Run) any { return r.ID }), err)
	previews, err := s.ListPreviews(t.Context(), "p1")
	check("previews", keys(previews, func(i controlplane.Preview) any { return i.Number }), err)
}

func keys[T any](list []T, key func(T) any) (out []string) {
	for _, one := range list {
		out = append(out, fmt.Sprint(key(one)))
	}
	return out
}

// A source is changed without its secret, which nobody reads for it.
func TestChangeSource(t *testing.T) {
	s, _ := newStore(t)
	id := newSource(t, s, "main")
	if _, err := s.PutTask(t.Context(), controlplane.Task{Name: "report", TaskSpec: controlplane.TaskSpec{Image: "report:1"}}); err != nil {
		t.Fatal(err)
	}
	change := func(name, task controlplane.Name) error {
		_, err := s.ChangeSource(t.Context(), controlplane.Source{Provider: controlplane.GitHub, Name: name, Task: task, Disabled: true})
		return err
	}
	if err := change("main", "report"); err != nil {
		t.Fatal(err)
	}
	found, err := s.Source(t.Context(), controlplane.GitHub, "main")
	if err != nil {
		t.Fatal(err)
	}
	if secret, err := found.Secret.Bytes(); err != nil || string(secret) != "signs main" || found.ID != id || found.Task != "report" || !found.Disabled {
		t.Errorf("the source is %+v, %v", found, err)
	}
	if byID, err := s.SourceByID(t.Context(), id); err != nil || byID.Task != "report" {
		t.Errorf("the source is %+v, %v", byID, err)
	}
	for name, err := range map[string]error{"no source": change("nobody", ""), "no task": change("main", "nobody")} {
		if !errors.Is(err, controlplane.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.DeleteTask(t.Context(), "report"); !errors.Is(err, controlplane.ErrConflict) {
		t.Errorf("a task that a source starts is deleted: %v", err)
	}
}

// What is deployed is the commit of the last deploy of everything that went well.
func TestDeployed(t *testing.T) {
	s, _ := newStore(t)
	deployed := func(want controlplane.Commit) {
		t.Helper()
		if got, err := s.Deployed(t.Context(), "home"); err != nil || got != want {
			t.Errorf("deployed is %q, %v; want %q", got, err, want)
		}
	}
	deployed("")
	for i, r := range []struct {
		kind          controlplane.RunKind
		input, output string
		state         controlplane.RunState
		after         controlplane.Commit
	}{
		{controlplane.RunDeploy, `{"change":{"Commit":"a"}}`, `{"summary":"deployed","commit":"aa"}`, controlplane.RunSucceeded, "aa"},
		{controlplane.RunDeploy, `{"change":{}}`, `{"commit":"bb"}`, controlplane.RunSucceeded, "bb"},
		{controlplane.RunDeploy, `{"change":{}}`, `{"commit":"cc"}`, controlplane.RunFailed, "bb"},
		{controlplane.RunPlan, `{"change":{}}`, `{"commit":"dd"}`, controlplane.RunSucceeded, "bb"},
		{controlplane.RunDeploy, `{"change":{},"command":{"Stacks":["app"]}}`, `{"commit":"ee"}`, controlplane.RunSucceeded, "bb"},
	} {
		id, _, err := s.Start(t.Context(), controlplane.Run{Key: fmt.Sprint("k", i), Kind: r.kind, Project: "home", Input: []byte(r.input)})
		if err == nil {
			err = s.Finish(t.Context(), id, r.state, []byte(r.output), "")
		}
		if err != nil {
			t.Fatal(err)
		}
		deployed(r.after)
	}
}
