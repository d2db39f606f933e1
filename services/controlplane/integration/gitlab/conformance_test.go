package gitlab_test

import (
	"context"
	"strconv"
	"testing"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/integration"
	"skep/services/controlplane/integration/forgetest"
	"skep/services/controlplane/integration/gitlab"
	"skep/services/controlplane/integration/gitlab/gitlabtest"
	"skep/services/controlplane/integration/gittest"
)

const (
	token      = "glpat-planted-4d8e2b7a91c5f036"
	self       = "skep-bot"
	repository = "platform/clusters/swarm"
)

// fake is a server with one project.
type fake struct {
	*gitlabtest.Server
	t      *testing.T
	git    gittest.Repository
	merges int
}

func (f *fake) Push(b controlplane.Branch, files map[string]string) (controlplane.Commit, error) {
	c, err := f.git.Push(f.t.Context(), b, files)
	if err == nil {
		f.PushMerges(repository, string(b), string(c))
	}
	return c, err
}

func (f *fake) user(name string) {
	if !f.HasUser(name) {
		f.AddUser(gitlabtest.User{Name: name})
	}
}

func (f *fake) OpenPullRequest(p forgetest.PullRequest) (int, error) {
	head, err := f.git.Head(f.t.Context(), p.Head)
	if err != nil {
		return 0, err
	}
	f.user(p.Author)
	f.merges++
	f.OpenMerge(repository, gitlabtest.MergeRequest{
		Number: f.merges, Source: string(p.Head), Target: string(p.Base), Head: string(head), Author: p.Author, Labels: p.Labels, Fork: p.Fork,
	})
	return f.merges, nil
}

func (f *fake) ClosePullRequest(number int) error {
	f.CloseMerge(repository, number, "merged")
	return nil
}

func (f *fake) AddComment(number int, author, body string) (string, error) {
	f.user(author)
	return strconv.Itoa(f.AddNote(repository, number, author, body, false)), nil
}

func (f *fake) Comments(number int) []controlplane.Comment {
	var comments []controlplane.Comment
	for _, n := range f.Notes(repository, number) {
		comments = append(comments, controlplane.Comment{ID: strconv.Itoa(n.ID), Author: n.Author, Body: n.Body})
	}
	return comments
}

func (f *fake) Reactions(number int, comment string) []string {
	for _, n := range f.Notes(repository, number) {
		if strconv.Itoa(n.ID) == comment {
			return n.Awards
		}
	}
	return nil
}

func (f *fake) Grant(login string, p controlplane.Permission) {
	f.user(login)
	access := map[controlplane.Permission]int{controlplane.PermissionRead: 20, controlplane.PermissionWrite: 30, controlplane.PermissionAdmin: 40}
	f.SetMember(repository, login, gitlabtest.Member{Access: access[p]})
}

func (f *fake) Reports(c controlplane.Commit) []forgetest.Report {
	var reports []forgetest.Report
	for _, s := range f.Statuses(repository, string(c)) {
		reports = append(reports, forgetest.Report{Name: s.Name, State: s.State})
	}
	return reports
}

func (f *fake) ReplaceArchive(c controlplane.Commit, content []byte) {
	f.Server.ReplaceArchive(repository, string(c), content)
}

// Expire does nothing: an access token lives for long.
func (f *fake) Expire() {}

func (f *fake) Revoke() { f.RevokeTokens() }

// start is a server with its users, and a client.
func start(t *testing.T, o integration.Options) (*fake, controlplane.Forge) {
	t.Helper()
	git, err := gittest.Init(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	server, err := gitlabtest.Start(o.Time)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fake{Server: server, t: t, git: git}
	f.AddProject(repository, git)
	f.Grant(self, controlplane.PermissionAdmin)
	f.AddToken(token, self)
	registry := integration.NewRegistry(o, gitlab.Driver())
	settings, values := integration.Settings{"base_url": server.URL}, integration.Values{"token": secrets.NewValue([]byte(token))}
	if err := registry.Check(controlplane.GitLab, settings, values); err != nil {
		t.Fatal(err)
	}
	forge, err := registry.Forge(controlplane.GitLab, settings, func(_ context.Context, use func(integration.Values) error) error {
		value := secrets.NewValue([]byte(token))
		defer value.Wipe()
		return use(integration.Values{"token": value})
	})
	if err != nil {
		t.Fatal(err)
	}
	return f, forge
}

func TestForge(t *testing.T) {
	forgetest.Run(t, func(t *testing.T, o integration.Options) forgetest.Subject {
		f, forge := start(t, o)
		return forgetest.Subject{
			Forge: forge, Fake: f, Repository: repository, Self: self,
			States: map[controlplane.ReportState]string{
				controlplane.ReportPending: "pending", controlplane.ReportSuccess: "success", controlplane.ReportFailure: "failed",
				controlplane.ReportError: "failed", controlplane.ReportSuperseded: "canceled", controlplane.ReportCancelled: "canceled",
			},
			Secrets: []string{token},
			Without: []forgetest.Feature{forgetest.Annotations},
		}
	})
}
