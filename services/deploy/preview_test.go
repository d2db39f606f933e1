package deploy

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/swarm"

	"skep/generator/stack"
)

const previewed = `
version: "3.8"
services:
  pr-12-web:
    image: web:1
    configs: [{source: conf, target: /conf}]
    secrets: [token]
    deploy:
      labels: {caddy: "http://pr-12-app.example.com:8080", skep.preview: pr-12, skep.preview.expires: "2030-01-02T03:04:05Z"}
      update_config: {monitor: 1ms}
  pr-12-migrate:
    image: migrate:1
    deploy: {mode: replicated-job, labels: {skep.preview: pr-12, skep.preview.expires: "2030-01-01T00:00:00Z"}}
configs: {conf: {file: ./app/conf, name: pr-12-app_conf_1, labels: {skep.preview: pr-12}}}
secrets: {token: {external: true, name: pr-12-app_token}}
networks: {default: {name: pr-12-app, labels: {skep.preview: pr-12}}}
`

// previewOf is a release of a preview.
func previewOf(t *testing.T, preview string, name stack.Name, text string) Project {
	t.Helper()
	p := project(t, text)
	p.Releases[0].Stack, p.Releases[0].Preview = name, preview
	return p
}

// withPreview is a Swarm with a stack and a preview of it.
func withPreview(t *testing.T) (f *fakeSwarm, original, preview Project) {
	t.Helper()
	f = newFake()
	original = project(t, appV1)
	mustDeploy(t, f, original)
	f.state.Secrets = []swarm.Secret{
		{ID: "original", Spec: swarm.SecretSpec{Annotations: swarm.Annotations{Name: "app_token", Labels: map[string]string{LabelStack: "app"}}}},
		{ID: "preview", Spec: swarm.SecretSpec{Annotations: swarm.Annotations{Name: "pr-12-app_token",
			Labels: map[string]string{LabelStack: "pr-12-app", stack.LabelPreview: "pr-12"}}}},
	}
	preview = previewOf(t, "pr-12", "pr-12-app", previewed)
	mustDeploy(t, f, preview)
	return f, original, preview
}

func liveOf(t *testing.T, f *fakeSwarm) Live {
	t.Helper()
	live, err := Read(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return live
}

func TestPreviews(t *testing.T) {
	f, original, _ := withPreview(t)
	live := liveOf(t, f)
	list := Previews(live)
	if len(list) != 1 {
		t.Fatalf("previews %+v", list)
	}
	p := list[0]
	if p.Name != "pr-12" || !slices.Equal(p.Stacks, []stack.Name{"pr-12-app"}) || !slices.Equal(p.Hosts, []string{"pr-12-app.example.com"}) {
		t.Errorf("preview %+v", p)
	}
	if p.Running != 2 || p.Want != 2 {
		t.Errorf("%d of %d services are up", p.Running, p.Want)
	}
	end := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC) // the latest of its services
	if !p.Expires.Equal(end) || p.Expired(end) || !p.Expired(end.Add(time.Second)) {
		t.Errorf("it expires at %s", p.Expires)
	}
	for _, c := range PreviewObjects(live, "pr-12") {
		if !strings.Contains(c.Name, "pr-12") {
			t.Errorf("%s %s is no object of the preview", c.Kind, c.Name)
		}
	}
	plan, err := Compare(original, live, Scope{})
	if err != nil {
		t.Fatal(err)
	}
	if !plan.Empty() || len(plan.Absent) > 0 || len(plan.Problems) > 0 {
		t.Errorf("beside a preview the plan of the project is %+v", plan)
	}
}

// What has no service is left alone for a while: a deploy may be at it.
func TestLeftovers(t *testing.T) {
	made := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	live := Live{Secrets: []swarm.Secret{{Meta: swarm.Meta{CreatedAt: made}, Spec: swarm.SecretSpec{Annotations: swarm.Annotations{
		Name: "pr-12-app_token", Labels: map[string]string{LabelStack: "pr-12-app", stack.LabelPreview: "pr-12"}}}}}}
	p, ok := FindPreview(live, "pr-12")
	if !ok || p.Expired(made.Add(time.Minute)) || !p.Expired(made.Add(2*time.Hour)) {
		t.Errorf("leftover %+v", p)
	}
}

