package github_test

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"skep/services/controlplane"
	"skep/services/controlplane/integration"
	"skep/services/controlplane/integration/github"
	"skep/services/controlplane/integration/github/githubtest"
)

// A deployment has its states once each, whoever tells them twice; one that is
// done ends the one before it, and one that never began is not there.
func TestDeployments(t *testing.T) {
	for name, user := range map[string]bool{"app": false, "user": true} {
		t.Run(name, func(t *testing.T) {
			var s *githubtest.Server
			var f *github.Forge
			o := integration.Options{Loopback: true}
			if user {
				s = start(t, githubtest.Options{User: &githubtest.User{Login: "skep-user", Token: token}})
				f = open(t, integration.Settings{github.BaseURL: s.URL()}, map[string]string{github.Token: token}, o)
			} else {
				app := newApp()
				app.Permissions["deployments"] = "write"
				s = start(t, githubtest.Options{App: app})
				f = open(t, appSettings(s), map[string]string{github.PrivateKey: string(keyPEM())}, o)
			}
			c, err := s.Push(t.Context(), repo, "main", "ada", map[string]githubtest.File{"a": {Content: "b"}})
			if err != nil {
				t.Fatal(err)
			}
			// What other checks say does not matter.
			if err := f.Report(t.Context(), repo, c, controlplane.Report{Name: "skep/x", State: controlplane.ReportPending}); err != nil {
				t.Fatal(err)
			}
			tell := func(run, environment string, states ...controlplane.DeploymentState) {
				t.Helper()
				for _, state := range states {
					for range 2 {
						err := f.Deployment(t.Context(), repo, c, controlplane.Deployment{
							Run: run, Project: "home", Environment: environment, Preview: environment != "home", State: state, URL: "https://app.example.com",
						})
						if err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			tell("r0", "home", controlplane.DeploymentFailed)
			tell("r1", "home", controlplane.DeploymentBegun, controlplane.DeploymentDone)
			tell("p1", "pr-7", controlplane.DeploymentBegun, controlplane.DeploymentDone)
			tell("r2", "home", controlplane.DeploymentBegun, controlplane.DeploymentFailed)
			tell("r3", "home", controlplane.DeploymentBegun, controlplane.DeploymentDone)
			for range 2 {
				if err := f.Retire(t.Context(), repo, "home", "pr-7"); err != nil {
					t.Fatal(err)
				}
				if err := f.Retire(t.Context(), repo, "other", "home"); err != nil {
					t.Fatal(err)
				}
			}
			made := func(environment string, states ...string) githubtest.Deployment {
				return githubtest.Deployment{Commit: c, Environment: environment, Task: "deploy:home", Transient: environment != "home", States: states}
			}
			want := []githubtest.Deployment{
				made("home", "in_progress", "success", "inactive"), made("pr-7", "in_progress", "success", "inactive"),
				made("home", "in_progress", "failure"), made("home", "in_progress", "success"),
			}
			want[2].URL, want[3].URL = "https://app.example.com", "https://app.example.com"
			if got := s.Deployments(repo); !reflect.DeepEqual(got, want) {
				t.Errorf("the deployments are\n%+v, want\n%+v", got, want)
			}
			if err := f.Deployment(t.Context(), repo, "main", controlplane.Deployment{}); err == nil {
				t.Error("a branch is taken for a commit")
			}
		})
	}
}

// Two that begin at once leave two check runs in progress: the one that ends
// ends both.
func TestReportsThatBeganAtOnce(t *testing.T) {
	s := start(t, githubtest.Options{App: newApp()})
	f := open(t, appSettings(s), map[string]string{github.PrivateKey: string(keyPEM())}, integration.Options{Loopback: true})
	c, err := s.Push(t.Context(), repo, "main", "ada", map[string]githubtest.File{"a": {Content: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	report := func(state controlplane.ReportState) {
		t.Helper()
		if err := f.Report(t.Context(), repo, c, controlplane.Report{Name: "skep/home", State: state}); err != nil {
			t.Fatal(err)
		}
	}
	report(controlplane.ReportPending)
	// The other one has not seen it.
	body := strings.NewReader(`{"name":"skep/home","head_sha":"` + string(c) + `","status":"in_progress"}`)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"repos/"+string(repo)+"/check-runs", body)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(s.Tokens(), func(g githubtest.Granted) bool { return g.Permissions["checks"] == "write" })
	r.Header.Set("Authorization", "Bearer "+s.Tokens()[i].Value)
	r.Header.Set("User-Agent", "test")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if n := s.Unfinished(repo, c); answer.StatusCode != http.StatusCreated || n != 2 {
		t.Fatalf("%s, %d check runs are in progress", answer.Status, n)
	}
	report(controlplane.ReportSuccess)
	if got := s.Reports(repo, c); s.Unfinished(repo, c) != 0 || len(got) != 1 || got[0].State != "success" {
		t.Errorf("%d check runs are in progress, the commit shows %+v", s.Unfinished(repo, c), got)
	}
}
