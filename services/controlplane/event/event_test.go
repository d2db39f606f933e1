package event

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"skep/services/controlplane"
)

var update = flag.Bool("update", false, "rewrite the expected changes")

// Each case is a payload by the provider's published schema and what is read
// from it, or the error.
func TestParse(t *testing.T) {
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(cases) < 50 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	for _, path := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			provider, event, _ := strings.Cut(strings.TrimSpace(string(archive.Files[0].Data)), " ")
			var got []byte
			changes, err := Parse(controlplane.Provider(provider), event, archive.Files[1].Data)
			if err != nil {
				got = []byte("error: " + err.Error() + "\n")
			} else {
				if got, err = json.MarshalIndent(changes, "", "  "); err != nil {
					t.Fatal(err)
				}
				got = append(got, '\n')
			}
			want := &archive.Files[2]
			if *update {
				want.Data = got
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if string(got) != string(want.Data) {
				t.Errorf("got\n%s\nwant\n%s", got, want.Data)
			}
		})
	}
}

// The one mistake that gives a stranger's code a cluster's secrets.
func TestForksAreForks(t *testing.T) {
	for _, path := range []string{"github-pull-fork", "github-pull-fork-same-name", "github-pull-fork-gone", "github-comment",
		"gitlab-merge-fork", "gitlab-merge-closed-fork-gone", "gitlab-note-fork", "azuredevops-pull-fork"} {
		p, event, body := payload(t, path)
		changes, err := Parse(p, event, body)
		if err != nil || len(changes) != 1 || changes[0].PullRequest == nil || !changes[0].PullRequest.Fork {
			t.Errorf("%s is not taken for a fork: %+v, %v", path, changes, err)
		}
	}
	p, event, body := payload(t, "github-check-suite-no-pull")
	changes, err := Parse(p, event, body)
	if err != nil || len(changes) != 1 || changes[0].Branch != "" || changes[0].Default {
		t.Errorf("a check without a pull request has the branch %+v, %v: a fork has a main of its own", changes, err)
	}
}

func payload(t testing.TB, name string) (controlplane.Provider, string, []byte) {
	archive, err := txtar.ParseFile("testdata/" + name + ".txtar")
	if err != nil {
		t.Fatal(err)
	}
	provider, event, _ := strings.Cut(strings.TrimSpace(string(archive.Files[0].Data)), " ")
	return controlplane.Provider(provider), event, archive.Files[1].Data
}

func TestUnknownProvider(t *testing.T) {
	if _, err := Parse("gitea", "push", []byte("{}")); err == nil {
		t.Error("no error")
	}
}

func TestReadEnvelope(t *testing.T) {
	for _, c := range []struct {
		provider controlplane.Provider
		body     string
		want     Envelope
		wrong    bool
	}{
		{controlplane.AzureDevOps, `{"subscriptionId":"s","notificationId":7,"id":"e","eventType":"git.push"}`, Envelope{"git.push", "s/7"}, false},
		{controlplane.AzureDevOps, `{"subscriptionId":"s","id":"e","eventType":"git.push"}`, Envelope{"git.push", "s/e"}, false},
		{controlplane.AzureDevOps, `{"id":"e","eventType":"git.push"}`, Envelope{}, true},
		{controlplane.AzureDevOps, `{"subscriptionId":"s","id":"e"}`, Envelope{}, true},
		{controlplane.AzureDevOps, `{"subscriptionId":"s","eventType":"git.push"}`, Envelope{}, true},
		{controlplane.AzureDevOps, `null`, Envelope{}, true},
		{controlplane.Generic, `{"type":"job.done"}`, Envelope{Event: "job.done"}, false},
		{controlplane.Generic, `{}`, Envelope{}, false},
		{controlplane.Generic, `{"type":"a\nb"}`, Envelope{}, true},
		{controlplane.Salesforce, `{"type":3}`, Envelope{}, true},
	} {
		got, err := ReadEnvelope(c.provider, []byte(c.body))
		if (err != nil) != c.wrong || !c.wrong && got != c.want {
			t.Errorf("%s %s: %+v, %v", c.provider, c.body, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range cases {
		p, event, body := payload(f, strings.TrimSuffix(filepath.Base(path), ".txtar"))
		f.Add(string(p), event, body)
	}
	f.Fuzz(func(t *testing.T, provider, event string, body []byte) {
		changes, err := Parse(controlplane.Provider(provider), event, body)
		if err != nil && changes != nil {
			t.Fatal("changes beside an error")
		}
		for _, c := range changes {
			holds(t, c)
		}
	})
}

// holds is what code below trusts without looking again.
func holds(t *testing.T, c controlplane.Change) {
	must := func(what string, err error) {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := controlplane.ParseRepository(string(c.Repository))
	must("repository", err)
	for _, s := range []controlplane.Commit{c.Commit, c.Before} {
		if s != "" {
			_, err := controlplane.ParseCommit(string(s))
			must("commit", err)
		}
	}
	if c.Branch != "" {
		_, err := controlplane.ParseBranch(string(c.Branch))
		must("branch", err)
	}
	if strings.ContainsAny(c.Actor, "\n\r\x00") {
		t.Errorf("actor %q", c.Actor)
	}
	switch c.Kind {
	case controlplane.ChangePush, controlplane.ChangeBranchDeleted:
		if c.Branch == "" || c.Commit.None() != (c.Kind == controlplane.ChangeBranchDeleted) {
			t.Errorf("a push without branch or commit: %+v", c)
		}
	case controlplane.ChangeOpened, controlplane.ChangeLabelled, controlplane.ChangeClosed:
		if c.PullRequest == nil {
			t.Errorf("%s without a pull request", c.Kind)
		}
	case controlplane.ChangeComment:
		if c.PullRequest == nil || c.Comment == nil || len(c.Comment.Body) > maxComment {
			t.Errorf("a comment on nothing: %+v", c)
		}
	case controlplane.ChangeRefresh:
	default:
		t.Errorf("kind %q", c.Kind)
	}
	if pr := c.PullRequest; pr != nil {
		headless := pr.Head == "" && (c.Kind == controlplane.ChangeOpened || c.Kind == controlplane.ChangeLabelled)
		if pr.Number < 1 || headless {
			t.Errorf("pull request %+v", pr)
		}
		if pr.Branch != "" {
			_, err := controlplane.ParseBranch(string(pr.Branch))
			must("branch of the head", err)
		}
	}
}
