package azuredevops_test

import (
	"context"
	"encoding/base64"
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
	"skep/services/controlplane/integration/gittest"
)

const (
	token      = "pat-planted-7f3a9c1e5b8d2046"
	self       = "skep@example.com"
	repository = "platform/swarm"
)

// fake is a server with one repository.
type fake struct {
	*azuredevopstest.Server
	t     *testing.T
	git   gittest.Repository
	pulls int
}

func (f *fake) Push(b controlplane.Branch, files map[string]string) (controlplane.Commit, error) {
	c, err := f.git.Push(f.t.Context(), b, files)
	if err == nil {
		f.PushPulls(repository, string(b), string(c))
	}
	return c, err
}

func (f *fake) user(login string) {
	if !f.HasUser(login) {
		f.AddUser(azuredevopstest.User{Name: login, Shown: "Somebody"})
	}
}

func (f *fake) OpenPullRequest(p forgetest.PullRequest) (int, error) {
	head, err := f.git.Head(f.t.Context(), p.Head)
	if err != nil {
		return 0, err
	}
	f.user(p.Author)
	f.pulls++
	f.OpenPull(repository, azuredevopstest.Pull{
		Number: f.pulls, Source: string(p.Head), Target: string(p.Base), Head: string(head), Author: p.Author, Labels: p.Labels, Fork: p.Fork,
	})
	return f.pulls, nil
}

func (f *fake) ClosePullRequest(number int) error {
	f.ClosePull(repository, number, "completed")
	return nil
}

func (f *fake) AddComment(number int, author, body string) (string, error) {
	f.user(author)
	// Whoever copies the text copies the property too.
	thread := f.AddThread(repository, number, author, body, map[string]string{"Skep.Key": "plan"})
	return fmt.Sprintf("%d/1", thread), nil
}

func (f *fake) Comments(number int) []controlplane.Comment {
	var comments []controlplane.Comment
	for _, t := range f.Threads(repository, number) {
		for _, c := range t.Comments {
			comments = append(comments, controlplane.Comment{ID: fmt.Sprintf("%d/%d", t.ID, c.ID), Author: c.Author.Name, Body: c.Content})
		}
	}
	return comments
}

func (f *fake) Reactions(number int, comment string) []string {
	for _, t := range f.Threads(repository, number) {
		for _, c := range t.Comments {
			if fmt.Sprintf("%d/%d", t.ID, c.ID) == comment {
				return c.Likes
			}
		}
	}
	return nil
}

func (f *fake) Grant(login string, p controlplane.Permission) {
	f.user(login)
	allow := map[controlplane.Permission]int{
		controlplane.PermissionRead:  azuredevopstest.GenericRead,
		controlplane.PermissionWrite: azuredevopstest.GenericRead | azuredevopstest.GenericContribute,
		controlplane.PermissionAdmin: azuredevopstest.GenericRead | azuredevopstest.GenericContribute | azuredevopstest.Administer,
	}[p]
	f.Allow(login, repository, allow, 0)
}

func (f *fake) Reports(c controlplane.Commit) []forgetest.Report {
	var reports []forgetest.Report
	for _, s := range f.Statuses(repository, string(c)) {
		name := strings.TrimPrefix(s.Context.Genre+"/"+s.Context.Name, "/")
		reports = slices.DeleteFunc(reports, func(r forgetest.Report) bool { return r.Name == name })
		reports = append(reports, forgetest.Report{Name: name, State: s.State})
	}
	return reports
}

func (f *fake) ReplaceArchive(c controlplane.Commit, content []byte) {
	f.Server.ReplaceArchive(repository, string(c), content)
}

// Expire does nothing: a personal access token lives for long.
func (f *fake) Expire() {}

func (f *fake) Revoke() { f.RevokeTokens() }

var scopes = []string{"vso.code_write", "vso.code_status", "vso.identity", "vso.security_manage", "vso.build_execute"}

// start is a server with its users, and a client.
func start(t *testing.T, o integration.Options) (*fake, *azuredevops.Forge) {
	t.Helper()
	git, err := gittest.Init(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	server, err := azuredevopstest.Start("acme", o.Time)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fake{Server: server, t: t, git: git}
	f.AddRepository(repository, git)
	f.Grant(self, controlplane.PermissionAdmin)
	f.AddToken(azuredevopstest.Token{Value: token, User: self, Scopes: scopes, Expires: o.Time().Add(365 * 24 * time.Hour)})
	registry := integration.NewRegistry(o, azuredevops.Driver())
	settings := integration.Settings{"base_url": server.URL, "organization": "acme"}
	values := integration.Values{"token": secrets.NewValue([]byte(token))}
	if err := registry.Check(controlplane.AzureDevOps, settings, values); err != nil {
		t.Fatal(err)
	}
	forge, err := registry.Forge(controlplane.AzureDevOps, settings, credentials(token))
	if err != nil {
		t.Fatal(err)
	}
	return f, forge.(*azuredevops.Forge)
}

// credentials hands over a copy, and wipes it.
func credentials(token string) integration.Credentials {
	return func(_ context.Context, use func(integration.Values) error) error {
		value := secrets.NewValue([]byte(token))
		defer value.Wipe()
		return use(integration.Values{"token": value})
	}
}

func TestForge(t *testing.T) {
	forgetest.Run(t, func(t *testing.T, o integration.Options) forgetest.Subject {
		f, forge := start(t, o)
		return forgetest.Subject{
			Forge: forge, Fake: f, Repository: "acme/" + repository, Self: self,
			States: map[controlplane.ReportState]string{
				controlplane.ReportPending: "pending", controlplane.ReportSuccess: "succeeded", controlplane.ReportFailure: "failed",
				controlplane.ReportError: "error", controlplane.ReportSuperseded: "notApplicable", controlplane.ReportCancelled: "error",
			},
			Secrets: []string{token, base64.StdEncoding.EncodeToString([]byte(":" + token))},
			Without: []forgetest.Feature{forgetest.Annotations, forgetest.Verbatim},
		}
	})
}