// A removal that ends after any change goes on when it is run again, and the
// rest of the Swarm is as it was.
func TestRemovePreviewsCutOff(t *testing.T) {
	errCut := errors.New("cut off")
	gone := func(p Preview) bool { return p.Name == "pr-12" }
	for cut := 1; ; cut++ {
		f, original, _ := withPreview(t)
		writes := 0
		f.fault = func(call string, after bool) error {
			if !after || !strings.HasPrefix(call, "remove ") {
				return nil
			}
			if writes++; writes == cut {
				return errCut
			}
			return nil
		}
		o := quick()
		_, err := RemovePreviews(t.Context(), f, gone, o)
		f.fault = nil
		if err == nil {
			if cut < 6 {
				t.Fatalf("only %d objects were removed", cut)
			}
			return
		}
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		if _, err := RemovePreviews(t.Context(), f, gone, o); err != nil {
			t.Fatalf("after cut %d: %v", cut, err)
		}
		if left := PreviewObjects(liveOf(t, f), "pr-12"); len(left) > 0 {
			t.Errorf("after cut %d there is %+v", cut, left)
		}
		f.is(t, original)
		if len(f.state.Secrets) != 1 || f.state.Secrets[0].Spec.Name != "app_token" {
			t.Errorf("after cut %d the secrets are %+v", cut, f.state.Secrets)
		}
		before := len(f.writes)
		if removed, err := RemovePreviews(t.Context(), f, gone, o); err != nil || len(removed) > 0 || len(f.writes) != before {
			t.Errorf("once more removes %v, %v, and writes %v", removed, err, f.writes[before:])
		}
	}
}

// Somebody makes its time longer while a sweep waits for the lease.
func TestSweepLooksAgain(t *testing.T) {
	f, _, _ := withPreview(t)
	now := time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)
	f.fault = func(call string, after bool) error {
		if after && strings.HasPrefix(call, "create config "+leaseName) {
			for i := range f.state.Services {
				if labels := f.state.Services[i].Spec.Labels; labels[stack.LabelPreview] != "" {
					labels[stack.LabelExpires] = "2032-01-01T00:00:00Z"
				}
			}
		}
		return nil
	}
	removed, err := RemovePreviews(t.Context(), f, func(p Preview) bool { return p.Expired(now) }, quick())
	if err != nil || len(removed) > 0 {
		t.Errorf("removed %v, %v", removed, err)
	}
	if left := PreviewObjects(liveOf(t, f), "pr-12"); len(left) < 6 {
		t.Errorf("left is %+v", left)
	}
}

// A preview takes nothing that is somebody's already, and nobody takes over its
// own.
func TestPreviewConflicts(t *testing.T) {
	f, _, preview := withPreview(t)
	live := liveOf(t, f)
	cases := map[string]struct {
		project Project
		want    string
	}{
		"itself":                {preview, ""},
		"a stack of no preview": {previewOf(t, "pr-12", "app", previewed), "belongs to no preview"},
		"another preview":       {previewOf(t, "pr", "pr-12-app", previewed), "belongs to preview pr-12"},
		"no preview":            {previewOf(t, "", "pr-12-app", previewed), "belongs to preview pr-12"},
		"a host":                {previewOf(t, "other", "other", strings.ReplaceAll(previewed, ":8080", "")), "host pr-12-app.example.com is served for service pr-12-app_pr-12-web"},
	}
	for name, c := range cases {
		plan, err := Compare(c.project, live, Scope{Partial: true})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(plan.Problems, "; "); !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: problems %q, want %q", name, got, c.want)
		}
	}
}

// More time restarts nothing.
func TestPreviewGetsMoreTime(t *testing.T) {
	f, _, _ := withPreview(t)
	longer := previewOf(t, "pr-12", "pr-12-app", strings.NewReplacer("2030-01-02", "2030-02-02", "2030-01-01", "2030-02-02").Replace(previewed))
	plan, err := Compare(longer, liveOf(t, f), Scope{Partial: true, Prune: true})
	if err != nil {
		t.Fatal(err)
	}
	changes := plan.Stacks[0].Changes
	if len(changes) != 1 || changes[0].Name != "pr-12-app_pr-12-web" || changes[0].Restart {
		t.Errorf("changes %+v", changes)
	}
}
