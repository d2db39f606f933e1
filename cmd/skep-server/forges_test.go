package main

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/integration/azuredevops"
	"skep/services/controlplane/integration/azuredevops/azuredevopstest"
	"skep/services/controlplane/integration/gitlab"
	"skep/services/controlplane/integration/gitlab/gitlabtest"
	"skep/services/controlplane/integration/gittest"
	"skep/services/controlplane/webhook"
)

const forgeToken = "planted-token-4d8e2b7a91c5f036"

// connect makes integration, source and project of a provider.
func (f *faulty) connect(p controlplane.Provider, repository controlplane.Repository, settings map[string]string) gittest.Repository {
	f.Helper()
	git, err := gittest.Init(f.Context(), f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	_, err = f.store.PutIntegration(f.Context(), controlplane.Integration{Provider: p, Name: "acme", Settings: settings},
		map[string]secrets.Value{"token": secrets.NewValue([]byte(forgeToken))})
	if err != nil {
		f.Fatal(err)
	}
	_, err = f.store.PutSource(f.Context(), controlplane.Source{Provider: p, Name: "default", Integration: "acme", Secret: secrets.NewValue([]byte(hookSecret))})
	if err != nil {
		f.Fatal(err)
	}
	_, err = f.store.PutProject(f.Context(), controlplane.Project{
		Name: controlplane.Name(p), Integration: "acme", Provider: p, Repository: repository, Folder: "stacks", Cluster: controlplane.Name(p), Deploy: controlplane.DeployAlways,
	})
	if err != nil {
		f.Fatal(err)
	}
	return git
}

// deliver sends a webhook as the provider would.
func (f *faulty) deliver(p controlplane.Provider, body string, sign func(*http.Request), want int) {
	f.Helper()
	r, err := http.NewRequestWithContext(f.Context(), http.MethodPost, "http://"+f.address+webhook.Path+string(p), strings.NewReader(body))
	if err != nil {
		f.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	sign(r)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		f.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != want {
		f.Errorf("the delivery is answered with %s", answer.Status)
	}
}

// Pushes and merge requests of the other two providers, and events that start
// tasks, from their webhooks to what stands at the commit and on the request. The payloads have the fields of
// the providers' documentation that Skep reads.
func TestForges(t *testing.T) {
	f := newFaulty(t, 2)
	gitlabFlow(f)
	azureFlow(f)
	taskFlow(f, controlplane.Generic)
	taskFlow(f, controlplane.Salesforce)
	if said := f.log.String(); strings.Contains(said, forgeToken) {
		t.Error("the log holds a token")
	}
	f.end()
}

var tree = map[string]string{"stacks/cluster.yaml": "name: homelab\n"}

func gitlabFlow(f *faulty) {
	const name = "platform/clusters/swarm"
	server, err := gitlabtest.Start(time.Now)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { server.Close() })
	git := f.connect(controlplane.GitLab, name, map[string]string{gitlab.BaseURL: server.URL})
	server.AddUser(gitlabtest.User{Name: "skep"})
	server.AddUser(gitlabtest.User{Name: "ann"})
	server.AddProject(name, git)
	server.SetMember(name, "skep", gitlabtest.Member{Access: 40})
	server.AddToken(forgeToken, "skep")
	project := fmt.Sprintf(`"project":{"id":15,"path_with_namespace":%q,"default_branch":"main"}`, name)
	sign := func(event, id, token string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("X-Gitlab-Event", event)
			r.Header.Set("X-Gitlab-Token", token)
			r.Header.Set("Idempotency-Key", id)
		}
	}
	final := func(c controlplane.Commit) func() error {
		return func() error {
			if s := server.Statuses(name, string(c)); len(s) != 1 || s[0].State != "success" {
				return fmt.Errorf("statuses %+v", s)
			}
			return nil
		}
	}

	c, err := git.Push(f.Context(), "main", tree)
	if err != nil {
		f.Fatal(err)
	}
	push := fmt.Sprintf(`{"object_kind":"push","event_name":"push","before":"%040d","after":%q,"ref":"refs/heads/main","user_username":"ann",%s}`, 0, c, project)
	f.deliver(controlplane.GitLab, push, sign("Push Hook", "push-1", "wrong"), http.StatusUnauthorized)
	f.deliver(controlplane.GitLab, push, sign("Push Hook", "push-1", hookSecret), http.StatusOK)
	f.deliver(controlplane.GitLab, push, sign("Push Hook", "push-1", hookSecret), http.StatusOK) // a replay
	f.await("the push at GitLab is deployed", final(c))

	head, err := git.Push(f.Context(), "change", map[string]string{"stacks/more": "1"})
	if err != nil {
		f.Fatal(err)
	}
	server.OpenMerge(name, gitlabtest.MergeRequest{Number: 1, Source: "change", Target: "main", Head: string(head), Author: "ann"})
	merge := fmt.Sprintf(`{"object_kind":"merge_request","event_type":"merge_request","user":{"username":"ann"},%s,"object_attributes":{`+
		`"iid":1,"action":"open","state":"opened","source_branch":"change","target_branch":"main","source_project_id":15,"target_project_id":15,`+
		`"source":{"id":15,"path_with_namespace":%q},"target":{"id":15,"path_with_namespace":%[2]q},"last_commit":{"id":%q},"labels":[]},"labels":[],"changes":{}}`,
		project, name, head)
	f.deliver(controlplane.GitLab, merge, sign("Merge Request Hook", "merge-1", hookSecret), http.StatusOK)
	f.await("the merge request at GitLab is planned", func() error {
		notes := server.Notes(name, 1)
		if len(notes) != 1 || !strings.Contains(notes[0].Body, "1 to update") {
			return fmt.Errorf("notes %+v", notes)
		}
		return final(head)()
	})
	f.two(controlplane.GitLab)
}

