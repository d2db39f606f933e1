package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"skep/services/controlplane"
)

// testBuiltin starts what is built in: by a project, by a task that is stored,
// and by a source that names one. The server has the project home.
func testBuiltin(t *testing.T, s *service, admin string) {
	t.Helper()
	start := func(path, key string, body any) Started {
		t.Helper()
		r := s.request(t, "POST", Prefix+path, admin, body)
		r.Header.Set("Idempotency-Key", key)
		var started Started
		s.send(t, r).into(t, 202, &started)
		return started
	}
	show := func(id controlplane.RunID) (FullRun, controlplane.Input) {
		t.Helper()
		var run FullRun
		s.call(t, "GET", Prefix+"/runs/"+string(id), admin, nil).into(t, 200, &run)
		var in controlplane.Input
		if err := json.Unmarshal(run.Input, &in); err != nil {
			t.Fatal(err)
		}
		return run, in
	}
	deploy := map[string]any{"kind": "deploy", "stacks": []string{"app"}}
	first := start("/projects/home/runs", "k", deploy)
	if again := start("/projects/home/runs", "k", deploy); !first.Created || again.Created || again.ID != first.ID {
		t.Errorf("the same key started %+v after %+v", again, first)
	}
	run, in := show(first.ID)
	if run.Kind != controlplane.RunDeploy || run.Project != "home" || run.Queue == "" || in.Change.Kind != controlplane.ChangeAsked || len(in.Command.Stacks) != 1 {
		t.Errorf("the run is %+v with %+v", run, in)
	}

	s.call(t, "PUT", Prefix+"/tasks/rotation", admin, map[string]any{"builtin": map[string]any{"kind": "rotate", "project": "home"}, "priority": "batch"}).into(t, 200, nil)
	run, in = show(start("/tasks/rotation/runs", "k", nil).ID)
	if run.Kind != controlplane.RunRotate || run.Task != "rotation" || run.Project != "home" || run.Priority != controlplane.Batch || in.Command != nil {
		t.Errorf("the run is %+v with %+v", run, in)
	}
	s.call(t, "PUT", Prefix+"/schedules/rotation", admin, map[string]any{"task": "rotation", "cron": "0 4 * * *"}).into(t, 200, nil)
	s.call(t, "DELETE", Prefix+"/schedules/rotation", admin, nil).into(t, 204, nil)

	// What a source starts cannot be deleted under it, and its secret stays.
	secret := "whsec_" + strings.Repeat("QUFB", 12)
	var source Source
	s.call(t, "PUT", Prefix+"/sources/generic/ci", admin, map[string]any{"secret": secret}).into(t, 200, &source)
	s.call(t, "PUT", Prefix+"/sources/generic/ci", admin, map[string]any{"task": "rotation"}).into(t, 200, &source)
	if source.Task != "rotation" {
		t.Errorf("the source is %+v", source)
	}
	if a := s.call(t, "DELETE", Prefix+"/tasks/rotation", admin, nil); a.status != http.StatusConflict {
		t.Errorf("a task that a source starts: %d %s", a.status, a.body)
	}
	for what, c := range map[string]struct {
		method, path string
		body         map[string]any
		status       int
	}{
		"no such project":        {"POST", "/projects/nobody/runs", deploy, 404},
		"no such kind":           {"POST", "/projects/home/runs", map[string]any{"kind": "destroy"}, 422},
		"a preview of nothing":   {"POST", "/projects/home/runs", map[string]any{"kind": "preview"}, 422},
		"a stack's name":         {"POST", "/projects/home/runs", map[string]any{"kind": "plan", "stacks": []string{"--help"}}, 422},
		"an image and built in":  {"PUT", "/tasks/both", map[string]any{"image": "x", "builtin": map[string]any{"kind": "plan", "project": "home"}}, 422},
		"of a project of nobody": {"PUT", "/tasks/lost", map[string]any{"builtin": map[string]any{"kind": "plan", "project": "nobody"}}, 422},
		"no such credentials":    {"PUT", "/tasks/lost", map[string]any{"image": "x", "credentials": []map[string]string{{"provider": "github", "name": "nobody"}}}, 422},
		"neither":                {"PUT", "/tasks/neither", map[string]any{"command": []string{"x"}}, 422},
		"a task of a repository": {"PUT", "/sources/github/main", map[string]any{"task": "rotation"}, 422},
		"a task of nobody":       {"PUT", "/sources/generic/ci", map[string]any{"task": "nobody"}, 404},
		"no secret":              {"PUT", "/sources/generic/new", map[string]any{"task": "rotation"}, 422},
	} {
		if a := s.call(t, c.method, Prefix+c.path, admin, c.body); a.status != c.status {
			t.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	s.call(t, "DELETE", Prefix+"/sources/generic/ci", admin, nil).into(t, 204, nil)
	s.call(t, "DELETE", Prefix+"/tasks/rotation", admin, nil).into(t, 204, nil)
	s.starter.mu.Lock()
	defer s.starter.mu.Unlock()
	s.starter.runs = nil
}
