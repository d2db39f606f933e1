package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"skep/services/controlplane"
)

func TestDeploy(t *testing.T) {
	w := newWorld(controlplane.RunDeploy, push())
	w.exits["plan"] = Exit{Code: exitPending, Answer: []byte("**app**: 1 to update\n")}
	if err := w.handle(t); err != nil {
		t.Fatal(err)
	}
	if got := w.steps(); !slices.Equal(got, []string{"check", "secrets", "plan", "deploy"}) {
		t.Errorf("steps %q", got)
	}
	if !strings.Contains(w.lock, "op://v/i/f") {
		t.Errorf("the deploy has the lock %q", w.lock)
	}
	if got := w.states(); !slices.Equal(got, []string{"pending under way", "success deployed"}) {
		t.Errorf("reports %q", got)
	}
	if got := w.shown; !slices.Equal(got, []string{"home begun 0123 false", "home done 0123 false"}) {
		t.Errorf("deployments %q", got)
	}
	if !slices.Equal(w.finished, []string{"succeeded"}) || !w.result.Deployed || !w.result.Changes || w.result.Commit != commit {
		t.Errorf("finished %q with %+v", w.finished, w.result)
	}
	if r := w.reports[1]; r.Name != "skep/home" || r.URL != "https://skep.example.com/api/v1/runs/r1" || !strings.Contains(r.Summary, "1 to update") {
		t.Errorf("the report is %+v", r)
	}
	// A step gets what it needs.
	for _, j := range w.jobs {
		secret := j.Step == "secrets" || j.Step == "deploy"
		if got := len(j.Secrets) == 1 && j.Env["OP_CONNECT_HOST"] != ""; got != secret {
			t.Errorf("%s gets %v and secrets %v", j.Step, j.Env, len(j.Secrets))
		}
		if got := j.Env["DOCKER_HOST"] != "" && j.Swarm; got != (j.Step != "check") {
			t.Errorf("%s reaches the Swarm: %v", j.Step, got)
		}
		if _, err := os.Stat(j.Tree); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the tree of %s is left: %v", j.Step, err)
		}
	}
}

func TestFailures(t *testing.T) {
	problems := `{"errors":1,"warnings":0,"problems":[{"file":"stacks/app/stack.yaml","line":5,"column":3,"rule":"unknown-key","severity":"error","message":"unknown key \"x|y\" @all <img>","remedy":"remove it"}]}`
	for name, test := range map[string]struct {
		change func(*world)
		steps  []string
		state  string
		report string
	}{
		"check": {func(w *world) { w.exits["check"] = Exit{Code: exitChecks, Answer: []byte(problems)} }, []string{"check"},
			"failed: skep check found 1 error, 0 warnings", "failure skep check found 1 error, 0 warnings"},
		"check says nothing": {func(w *world) { w.exits["check"] = Exit{Code: 1} }, []string{"check"}, "failed: skep check: exit code 1", "failure skep check: exit code 1"},
		"plan killed": {func(w *world) { w.exits["plan"] = Exit{Code: -1, Killed: "it took longer than 1h0m0s"} }, []string{"check", "secrets", "plan"},
			"failed: skep plan: it took longer than 1h0m0s", "failure skep plan: it took longer than 1h0m0s"},
		"deploy": {func(w *world) { w.exits["deploy"] = Exit{Code: 1} }, []string{"check", "secrets", "plan", "deploy"},
			"failed: skep deploy: exit code 1: Error: service app_web: the health check fails", "failure skep deploy: exit code 1: Error: service app_web: the health check fails"},
		"secrets": {func(w *world) {
			w.exits["secrets"] = Exit{Code: 1, Answer: []byte(`{"actions":[{"kind":"keep","name":"a"},{"kind":"failed","name":"b_v1","why":"the store is away"}]}`)}
		}, []string{"check", "secrets"}, "failed: skep secrets sync: b_v1: the store is away", "failure skep secrets sync: b_v1: the store is away"},
		"no project": {func(w *world) { w.tree = map[string]string{"README": "x"} }, nil,
			`failed: there is no cluster.yaml in "stacks" of the repository: set the project's folder`, `failure there is no cluster.yaml in "stacks" of the repository: set the project's folder`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(controlplane.RunDeploy, push())
			test.change(w)
			if err := w.handle(t); err != nil {
				t.Fatal(err)
			}
			if got := w.steps(); !slices.Equal(got, test.steps) {
				t.Errorf("steps %q", got)
			}
			if !slices.Equal(w.finished, []string{test.state}) {
				t.Errorf("finished %q", w.finished)
			}
			if got := w.states(); len(got) != 2 || got[1] != test.report {
				t.Errorf("reports %q", got)
			}
			if name == "check" {
				want := []controlplane.Annotation{{Path: "stacks/app/stack.yaml", Line: 5, Column: 3, Rule: "unknown-key", Message: `unknown key "x|y" @all <img>: remove it`}}
				if got := w.reports[1].Annotations; !slices.Equal(got, want) {
					t.Errorf("annotations %+v", got)
				}
				if s := w.reports[1].Summary; strings.Contains(s, "<img") || strings.Contains(s, "@all") || !strings.Contains(s, `x\|y`) {
					t.Errorf("the summary is\n%s", s)
				}
			}
		})
	}
}