func azureFlow(f *faulty) {
	const name = "platform/swarm"
	server, err := azuredevopstest.Start("acme", time.Now)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { server.Close() })
	git := f.connect(controlplane.AzureDevOps, "acme/"+name, map[string]string{azuredevops.BaseURL: server.URL, azuredevops.Organization: "acme"})
	server.AddRepository(name, git)
	for _, user := range []string{"skep@example.com", "ann@example.com"} {
		server.AddUser(azuredevopstest.User{Name: user, Shown: "Somebody"})
		server.Allow(user, name, azuredevopstest.GenericRead|azuredevopstest.GenericContribute, 0)
	}
	server.AddToken(azuredevopstest.Token{
		Value: forgeToken, User: "skep@example.com", Scopes: []string{"vso.code_write", "vso.code_status", "vso.identity", "vso.security_manage"},
		Expires: time.Now().Add(24 * time.Hour),
	})
	repository := fmt.Sprintf(`"repository":{"id":"278d5cd2-584d-4b63-824a-2ba458937249","name":"swarm","defaultBranch":"refs/heads/main",`+
		`"remoteUrl":"%s/acme/platform/_git/swarm","project":{"id":"6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c","name":"platform"}}`, server.URL)
	event := func(id, kind, resource string) string {
		return fmt.Sprintf(`{"subscriptionId":"2c9f4d6e-7e3b-4b4f-9a51-0f6f5b1f2a11","id":%q,"eventType":%q,"publisherId":"tfs","resourceVersion":"1.0","resource":{%s,%s},`+
			`"resourceContainers":{"collection":{"id":"c12d0eb8-e382-443b-9f9c-c52cba5014c2","baseUrl":"%s/acme/"}}}`, id, kind, resource, repository, server.URL)
	}
	sign := func(password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth("skep", password) }
	}
	final := func(c controlplane.Commit) func() error {
		return func() error {
			s := server.Statuses(name, string(c))
			if len(s) == 0 || s[len(s)-1].State != "succeeded" {
				return fmt.Errorf("statuses %+v", s)
			}
			return nil
		}
	}

	c, err := git.Push(f.Context(), "main", tree)
	if err != nil {
		f.Fatal(err)
	}
	push := event("push-1", "git.push", fmt.Sprintf(`"refUpdates":[{"name":"refs/heads/main","oldObjectId":"%040d","newObjectId":%q}],`+
		`"pushedBy":{"uniqueName":"ann@example.com"}`, 0, c))
	f.deliver(controlplane.AzureDevOps, push, sign("wrong"), http.StatusUnauthorized)
	f.deliver(controlplane.AzureDevOps, push, sign(hookSecret), http.StatusOK)
	f.deliver(controlplane.AzureDevOps, push, sign(hookSecret), http.StatusOK) // a replay
	f.await("the push at Azure DevOps is deployed", final(c))

	head, err := git.Push(f.Context(), "change", map[string]string{"stacks/more": "1"})
	if err != nil {
		f.Fatal(err)
	}
	server.OpenPull(name, azuredevopstest.Pull{Number: 1, Source: "change", Target: "main", Head: string(head), Author: "ann@example.com"})
	pull := event("pull-1", "git.pullrequest.created", fmt.Sprintf(`"pullRequestId":1,"status":"active","createdBy":{"uniqueName":"ann@example.com"},`+
		`"sourceRefName":"refs/heads/change","targetRefName":"refs/heads/main","lastMergeSourceCommit":{"commitId":%q}`, head))
	f.deliver(controlplane.AzureDevOps, pull, sign(hookSecret), http.StatusOK)
	f.await("the pull request at Azure DevOps is planned", func() error {
		threads := server.Threads(name, 1)
		planned := func(t azuredevopstest.Thread) bool {
			return len(t.Comments) == 1 && strings.Contains(t.Comments[0].Content, "1 to update")
		}
		if len(threads) != 1 || !slices.ContainsFunc(threads, planned) {
			return errors.New("there is no comment with a plan, or more than one")
		}
		return final(head)()
	})
	f.two(controlplane.AzureDevOps)
}

// two says whether a push and a request made a run each, replays none.
func (f *faulty) two(p controlplane.Provider) {
	f.Helper()
	f.await("runs end", func() error {
		if n := f.stored(fmt.Sprintf("run WHERE project = '%s' AND state = 'succeeded'", p)); n != 2 {
			return fmt.Errorf("%d runs of %s succeeded", n, p)
		}
		return nil
	})
	if n := f.stored(fmt.Sprintf("run WHERE project = '%s'", p)); n != 2 {
		f.Errorf("%s has %d runs", p, n)
	}
}
