package azuredevops_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/integration"
	"skep/services/controlplane/integration/azuredevops"
	"skep/services/controlplane/integration/azuredevops/azuredevopstest"
	"skep/services/controlplane/integration/forgetest"
)

const full controlplane.Repository = "acme/" + repository

func options() integration.Options {
	clock := forgetest.NewClock()
	return integration.Options{Loopback: true, Now: clock.Now, Wait: clock.Wait}
}

func TestPermissionFailsClosed(t *testing.T) {
	f, forge := start(t, options())
	const writes = azuredevopstest.GenericRead | azuredevopstest.GenericContribute
	f.AddUser(azuredevopstest.User{Name: "grace@example.com", ID: "6f1c2a1e-0c7b-4f3a-9a53-2a1b3c4d5e6f"})
	f.Allow("grace@example.com", repository, writes, 0)
	f.AddUser(azuredevopstest.User{Name: "mallory@example.com", Shown: "ada@example.com"}) // ada has left
	f.Allow("mallory@example.com", repository, writes, 0)
	f.AddUser(azuredevopstest.User{Name: "gone@example.com", Gone: true})
	f.Allow("gone@example.com", repository, writes, 0)
	f.AddUser(azuredevopstest.User{Name: "hidden@example.com"})
	f.Allow("hidden@example.com", repository, writes, 0)
	f.Hide("hidden@example.com")
	f.AddUser(azuredevopstest.User{Name: "denied@example.com"})
	f.Allow("denied@example.com", repository, writes, azuredevopstest.GenericContribute)
	for login, want := range map[string]controlplane.Permission{
		"Grace@Example.com":                                      controlplane.PermissionWrite,
		"6F1C2A1E-0C7B-4F3A-9A53-2A1B3C4D5E6F":                   controlplane.PermissionWrite,
		`00000000-0000-0000-0000-000000000001\grace@example.com`: controlplane.PermissionNone, // this search does not know it
		"ada@example.com":                                        controlplane.PermissionNone,
		"gone@example.com":                                       controlplane.PermissionNone,
		"hidden@example.com":                                     controlplane.PermissionNone,
		"denied@example.com":                                     controlplane.PermissionRead,
		"6f1c2a1e-0c7b-4f3a-9a53-000000000000":                   controlplane.PermissionNone,
		"":                                                       controlplane.PermissionNone,
	} {
		if got, err := forge.Permission(t.Context(), full, login); err != nil || got != want {
			t.Errorf("%q may %d, %v; want %d", login, got, err, want)
		}
	}
	for _, missing := range []string{"vso.identity", "vso.security_manage"} {
		some := slices.DeleteFunc(slices.Clone(scopes), func(s string) bool { return s == missing })
		f.AddToken(azuredevopstest.Token{Value: token, User: self, Scopes: some})
		got, err := forge.Permission(t.Context(), full, "grace@example.com")
		if got != controlplane.PermissionNone || !errors.Is(err, controlplane.ErrDenied) || !strings.Contains(err.Error(), "needs the scope") {
			t.Errorf("without %s: %d, %v", missing, got, err)
		}
	}
}

func TestSignIn(t *testing.T) {
	f, forge := start(t, options())
	f.RevokeTokens()
	if _, err := forge.Head(t.Context(), full, "main"); !errors.Is(err, controlplane.ErrDenied) || !strings.Contains(err.Error(), "401") {
		t.Errorf("a revoked token: %v", err)
	}
	f.SignIn(true)
	if _, err := forge.Head(t.Context(), full, "main"); !errors.Is(err, controlplane.ErrDenied) || !strings.Contains(err.Error(), "rotate the integration") {
		t.Errorf("the sign-in page: %v", err)
	}
	if body, err := forge.Archive(t.Context(), full, controlplane.Commit(strings.Repeat("a", 40))); !errors.Is(err, controlplane.ErrDenied) {
		t.Errorf("the sign-in page as an archive: %v, %v", body, err)
	}
}