func TestForkGetsNoSecret(t *testing.T) {
	w := newWorld(controlplane.RunPlan, pull(true))
	if err := w.handle(t); err != nil {
		t.Fatal(err)
	}
	if got := w.steps(); !slices.Equal(got, []string{"check", "lock", "plan"}) || w.comments["plan/home"] == "" || !strings.Contains(w.lock, "op://v/i/f: 6") {
		t.Errorf("steps %q, comments %q", got, w.comments)
	}
	for _, j := range w.jobs {
		if len(j.Secrets) != 0 || j.Env["OP_CONNECT_HOST"] != "" {
			t.Errorf("%s of a fork gets secrets", j.Step)
		}
	}
	// Not even if a run says so.
	w = newWorld(controlplane.RunDeploy, pull(true))
	if err := w.handle(t); err != nil {
		t.Fatal(err)
	}
	if got := w.steps(); slices.Contains(got, "deploy") || !slices.Equal(w.finished, []string{"failed: a fork deploys nothing"}) {
		t.Errorf("steps %q, finished %q", got, w.finished)
	}
}

func TestCommands(t *testing.T) {
	said := func(c controlplane.Command) controlplane.Input {
		in := pull(false)
		in.Change.Kind, in.Change.Commit = controlplane.ChangeComment, ""
		in.Change.Comment = &controlplane.Comment{ID: "c1", Author: "ann"}
		in.Command = &c
		return in
	}
	for name, test := range map[string]struct {
		command controlplane.Command
		change  func(*world)
		started controlplane.RunKind
		queue   string
		help    string // of the answer
		silent  bool
	}{
		"plan":             {command: controlplane.Command{Verb: controlplane.VerbPlan}, started: controlplane.RunPlan, queue: "c/pull:7"},
		"deploy":           {command: controlplane.Command{Verb: controlplane.VerbDeploy, Stacks: []controlplane.Name{"app"}}, started: controlplane.RunDeploy, queue: "c/default:"},
		"no permission":    {command: controlplane.Command{Verb: controlplane.VerbDeploy}, change: func(w *world) { w.may = controlplane.PermissionRead }, silent: true},
		"a fork":           {command: controlplane.Command{Verb: controlplane.VerbDeploy}, change: func(w *world) { w.pull.Fork = true }, help: "comes from a fork"},
		"a fork's plan":    {command: controlplane.Command{Verb: controlplane.VerbPlan}, change: func(w *world) { w.pull.Fork = true }, started: controlplane.RunPlan, queue: "c/pull:7"},
		"never":            {command: controlplane.Command{Verb: controlplane.VerbDeploy}, change: func(w *world) { w.project.Deploy = controlplane.DeployNever }, help: "never to deploy"},
		"preview":          {command: controlplane.Command{Verb: controlplane.VerbPreview}, started: controlplane.RunPreview, queue: "c/preview:7"},
		"destroy":          {command: controlplane.Command{Verb: controlplane.VerbDestroy}, started: controlplane.RunDestroy, queue: "c/preview:7"},
		"a fork's preview": {command: controlplane.Command{Verb: controlplane.VerbPreview}, change: func(w *world) { w.pull.Fork = true }, help: "comes from a fork"},
		"help":             {command: controlplane.Command{Verb: controlplane.VerbHelp}, help: "/skep <command>"},
		"nonsense":         {command: controlplane.Command{Verb: controlplane.VerbHelp, Problem: "there is no such command"}, help: "no such command"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(controlplane.RunCommand, said(test.command))
			w.pull = controlplane.PullRequest{Number: 7, Head: commit, Base: "main"}
			if test.change != nil {
				test.change(w)
			}
			if err := w.handle(t); err != nil {
				t.Fatal(err)
			}
			if len(w.jobs) != 0 || !slices.Equal(w.finished, []string{"succeeded"}) {
				t.Errorf("jobs %q, finished %q", w.steps(), w.finished)
			}
			if got := len(w.reactions) == 0; got != test.silent {
				t.Errorf("reactions %q", w.reactions)
			}
			if test.started == "" {
				if len(w.started) != 0 || !strings.Contains(w.comments["help"], test.help) {
					t.Errorf("started %+v, said %q", w.started, w.comments)
				}
				return
			}
			if len(w.started) != 1 {
				t.Fatalf("started %+v", w.started)
			}
			r := w.started[0]
			var in controlplane.Input
			if err := json.Unmarshal(r.Input, &in); err != nil {
				t.Fatal(err)
			}
			if r.Kind != test.started || r.Queue != test.queue || r.Key != "command/r1" || r.Delivery != 12 || in.Change.Commit != commit || !slices.Equal(in.Command.Stacks, test.command.Stacks) {
				t.Errorf("started %+v with %+v", r, in)
			}
			if want := len(test.command.Stacks) == 0 && test.command.Verb != controlplane.VerbRollback; r.Supersedes != want {
				t.Errorf("it supersedes those before it: %v", r.Supersedes)
			}
		})
	}
}

