package worker

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"skep/services/controlplane"
)

const deployedCommit = controlplane.Commit("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")

// asked is a run that a task asks for.
func asked(t *testing.T, b controlplane.Builtin, p controlplane.Project) controlplane.Run {
	t.Helper()
	run, err := controlplane.Task{Name: "nightly", TaskSpec: controlplane.TaskSpec{Builtin: &b}}.Run(controlplane.TaskInput{}, p)
	if err != nil {
		t.Fatal(err)
	}
	run.ID = "r1"
	return run
}

// A run that a task asks for finds out what it is about, once.
func TestAsked(t *testing.T) {
	app := []controlplane.Name{"app"}
	for name, test := range map[string]struct {
		builtin controlplane.Builtin
		change  func(*world)
		jobs    string // the commands of skep
		commit  controlplane.Commit
		end     string
	}{
		"check":  {builtin: controlplane.Builtin{Kind: controlplane.RunCheck}, jobs: "check --json", commit: mainHead, end: "succeeded"},
		"plan":   {builtin: controlplane.Builtin{Kind: controlplane.RunPlan, Stacks: app}, jobs: "check --json; secrets lock --json; plan --markdown --detailed-exitcode --before-sync app", commit: mainHead, end: "succeeded"},
		"deploy": {builtin: controlplane.Builtin{Kind: controlplane.RunDeploy, Stacks: app}, jobs: "check --json; secrets sync --json; plan --markdown --detailed-exitcode app; deploy --undo app", commit: mainHead, end: "succeeded"},
		"never": {builtin: controlplane.Builtin{Kind: controlplane.RunDeploy}, change: func(w *world) { w.project.Deploy = controlplane.DeployNever },
			end: "failed: this project's policy is never to deploy"},
		"rotate": {builtin: controlplane.Builtin{Kind: controlplane.RunRotate, Stacks: app}, change: func(w *world) {
			w.deployed = deployedCommit
			w.exits["rotate"] = Exit{Answer: []byte(`{"deployed":["app"]}`)}
		}, jobs: "secrets rotate --undo --json --stack app", commit: deployedCommit, end: "succeeded"},
		"rotate before a deploy": {builtin: controlplane.Builtin{Kind: controlplane.RunRotate}, change: func(w *world) { w.exits["rotate"] = Exit{Answer: []byte(`{"deployed":[]}`)} },
			jobs: "secrets rotate --undo --json", commit: mainHead, end: "succeeded"},
		"rotate fails": {builtin: controlplane.Builtin{Kind: controlplane.RunRotate}, change: func(w *world) { w.exits["rotate"] = Exit{Code: 1} },
			jobs: "secrets rotate --undo --json", commit: mainHead, end: "failed: skep secrets rotate: exit code 1"},
		"a preview of a fork": {builtin: controlplane.Builtin{Kind: controlplane.RunPreview, Number: 7}, change: func(w *world) { w.pull.Fork = true },
			commit: commit, end: "failed: a fork gets no preview"},
		"a closed pull request": {builtin: controlplane.Builtin{Kind: controlplane.RunPreview, Number: 7}, change: func(w *world) { w.pull.Open = false },
			end: "failed: pull request 7 is closed"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(test.builtin.Kind, controlplane.Input{})
			w.pull = controlplane.PullRequest{Number: 7, Head: commit, Base: "main", Open: true}
			w.project.Previews.Enabled = true
			if test.change != nil {
				test.change(w)
			}
			w.run = asked(t, test.builtin, w.project)
			if err := w.handle(t); err != nil {
				t.Fatal(err)
			}
			var jobs []string
			for _, j := range w.jobs {
				jobs = append(jobs, strings.Join(j.Command[3:], " "))
				if secret := slices.Contains(writers, j.Step); secret != (len(j.Secrets) > 0) {
					t.Errorf("%s gets %d secrets", j.Step, len(j.Secrets))
				}
			}
			if got := strings.Join(jobs, "; "); got != test.jobs || !slices.Equal(w.finished, []string{test.end}) {
				t.Errorf("jobs %q, want %q; finished %q", got, test.jobs, w.finished)
			}
			var change controlplane.Change
			if found, ok := w.effects["change"]; ok != (test.commit != "") {
				t.Errorf("it found %s", found)
			} else if ok {
				if err := json.Unmarshal(found, &change); err != nil || change.Commit != test.commit {
					t.Errorf("it is about %+v, %v; want %s", change, err, test.commit)
				}
			}
		})
	}
}

// What a provider does not hear of is said in the run's log, and fails nothing.
func TestDeploymentIsNotHeard(t *testing.T) {
	w := newWorld(controlplane.RunDeploy, push())
	w.showError = errors.New("no such permission")
	if err := w.handle(t); err != nil || !slices.Equal(w.finished, []string{"succeeded"}) || !strings.Contains(strings.Join(w.logged, ""), "no such permission") {
		t.Errorf("%v, finished %q, logged %q", err, w.finished, w.logged)
	}
}

// The delivery that started a task is a file of it, and no word of the command.
func TestDelivered(t *testing.T) {
	s := newTaskStore(&controlplane.TaskSpec{Image: "report:1", Command: []string{"report"}, Inputs: map[string]string{"MODE": "slow", "KEEP": "1"}})
	s.run.Input = []byte(`{"delivery":5,"inputs":{"MODE":"fast","LD_PRELOAD":"/x"}}`)
	var got Job
	w := s.worker(launcherFunc(func(_ context.Context, j Job) (Exit, error) {
		got = j
		return Exit{}, nil
	}))
	if err := w.Handle(t.Context(), s.run.ID, false); err != nil {
		t.Fatal(err)
	}
	if string(got.Files["body"]) != `{"x":"$(reboot)"}` || !strings.Contains(string(got.Files["delivery.json"]), `"event":"deployed"`) {
		t.Errorf("the files are %q", got.Files)
	}
	if !slices.Equal(got.Command, []string{"report"}) || got.Env["MODE"] != "fast" || got.Env["KEEP"] != "1" || len(got.Env) != 2 {
		t.Errorf("the job is %q with %v", got.Command, got.Env)
	}

	s = newTaskStore(&controlplane.TaskSpec{Image: "report:1"})
	s.run.Input = []byte(`{"delivery":6}`) // that was pruned
	if err := s.worker(nil).Handle(t.Context(), s.run.ID, false); err != nil || s.run.State != controlplane.RunFailed || !strings.Contains(s.run.Error, "is gone") {
		t.Errorf("%v, %s %s", err, s.run.State, s.run.Error)
	}
}
