package dispatch

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"skep/services/controlplane"
)

const (
	commit = controlplane.Commit("ec26c3e57ca3a959ca5aad62de7213c562f8c821")
	zero   = controlplane.Commit("0000000000000000000000000000000000000000")
)

func TestPlan(t *testing.T) {
	project := controlplane.Project{
		Name: "home", Cluster: "lab", Deploy: controlplane.DeployAlways,
		Previews: controlplane.Previews{Enabled: true, Label: "preview"},
	}
	push := func(b controlplane.Branch, isDefault bool) controlplane.Change {
		return controlplane.Change{Kind: controlplane.ChangePush, Branch: b, Commit: commit, Default: isDefault}
	}
	pull := func(k controlplane.ChangeKind, f func(*controlplane.Change)) controlplane.Change {
		c := controlplane.Change{Kind: k, Commit: commit, Default: true, PullRequest: &controlplane.PullRequest{
			Number: 12, Head: commit, Branch: "blue", Base: "main", Open: k != controlplane.ChangeClosed,
		}}
		if f != nil {
			f(&c)
		}
		return c
	}
	fork := func(c *controlplane.Change) { c.PullRequest.Fork = true }
	comment := func(body string, f func(*controlplane.Change)) controlplane.Change {
		c := pull(controlplane.ChangeComment, f)
		c.Comment = &controlplane.Comment{ID: "1", Author: "mona", Body: body}
		return c
	}
	labelled := func(c *controlplane.Change) {
		c.PullRequest.Labels = []string{"preview"}
		c.Labelled = c.PullRequest.Labels
	}
	for name, c := range map[string]struct {
		change controlplane.Change
		with   func(*controlplane.Project)
		want   string // kind queue priority, ...
	}{
		"push to the default branch":          {change: push("main", true), want: "deploy lab/default: critical"},
		"push with manual deploys":            {change: push("main", true), with: func(p *controlplane.Project) { p.Deploy = controlplane.DeployManual }, want: "plan lab/default: normal"},
		"push without deploys":                {change: push("main", true), with: func(p *controlplane.Project) { p.Deploy = controlplane.DeployNever }, want: "plan lab/default: normal"},
		"push with no policy that is known":   {change: push("main", true), with: func(p *controlplane.Project) { p.Deploy = "" }, want: "plan lab/default: normal"},
		"push to another branch":              {change: push("blue", false), want: "check lab/blue normal"},
		"push to the followed branch":         {change: push("live", false), with: func(p *controlplane.Project) { p.Branch = "live" }, want: "deploy lab/live critical"},
		"push to a default that is not it":    {change: push("main", true), with: func(p *controlplane.Project) { p.Branch = "live" }, want: "check lab/main normal"},
		"branch removed":                      {change: controlplane.Change{Kind: controlplane.ChangeBranchDeleted, Branch: "main", Commit: zero, Default: true}},
		"nothing":                             {change: controlplane.Change{}},
		"opened":                              {change: pull(controlplane.ChangeOpened, nil), want: "plan lab/pull:12 normal"},
		"opened for another branch":           {change: pull(controlplane.ChangeOpened, nil), with: func(p *controlplane.Project) { p.Branch = "live" }, want: "check lab/pull:12 normal"},
		"opened from a fork":                  {change: pull(controlplane.ChangeOpened, fork), want: "plan lab/pull:12 batch"},
		"pushed to with the label":            {change: pull(controlplane.ChangeOpened, labelled), want: "plan lab/pull:12 normal, preview lab/preview:12 normal"},
		"fork with the label":                 {change: pull(controlplane.ChangeOpened, func(c *controlplane.Change) { fork(c); labelled(c) }), want: "plan lab/pull:12 batch"},
		"labelled":                            {change: pull(controlplane.ChangeLabelled, labelled), want: "preview lab/preview:12 normal"},
		"labelled with another":               {change: pull(controlplane.ChangeLabelled, func(c *controlplane.Change) { labelled(c); c.Labelled = []string{"small"} })},
		"labelled from a fork":                {change: pull(controlplane.ChangeLabelled, func(c *controlplane.Change) { fork(c); labelled(c) })},
		"labelled when closed":                {change: pull(controlplane.ChangeLabelled, func(c *controlplane.Change) { labelled(c); c.PullRequest.Open = false })},
		"labelled without previews":           {change: pull(controlplane.ChangeLabelled, labelled), with: func(p *controlplane.Project) { p.Previews.Enabled = false }},
		"labelled with nothing, for a label":  {change: pull(controlplane.ChangeLabelled, func(c *controlplane.Change) { c.Labelled = []string{""} }), with: func(p *controlplane.Project) { p.Previews.Label = "" }},
		"closed":                              {change: pull(controlplane.ChangeClosed, nil), want: "destroy lab/preview:12 normal"},
		"closed without previews":             {change: pull(controlplane.ChangeClosed, nil), with: func(p *controlplane.Project) { p.Previews.Enabled = false }},
		"closed fork":                         {change: pull(controlplane.ChangeClosed, fork)},
		"comment":                             {change: comment("nice", nil)},
		"command":                             {change: comment("/skep deploy web", nil), want: "command  critical deploy [web]"},
		"command, head unknown":               {change: comment("/skep deploy", func(c *controlplane.Change) { fork(c); c.PullRequest.Head = "" }), want: "command  critical deploy []"},
		"command on a fork":                   {change: comment("/skep deploy web", fork), want: "command  critical help [] a pull request from a fork is checked and planned, and nothing else"},
		"harmless command on a fork":          {change: comment("/skep plan", fork), want: "command  critical plan []"},
		"command that is none":                {change: comment("/skep explode", nil), want: "command  critical help [] there is no such command"},
		"re-run":                              {change: pull(controlplane.ChangeRefresh, nil), want: "plan lab/pull:12 normal"},
		"re-run of a fork":                    {change: pull(controlplane.ChangeRefresh, fork), want: "plan lab/pull:12 batch"},
		"re-run of a commit":                  {change: controlplane.Change{Kind: controlplane.ChangeRefresh, Commit: commit}, want: "check lab/commit:" + string(commit) + " batch"},
		"re-run of a commit, called the main": {change: controlplane.Change{Kind: controlplane.ChangeRefresh, Commit: commit, Branch: "main", Default: true}, want: "check lab/commit:" + string(commit) + " batch"},
	} {
		p := project
		if c.with != nil {
			c.with(&p)
		}
		var got []string
		for _, r := range Plan(c.change, p) {
			line := fmt.Sprintf("%s %s %s", r.Kind, r.Queue, r.Priority)
			var in controlplane.Input
			if err := json.Unmarshal(r.Input, &in); err != nil || r.Project != p.Name || r.State != controlplane.RunQueued {
				t.Errorf("%s: %+v, %v", name, r, err)
			}
			if !r.Supersedes && r.Kind != controlplane.RunCommand {
				t.Errorf("%s: the run leaves those before it", name)
			}
			if in.Command != nil {
				line = strings.TrimRight(fmt.Sprintf("%s %s %v %s", line, in.Command.Verb, in.Command.Stacks, in.Command.Problem), " ")
				if in.Change.Comment.Body != "" || in.Change.Comment.ID != "1" {
					t.Errorf("%s: the run has the comment %+v", name, in.Change.Comment)
				}
			}
			got = append(got, line)
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%s: %q, want %q", name, s, c.want)
		}
	}
}