func TestStates(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*world)
		fails  bool
		states []string
	}{
		"over":         {change: func(w *world) { w.run.State = controlplane.RunSucceeded; w.busy = controlplane.ErrOver }},
		"cancelled":    {change: func(w *world) { w.busy = fmt.Errorf("begin: %w", controlplane.ErrOver) }},
		"busy":         {change: func(w *world) { w.busy = controlplane.ErrBusy }, fails: true},
		"superseded":   {change: func(w *world) { w.run.State = controlplane.RunSuperseded }, states: []string{"superseded a newer commit took its place"}},
		"a rate limit": {change: func(w *world) { w.forgeError = &controlplane.RetryError{Err: errors.New("slow down")} }, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(controlplane.RunDeploy, push())
			test.change(w)
			if err := w.handle(t); (err != nil) != test.fails {
				t.Errorf("got %v", err)
			}
			if len(w.jobs) != 0 || len(w.finished) != 0 || !slices.Equal(w.states(), test.states) {
				t.Errorf("jobs %q, finished %q, reports %q", w.steps(), w.finished, w.states())
			}
		})
	}
}

func TestPreviews(t *testing.T) {
	up := Exit{Answer: []byte(`{"preview":"pr-7","stacks":["pr-7-app"],"urls":["https://pr-7-app.example.com"],"expires":"2026-01-02T03:04:05Z"}`)}
	w := newWorld(controlplane.RunPreview, pull(false))
	w.project.Previews = controlplane.Previews{Enabled: true, Limit: 1, Lifetime: 8 * time.Hour}
	w.exits["preview"] = up
	w.tree["stacks/cluster.yaml"] = "name: of-the-pull-request\n"
	for range 2 { // a second time is the same one
		if err := w.handle(t); err != nil {
			t.Fatal(err)
		}
	}
	job := w.jobs[1]
	if got := strings.Join(job.Command, " "); got != "skep -C stacks preview up pr-7 --ttl 8h0m0s --undo --json" || job.Env["OP_CONNECT_HOST"] == "" || len(job.Secrets) != 1 {
		t.Errorf("the job is %s with %v", got, job.Env)
	}
	if w.seen != "name: of-main\n" {
		t.Errorf("the preview goes by the rules %q", w.seen)
	}
	if len(w.previews) == 0 || w.previews[0].Number != 7 || !slices.Equal(w.previews[0].Hosts, []string{"https://pr-7-app.example.com"}) {
		t.Errorf("previews %+v", w.previews)
	}
	if got := w.reports[1]; got.Name != "skep/home/preview" || got.Title != "preview until 2026-01-02 03:04:05 UTC" {
		t.Errorf("the report is %+v", got)
	}
	if !strings.Contains(w.comments["preview/home"], "https://pr-7-app.example.com") {
		t.Errorf("comments %q", w.comments)
	}
	if !slices.Equal(w.shown[:2], []string{"pr-7 begun 0123 true", "pr-7 done 0123 true https://pr-7-app.example.com"}) {
		t.Errorf("deployments %q", w.shown)
	}
	w.previews = w.previews[:1]

	// A push is followed where there is a preview, once: the dispatcher follows labels.
	for labels, want := range map[string]int{"": 1, "preview": 0} {
		pushed := pull(false)
		if labels != "" {
			pushed.Change.PullRequest.Labels = []string{labels}
		}
		next := newWorld(controlplane.RunPlan, pushed)
		next.project.Previews, next.previews = controlplane.Previews{Enabled: true, Label: "preview"}, w.previews
		if err := next.handle(t); err != nil {
			t.Fatal(err)
		}
		if len(next.started) != want || want > 0 && (next.started[0].Kind != controlplane.RunPreview || next.started[0].Queue != "c/preview:7") {
			t.Errorf("a push with label %q starts %+v", labels, next.started)
		}
		next.previews, next.started = nil, nil
		if err := next.handle(t); err != nil || len(next.started) != 0 {
			t.Errorf("without a preview a push starts %+v, %v", next.started, err)
		}
	}

	gone := newWorld(controlplane.RunDestroy, pull(false))
	gone.previews = w.previews
	if err := gone.handle(t); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(gone.jobs[0].Command, " "); got != "skep -C stacks preview down pr-7 --yes" || len(gone.previews) != 0 || len(gone.jobs[0].Secrets) != 0 {
		t.Errorf("the job is %s, previews are %v", got, gone.previews)
	}

	if !slices.Equal(gone.shown, []string{"pr-7 of home gone"}) {
		t.Errorf("deployments %q", gone.shown)
	}

	for name, test := range map[string]struct {
		change func(*world)
		want   string
	}{
		"off":  {func(w *world) { w.project.Previews.Enabled = false }, "failed: this project has no previews: set previews.enabled"},
		"full": {func(w *world) { w.previews = []controlplane.Preview{{Number: 8}} }, "failed: there are 1 previews already, as many as the project takes: close one with /skep destroy"},
		"fork": {func(w *world) { w.run.Input, _ = json.Marshal(pull(true)) }, "failed: a fork gets no preview"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(controlplane.RunPreview, pull(false))
			w.project.Previews = controlplane.Previews{Enabled: true, Limit: 1}
			test.change(w)
			if err := w.handle(t); err != nil {
				t.Fatal(err)
			}
			if len(w.jobs) != 0 || !slices.Equal(w.finished, []string{test.want}) {
				t.Errorf("jobs %q, finished %q", w.steps(), w.finished)
			}
		})
	}
}

func TestRollback(t *testing.T) {
	in := pull(false)
	in.Command = &controlplane.Command{Verb: controlplane.VerbRollback, Stacks: []controlplane.Name{"app", "db"}}
	w := newWorld(controlplane.RunDeploy, in)
	if err := w.handle(t); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, j := range w.jobs {
		got = append(got, strings.Join(j.Command[3:], " "))
		if len(j.Secrets) != 0 {
			t.Error("a rollback gets secrets")
		}
	}
	if !slices.Equal(got, []string{"rollback --undo app", "rollback --undo db"}) || !slices.Equal(w.finished, []string{"succeeded"}) {
		t.Errorf("jobs %q, finished %q", got, w.finished)
	}
	// Once: a second worker finds it done.
	w.jobs = nil
	if err := w.handle(t); err != nil || len(w.jobs) != 0 {
		t.Errorf("again: %q, %v", w.steps(), err)
	}
	w = newWorld(controlplane.RunDeploy, in)
	w.exits["rollback"] = Exit{Code: 1}
	if err := w.handle(t); err != nil || !slices.Equal(w.finished, []string{"failed: skep rollback: exit code 1"}) || len(w.jobs) != 1 {
		t.Errorf("failing: %q, %v", w.finished, err)
	}
}
