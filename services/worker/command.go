package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"skep/services/controlplane"
)

// doCommand obeys a comment: it finds out who may do what, and starts the run
// that was asked for.
func (w *Worker) doCommand(ctx context.Context, run controlplane.Run) (Result, error) {
	a, err := w.attempt(ctx, run)
	if err != nil {
		return Result{}, err
	}
	err = a.command(ctx)
	return a.result, err
}

func (a *attempt) command(ctx context.Context) error {
	change, command := &a.input.Change, a.input.Command
	if command == nil || change.Comment == nil || change.PullRequest == nil {
		return a.fail(errors.New("the run has no command"))
	}
	repository, number := a.project.Repository, change.PullRequest.Number
	may, err := a.forge.Permission(ctx, repository, change.Comment.Author)
	if err != nil {
		return fmt.Errorf("ask what %s may do: %w", change.Comment.Author, err)
	}
	if may < controlplane.PermissionWrite {
		a.result.Summary = "ignored: " + change.Comment.Author + " has no write access"
		return nil
	}
	if err := a.forge.React(ctx, repository, number, change.Comment.ID); err != nil {
		return fmt.Errorf("acknowledge the comment: %w", err)
	}
	// A comment's event may say little of the pull request.
	pr, err := a.forge.PullRequest(ctx, repository, number)
	if err != nil {
		return fmt.Errorf("read pull request %d: %w", number, err)
	}
	change.PullRequest, change.Commit = &pr, pr.Head

	switch {
	case command.Problem != "":
		return a.answer(ctx, command.Problem)
	case command.Verb == controlplane.VerbHelp:
		return a.answer(ctx, "")
	case pr.Fork && !command.Verb.ForForks():
		return a.answer(ctx, "this pull request comes from a fork, which gets a check and a plan, no secret and no deploy")
	}
	switch command.Verb {
	case controlplane.VerbPlan:
		return a.obey(ctx, controlplane.RunPlan, controlplane.Normal, a.project.PullQueue(number))
	case controlplane.VerbDeploy, controlplane.VerbRollback:
		if a.project.Deploy == controlplane.DeployNever {
			return a.answer(ctx, "this project's policy is never to deploy")
		}
		return a.obey(ctx, controlplane.RunDeploy, controlplane.Critical, a.project.DeployQueue())
	case controlplane.VerbPreview:
		return a.obey(ctx, controlplane.RunPreview, controlplane.Normal, a.project.PreviewQueue(number))
	case controlplane.VerbDestroy:
		return a.obey(ctx, controlplane.RunDestroy, controlplane.Normal, a.project.PreviewQueue(number))
	}
	return a.answer(ctx, fmt.Sprintf("%s is no command", command.Verb))
}

// obey starts the run that a command asks for, in the queue of its like.
func (a *attempt) obey(ctx context.Context, kind controlplane.RunKind, priority controlplane.Priority, queue string) error {
	a.result.Summary = "started: " + string(kind)
	return a.start(ctx, "command", kind, priority, queue)
}

// start queues a run that follows from this one, once.
func (a *attempt) start(ctx context.Context, why string, kind controlplane.RunKind, priority controlplane.Priority, queue string) error {
	input, err := json.Marshal(a.input)
	if err != nil {
		return err
	}
	return a.w.Starter.Start(ctx, controlplane.Run{
		Key: why + "/" + string(a.run.ID), Kind: kind, Project: a.project.Name, Queue: queue, Delivery: a.run.Delivery,
		Supersedes: a.input.Supersedes(), Priority: priority, Input: input,
	})
}

// answer keeps one comment of help, with a remark.
func (a *attempt) answer(ctx context.Context, remark string) error {
	var b strings.Builder
	if remark != "" {
		fmt.Fprintf(&b, "%s.\n\n", text(remark))
	}
	b.WriteString("Write `/skep <command> [stack...]` in a line of its own:\n\n" +
		"| command | does |\n|---|---|\n" +
		"| `plan` | shows what a deploy would change |\n" +
		"| `deploy` | deploys this pull request's head |\n" +
		"| `rollback` | brings stacks back to their revision before |\n" +
		"| `preview` | deploys it beside the real one, for a while |\n" +
		"| `destroy` | removes the preview |\n" +
		"| `help` | shows this |\n\nCommands are taken from people with write access.\n")
	a.result.Summary = "answered"
	if err := a.forge.Comment(ctx, a.project.Repository, a.input.Change.PullRequest.Number, "help", b.String()); err != nil {
		return fmt.Errorf("answer the comment: %w", err)
	}
	return nil
}