func TestExpiredToken(t *testing.T) {
	o := options()
	f, forge := start(t, o)
	f.AddToken(azuredevopstest.Token{Value: token, User: self, Scopes: scopes, Expires: o.Now().Add(-time.Second)})
	if _, err := forge.Test(t.Context()); !errors.Is(err, controlplane.ErrDenied) || !strings.Contains(err.Error(), "has expired") {
		t.Errorf("an expired token: %v", err)
	}
}

func TestOtherOrganization(t *testing.T) {
	f, forge := start(t, options())
	for r, want := range map[controlplane.Repository]error{"evil/" + repository: controlplane.ErrDenied, "acme/swarm": nil, "acme/a/b/c": nil} {
		if _, err := forge.Head(t.Context(), r, "main"); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v", r, err)
		}
		if _, err := forge.StartRun(t.Context(), r, 1, "main", "", nil); err == nil {
			t.Errorf("a run in %s starts", r)
		}
	}
	if got := f.Requests(); got != 0 {
		t.Errorf("the token went out %d times", got)
	}
}

func TestHeadBehindManyPages(t *testing.T) {
	f, forge := start(t, options())
	f.PageSize(2)
	var want controlplane.Commit
	for i := range 6 {
		c, err := f.Push(controlplane.Branch("release"+strings.Repeat("-1", i)), map[string]string{"a": fmt.Sprint(i)})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			want = c
		}
	}
	if got, err := forge.Head(t.Context(), full, "release"); err != nil || got != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
}

func TestReportReachesPullRequests(t *testing.T) {
	f, forge := start(t, options())
	f.PageSize(2)
	first, err := f.Push("work", map[string]string{"a": "1"})
	if err != nil {
		t.Fatal(err)
	}
	open := func(head controlplane.Branch) int {
		n, err := f.OpenPullRequest(forgetest.PullRequest{Head: head, Base: "main", Author: "ada"})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	ours, closed := open("work"), open("work")
	f.ClosePull(repository, closed, "abandoned")
	if _, err := f.Push("other", map[string]string{"b": "1"}); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		open("other")
	}
	second, err := f.Push("work", map[string]string{"a": "2"})
	if err != nil {
		t.Fatal(err)
	}
	report := controlplane.Report{Name: "skep/plan", State: controlplane.ReportFailure, Title: "no", URL: "https://skep.example.com/runs/1"}
	for _, c := range []controlplane.Commit{first, second} {
		if err := forge.Report(t.Context(), full, c, report); err != nil {
			t.Fatal(err)
		}
	}
	got := f.PullStatuses(repository, ours)
	if len(got) != 1 || got[0].Iteration != 2 || got[0].State != "failed" || got[0].Context.Genre != "skep" || got[0].Context.Name != "plan" || got[0].TargetURL != report.URL {
		t.Errorf("the pull request has %+v; want one, of the second push", got)
	}
	if got := f.PullStatuses(repository, closed); len(got) != 0 {
		t.Errorf("a closed pull request has %+v", got)
	}
	if err := forge.Report(t.Context(), full, second, controlplane.Report{Name: "x", State: "odd"}); err == nil {
		t.Error("a state that there is not is taken")
	}
}

func TestReportOnFork(t *testing.T) {
	f, forge := start(t, options())
	if _, err := f.Push("main", map[string]string{"a": "b"}); err != nil {
		t.Fatal(err)
	}
	elsewhere := controlplane.Commit(strings.Repeat("ab", 20))
	f.OpenPull(repository, azuredevopstest.Pull{Number: 9, Source: "main", Target: "main", Head: string(elsewhere), Author: self, Fork: true})
	if err := forge.Report(t.Context(), full, elsewhere, controlplane.Report{Name: "skep/plan", State: controlplane.ReportSuccess}); err != nil {
		t.Error(err)
	}
	if got := f.PullStatuses(repository, 9); len(got) != 1 || got[0].State != "succeeded" {
		t.Errorf("the pull request has %+v", got)
	}
	nowhere := controlplane.Commit(strings.Repeat("cd", 20))
	if err := forge.Report(t.Context(), full, nowhere, controlplane.Report{Name: "skep/plan", State: controlplane.ReportSuccess}); !errors.Is(err, controlplane.ErrNotFound) {
		t.Errorf("a report on no commit: %v", err)
	}
}

