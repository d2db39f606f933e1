package dispatch

import (
	"encoding/json"
	"fmt"
	"slices"

	"skep/services/controlplane"
	"skep/services/controlplane/event"
)

// Plan is what a change of a project's repository starts, without ids and keys.
// It is pure, and it is where a stranger's pull request stops: a fork is checked
// and planned, in runs that get no secret.
//
//	push to the followed branch    deploy if the policy is always, else plan
//	push to another branch         check
//	pull request opened, pushed to plan, and its preview anew if it has the label
//	  to a branch not followed     check
//	label for previews             preview
//	closed                         destroy
//	comment with a command         command, which asks who may do it
//	"re-run"                       plan, or check where no pull request is known
func Plan(c controlplane.Change, p controlplane.Project) []controlplane.Run {
	b := builder{change: c, project: p}
	switch c.Kind {
	case controlplane.ChangePush:
		b.push()
	case controlplane.ChangeOpened:
		b.review()
		if slices.Contains(c.PullRequest.Labels, p.Previews.Label) {
			b.preview()
		}
	case controlplane.ChangeLabelled:
		if slices.Contains(c.Labelled, p.Previews.Label) {
			b.preview()
		}
	case controlplane.ChangeClosed:
		if p.Previews.Enabled && !c.PullRequest.Fork {
			b.add(controlplane.RunDestroy, p.PreviewQueue(c.PullRequest.Number), controlplane.Normal, nil)
		}
	case controlplane.ChangeComment:
		b.command()
	case controlplane.ChangeRefresh:
		if c.PullRequest != nil {
			b.review()
		} else {
			// Nobody says whose commit this is: a fork's is checked, and stands in
			// nobody's way.
			b.add(controlplane.RunCheck, fmt.Sprintf("%s/commit:%s", p.Cluster, c.Commit), controlplane.Batch, nil)
		}
	}
	return b.runs
}

type builder struct {
	change  controlplane.Change
	project controlplane.Project
	runs    []controlplane.Run
}

func (b *builder) add(k controlplane.RunKind, queue string, priority controlplane.Priority, command *controlplane.Command) {
	change := b.change
	if change.Comment != nil { // the command is what is left of its text
		change.Comment = &controlplane.Comment{ID: change.Comment.ID, Author: change.Comment.Author}
	}
	in := controlplane.Input{Change: change, Command: command}
	input, err := json.Marshal(in)
	if err != nil {
		panic(err) // strings, numbers and booleans
	}
	b.runs = append(b.runs, controlplane.Run{
		Kind: k, Project: b.project.Name, Queue: queue, Supersedes: in.Supersedes(), Priority: priority,
		State: controlplane.RunQueued, Input: input,
	})
}

// follows says whether a branch is the one that the cluster follows; isDefault,
// whether it is the repository's default branch.
func (b *builder) follows(branch controlplane.Branch, isDefault bool) bool {
	if b.project.Branch == "" {
		return isDefault
	}
	return branch == b.project.Branch
}

func (b *builder) push() {
	queue := b.project.DeployQueue()
	switch {
	case !b.follows(b.change.Branch, b.change.Default):
		b.add(controlplane.RunCheck, b.project.BranchQueue(b.change.Branch), controlplane.Normal, nil)
	case b.project.Deploy == controlplane.DeployAlways:
		b.add(controlplane.RunDeploy, queue, controlplane.Critical, nil)
	default:
		b.add(controlplane.RunPlan, queue, controlplane.Normal, nil)
	}
}

// review checks, and plans what would change the cluster if it were merged.
func (b *builder) review() {
	pr := b.change.PullRequest
	kind, priority := controlplane.RunPlan, controlplane.Normal
	if !b.follows(pr.Base, b.change.Default) {
		kind = controlplane.RunCheck
	}
	if pr.Fork { // strangers crowd nobody out
		priority = controlplane.Batch
	}
	b.add(kind, b.project.PullQueue(pr.Number), priority, nil)
}

func (b *builder) preview() {
	previews, pr := b.project.Previews, b.change.PullRequest
	if previews.Enabled && previews.Label != "" && pr.Open && !pr.Fork {
		b.add(controlplane.RunPreview, b.project.PreviewQueue(pr.Number), controlplane.Normal, nil)
	}
}

// command starts what a comment asks for, if it asks. The run has no queue: it
// finds out who asks and whose the head is, and then takes its place in one.
func (b *builder) command() {
	command, ok := event.ParseCommand(b.change.Comment.Body)
	if !ok {
		return
	}
	pr := b.change.PullRequest
	// A head that is known to be a stranger's is refused here already.
	if pr.Fork && pr.Head != "" && !command.Verb.ForForks() {
		command = controlplane.Command{Verb: controlplane.VerbHelp, Problem: "a pull request from a fork is checked and planned, and nothing else"}
	}
	b.add(controlplane.RunCommand, "", controlplane.Critical, &command)
}
