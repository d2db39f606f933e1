package github_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strconv"
	"sync"
	"testing"
	"time"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/integration"
	"skep/services/controlplane/integration/forgetest"
	"skep/services/controlplane/integration/github"
	"skep/services/controlplane/integration/github/githubtest"
)

const (
	repo  = controlplane.Repository("octo/homelab")
	token = "ghp_plantedPlantedPlantedPlanted"
)

// newKey is one for all tests: a key takes its time.
var newKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func keyPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(newKey())})
}

// start serves GitHub with an empty repository.
func start(t *testing.T, o githubtest.Options) *githubtest.Server {
	t.Helper()
	o.Folder = t.TempDir()
	s, err := githubtest.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if got := s.Strangers(); len(got) > 0 {
			t.Errorf("the server of archives got credentials: %d times", len(got))
		}
	})
	if err := s.CreateRepository(t.Context(), repo); err != nil {
		t.Fatal(err)
	}
	return s
}

func newApp() *githubtest.App {
	return &githubtest.App{
		ID: 4711, Slug: "skep-test", Key: &newKey().PublicKey, Installation: 99,
		Permissions: map[string]string{"contents": "read", "pull_requests": "write", "issues": "write", "checks": "write", "metadata": "read"},
	}
}

func appSettings(s *githubtest.Server) integration.Settings {
	return integration.Settings{github.BaseURL: s.URL(), github.AppID: "4711", github.Installation: "99"}
}

// keep hands out copies, which are wiped after each use.
func keep(values map[string]string) integration.Credentials {
	return integration.Keep(func() integration.Values {
		v := integration.Values{}
		for name, value := range values {
			v[name] = secrets.NewValue([]byte(value))
		}
		return v
	})
}

func open(t *testing.T, settings integration.Settings, values map[string]string, o integration.Options) *github.Forge {
	t.Helper()
	f, err := github.Open(settings, keep(values), o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestConformanceApp(t *testing.T) {
	forgetest.Run(t, func(t *testing.T, o integration.Options) forgetest.Subject {
		s := start(t, githubtest.Options{App: newApp(), Now: o.Now})
		return subject(t, s, open(t, appSettings(s), map[string]string{github.PrivateKey: string(keyPEM())}, o))
	})
}

// TestConformanceUser has the limits that GitHub calls secondary, and the paths
// of an appliance.
func TestConformanceUser(t *testing.T) {
	forgetest.Run(t, func(t *testing.T, o integration.Options) forgetest.Subject {
		s := start(t, githubtest.Options{User: &githubtest.User{Login: "skep-user", Token: token}, Now: o.Now, Enterprise: true})
		sub := subject(t, s, open(t, integration.Settings{github.BaseURL: s.URL()}, map[string]string{github.Token: token}, o))
		sub.Self, sub.Without = "skep-user", []forgetest.Feature{forgetest.Annotations}
		sub.Fake.(*fake).secondary = true
		sub.States = map[controlplane.ReportState]string{
			controlplane.ReportPending: "pending", controlplane.ReportSuccess: "success", controlplane.ReportFailure: "failure",
			controlplane.ReportError: "error", controlplane.ReportSuperseded: "error", controlplane.ReportCancelled: "error",
		}
		return sub
	})
}

func subject(t *testing.T, s *githubtest.Server, f *github.Forge) forgetest.Subject {
	return forgetest.Subject{
		Forge: f, Fake: &fake{t: t, Server: s}, Repository: repo, Self: "skep-test[bot]",
		Secrets: []string{token, "BEGIN RSA", string(keyPEM()[40:80]), "ghs_", "Bearer ", "eyJ"},
		States: map[controlplane.ReportState]string{
			controlplane.ReportPending: "in_progress", controlplane.ReportSuccess: "success", controlplane.ReportFailure: "failure",
			controlplane.ReportError: "failure", controlplane.ReportSuperseded: "cancelled", controlplane.ReportCancelled: "cancelled",
		},
	}
}

// fake drives the server as the suite wants it.
type fake struct {
	*githubtest.Server
	t         *testing.T
	secondary bool
}

var _ forgetest.Fake = (*fake)(nil)

func (f *fake) Push(b controlplane.Branch, files map[string]string) (controlplane.Commit, error) {
	all := map[string]githubtest.File{}
	for path, content := range files {
		all[path] = githubtest.File{Content: content}
	}
	return f.Server.Push(f.t.Context(), repo, b, "ada", all)
}

func (f *fake) OpenPullRequest(p forgetest.PullRequest) (int, error) {
	return f.Server.OpenPullRequest(f.t.Context(), repo, githubtest.PullRequest{Head: p.Head, Base: p.Base, Author: p.Author, Labels: p.Labels, Fork: p.Fork})
}

func (f *fake) ClosePullRequest(number int) error {
	return f.Server.ClosePullRequest(f.t.Context(), repo, number, "ada")
}

func (f *fake) AddComment(number int, author, body string) (string, error) {
	id, err := f.Comment(f.t.Context(), repo, number, author, body)
	return strconv.FormatInt(id, 10), err
}

func (f *fake) Comments(number int) []controlplane.Comment {
	var all []controlplane.Comment
	for _, c := range f.Server.Comments(repo, number) {
		all = append(all, controlplane.Comment{ID: strconv.FormatInt(c.ID, 10), Author: c.Author, Body: c.Body})
	}
	return all
}

func (f *fake) Reactions(number int, comment string) []string {
	for _, c := range f.Server.Comments(repo, number) {
		if strconv.FormatInt(c.ID, 10) == comment {
			return c.Eyes
		}
	}
	return nil
}

func (f *fake) Grant(login string, p controlplane.Permission) {
	role := map[controlplane.Permission]string{
		controlplane.PermissionNone: "none", controlplane.PermissionRead: "triage", controlplane.PermissionWrite: "maintain", controlplane.PermissionAdmin: "admin",
	}[p]
	if err := f.Server.Grant(repo, login, role); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fake) Reports(c controlplane.Commit) []forgetest.Report {
	var all []forgetest.Report
	for _, r := range f.Server.Reports(repo, c) {
		out := forgetest.Report{Name: r.Name, State: r.State}
		for _, a := range r.Annotations {
			if a.StartLine != a.EndLine || a.StartColumn != a.EndColumn {
				f.t.Errorf("an annotation goes from %d:%d to %d:%d", a.StartLine, a.StartColumn, a.EndLine, a.EndColumn)
			}
			out.Annotations = append(out.Annotations, controlplane.Annotation{
				Path: a.Path, Line: a.StartLine, Column: a.StartColumn, Warning: a.Level == "warning", Rule: a.Title, Message: a.Message,
			})
		}
		all = append(all, out)
	}
	return all
}

func (f *fake) ReplaceArchive(c controlplane.Commit, content []byte) {
	if err := f.Server.ReplaceArchive(repo, c, content); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fake) LimitRate(after time.Duration) {
	if f.secondary {
		f.LimitSecondary(after, githubtest.Secondary{Status: 403})
		return
	}
	f.LimitPrimary(after)
}