func TestLabelThatWasTakenOff(t *testing.T) {
	f, forge := start(t, options())
	if _, err := f.Push("main", map[string]string{"a": "b"}); err != nil {
		t.Fatal(err)
	}
	n, err := f.OpenPullRequest(forgetest.PullRequest{Head: "main", Base: "main", Author: "ada", Labels: []string{"-preview", "kept"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := forge.PullRequest(t.Context(), full, n); err != nil || !slices.Equal(got.Labels, []string{"kept"}) {
		t.Errorf("the labels are %v, %v", got.Labels, err)
	}
}

func TestCommentAfterDeletion(t *testing.T) {
	f, forge := start(t, options())
	if _, err := f.Push("main", map[string]string{"a": "b"}); err != nil {
		t.Fatal(err)
	}
	n, err := f.OpenPullRequest(forgetest.PullRequest{Head: "main", Base: "main", Author: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if err := forge.Comment(t.Context(), full, n, "plan", "text"); err != nil {
			t.Fatal(err)
		}
		threads := f.Threads(repository, n)
		if len(threads) != i+1 || threads[i].Status != "closed" {
			t.Fatalf("there are %+v", threads)
		}
		f.DeleteThread(repository, n, threads[i].ID)
	}
}

func TestPipelineRun(t *testing.T) {
	f, forge := start(t, options())
	f.AddPipeline("platform", 7)
	commit := controlplane.Commit(strings.Repeat("a", 40))
	run, err := forge.StartRun(t.Context(), full, 7, "main", commit, map[string]string{"stack": "media"})
	if err != nil || run.State != azuredevops.RunInProgress || !strings.Contains(run.URL, "_build/results") {
		t.Fatalf("a started run is %+v, %v", run, err)
	}
	if got := f.Runs(7); len(got) != 1 || got[0].Ref != "refs/heads/main" || got[0].Version != string(commit) || got[0].Parameters["stack"] != "media" {
		t.Errorf("what runs is %+v", got)
	}
	for result, want := range map[string]azuredevops.RunState{"succeeded": azuredevops.RunSucceeded, "failed": azuredevops.RunFailed, "canceled": azuredevops.RunCanceled} {
		f.EndRun(7, run.ID, result)
		if got, err := forge.PipelineRun(t.Context(), full, 7, run.ID); err != nil || got.State != want {
			t.Errorf("%s shows as %+v, %v", result, got, err)
		}
	}
	f.EndRun(7, run.ID, "unknown")
	if got, err := forge.PipelineRun(t.Context(), full, 7, run.ID); err == nil {
		t.Errorf("an unknown result shows as %+v", got)
	}
	if _, err := forge.PipelineRun(t.Context(), full, 8, 1); !errors.Is(err, controlplane.ErrNotFound) {
		t.Errorf("a run of no pipeline: %v", err)
	}
}

func TestSettings(t *testing.T) {
	registry := integration.NewRegistry(integration.Options{}, azuredevops.Driver())
	for _, s := range []integration.Settings{
		{}, {"organization": "a/b"}, {"organization": ".."}, {"organization": "a b?"}, {"organization": "acme", "base_url": "http://dev.azure.com"},
		{"organization": "acme", "base_url": "https://169.254.169.254"},
	} {
		values := integration.Values{"token": secrets.NewValue([]byte(token))}
		if err := registry.Check(controlplane.AzureDevOps, s, values); err == nil {
			t.Errorf("%v is taken", s)
		}
	}
	for _, bad := range []string{"", "two words", "line\n"} {
		values := integration.Values{"token": secrets.NewValue([]byte(bad))}
		if err := registry.Check(controlplane.AzureDevOps, integration.Settings{"organization": "acme"}, values); err == nil {
			t.Errorf("the token %q is taken", bad)
		}
	}
}