// Whatever a project allows, a fork deploys nothing and gets no environment.
func TestForksAreCheckedAndPlanned(t *testing.T) {
	allowed := []controlplane.RunKind{controlplane.RunCheck, controlplane.RunPlan, controlplane.RunCommand}
	for _, kind := range []controlplane.ChangeKind{controlplane.ChangeOpened, controlplane.ChangeLabelled, controlplane.ChangeClosed,
		controlplane.ChangeComment, controlplane.ChangeRefresh} {
		for _, policy := range []controlplane.DeployPolicy{controlplane.DeployAlways, controlplane.DeployManual, controlplane.DeployNever} {
			for _, verb := range controlplane.Verbs {
				for _, branch := range []controlplane.Branch{"", "main"} {
					change := controlplane.Change{
						Kind: kind, Branch: "main", Commit: commit, Default: true, Labelled: []string{"preview"},
						PullRequest: &controlplane.PullRequest{Number: 1, Head: commit, Branch: "main", Base: "main", Fork: true, Labels: []string{"preview"}, Open: true},
						Comment:     &controlplane.Comment{ID: "1", Body: "/skep " + string(verb)},
					}
					project := controlplane.Project{Name: "p", Cluster: "c", Branch: branch, Deploy: policy, Previews: controlplane.Previews{Enabled: true, Label: "preview"}}
					for _, r := range Plan(change, project) {
						var in controlplane.Input
						if err := json.Unmarshal(r.Input, &in); err != nil {
							t.Fatal(err)
						}
						if !slices.Contains(allowed, r.Kind) || in.Command != nil && !in.Command.Verb.ForForks() || r.Queue == "c/main" {
							t.Errorf("%s %s %s starts %s in %q with %+v", kind, policy, verb, r.Kind, r.Queue, in.Command)
						}
					}
				}
			}
		}
	}
}
