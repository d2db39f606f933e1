package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"skep/secrets"
	"skep/services/controlplane"
)

// attempt is one try at a run of a project.
type attempt struct {
	w       *Worker
	run     controlplane.Run
	input   controlplane.Input
	project controlplane.Project
	forge   controlplane.Forge
	dir     string // of the job's tree
	result  Result
	lines   *lines

	changing atomic.Bool // the Swarm
	address  string      // of what was deployed, if it has one
}

// doProject checks, plans and deploys, as far as the run's kind goes.
func (w *Worker) doProject(ctx context.Context, run controlplane.Run, last bool) (result Result, err error) {
	a, err := w.attempt(ctx, run)
	if err != nil {
		return Result{}, err
	}
	ctx, stop := w.untilOver(ctx, run.ID, a.ends)
	defer stop()
	if err := a.resolve(ctx); err != nil {
		return Result{}, err
	}
	if err := a.report(ctx, controlplane.Report{State: controlplane.ReportPending, Title: "under way"}); err != nil {
		return Result{}, err
	}
	bounded, cancel := context.WithTimeoutCause(ctx, deadline, fmt.Errorf("the run took longer than %v", deadline))
	defer cancel()
	if a.lines.from > 0 {
		a.lines.add("skep", "the run is tried again")
	}
	err = controlplane.Guard(func() error { return a.steps(bounded, run.Kind) }) // who waits for the run hears of it too
	if cause := context.Cause(ctx); cause != nil {
		return a.result, cause // somebody else does it, or nobody
	}
	if now, e := w.Store.Run(ctx, run.ID); e == nil && now.State.Over() { // and nobody has to be told twice
		return a.result, fmt.Errorf("%w: run %s is %s", controlplane.ErrOver, run.ID, now.State)
	}
	if err != nil && again(err, last) {
		return a.result, err
	}
	return a.result, errors.Join(a.tell(ctx, run.Kind, err), err)
}

// attempt reads what a run is about.
func (w *Worker) attempt(ctx context.Context, run controlplane.Run) (*attempt, error) {
	a := &attempt{w: w, run: run}
	if err := json.Unmarshal(run.Input, &a.input); err != nil {
		return nil, &failure{err: fmt.Errorf("read the run's input: %w", err)}
	}
	var err error
	if a.lines, err = w.lines(ctx, run.ID, 0); err != nil {
		return nil, err
	}
	if a.project, err = w.Store.Project(ctx, run.Project); errors.Is(err, controlplane.ErrNotFound) {
		return nil, &failure{err: fmt.Errorf("project %s is gone", run.Project)}
	} else if err != nil {
		return nil, err
	}
	if a.forge, err = w.Forges.Forge(ctx, a.project.Provider, a.project.Integration); err != nil {
		return nil, err
	}
	return a, nil
}

// steps does what the kind asks for, and stops where something is wrong.
func (a *attempt) steps(ctx context.Context, kind controlplane.RunKind) (err error) {
	if a.dir, err = os.MkdirTemp("", "skep-run-"); err != nil {
		return fmt.Errorf("%w: %w", errLaunch, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(a.dir)) }()
	switch {
	case kind == controlplane.RunDestroy:
		return a.destroy(ctx)
	case kind == controlplane.RunDeploy && a.input.Command != nil && a.input.Command.Verb == controlplane.VerbRollback:
		return a.rollback(ctx)
	case kind == controlplane.RunPreview:
		if err := a.mayPreview(ctx); err != nil {
			return err
		}
	}
	if err := checkout(ctx, a.forge, a.project.Repository, a.input.Change.Commit, a.dir); errors.Is(err, errTree) {
		return a.fail(err)
	} else if err != nil {
		return err
	}
	if info, err := os.Stat(filepath.Join(a.dir, filepath.FromSlash(a.project.Folder), "cluster.yaml")); err != nil || !info.Mode().IsRegular() {
		return a.fail(fmt.Errorf("there is no cluster.yaml in %q of the repository: set the project's folder", a.project.Folder))
	}
	if kind == controlplane.RunPreview {
		if err := a.ownRules(ctx); err != nil {
			return err
		}
	}
	if kind == controlplane.RunRotate { // of what was checked before it was deployed
		return a.rotate(ctx)
	}
	if err := a.check(ctx); err != nil {
		return err
	}
	if err := a.follow(ctx); err != nil || kind == controlplane.RunCheck {
		return err
	}
	switch kind {
	case controlplane.RunPreview:
		return a.preview(ctx)
	case controlplane.RunDeploy:
		if a.input.Change.PullRequest != nil && a.input.Change.PullRequest.Fork {
			return a.fail(errors.New("a fork deploys nothing"))
		}
		if err := a.secrets(ctx); err != nil {
			return err
		}
	case controlplane.RunPlan:
		if err := a.recallVersions(ctx); err != nil {
			return err
		}
	}
	if err := a.plan(ctx, kind == controlplane.RunPlan && a.syncs()); err != nil || kind != controlplane.RunDeploy {
		return err
	}
	return a.deploy(ctx)
}

func (a *attempt) fail(err error) error { return &failure{result: a.result, err: err} }

// Problem is one that skep check found. Its file is relative to the repository.
type Problem struct {
	File     string `json:"file"`
	Line     int    `json:"line"`
	Column   int    `json:"column"`
	Rule     string `json:"rule"`
	Severity string `json:"severity"`
	Message  string `json:"message"`
	Remedy   string `json:"remedy"`
}

// Exit codes of skep.
const (
	exitDone    = 0
	exitChecks  = 3
	exitPending = 4
)

func (a *attempt) check(ctx context.Context) error {
	exit, err := a.ask(ctx, "check", false, "check", "--json")
	if err != nil {
		return err
	}
	var said struct {
		Errors   int       `json:"errors"`
		Warnings int       `json:"warnings"`
		Problems []Problem `json:"problems"`
	}
	if exit.Code != exitDone && exit.Code != exitChecks || json.Unmarshal(exit.Answer, &said) != nil {
		return a.broken("skep check", exit)
	}
	for _, p := range said.Problems {
		a.result.Problems = append(a.result.Problems, p.printable())
	}
	a.result.Summary = fmt.Sprintf("%s, %s", count(said.Errors, "error"), count(said.Warnings, "warning"))
	if exit.Code == exitChecks {
		return a.fail(errors.New("skep check found " + a.result.Summary))
	}
	return nil
}

// plan shows what a deploy would do, and beforeSync says that one would make the
// secrets that are missing first.
func (a *attempt) plan(ctx context.Context, beforeSync bool) error {
	args := []string{"plan", "--markdown", "--detailed-exitcode"}
	if beforeSync {
		args = append(args, "--before-sync")
	}
	exit, err := a.ask(ctx, "plan", true, append(args, a.stacks()...)...)
	if err != nil {
		return err
	}
	a.result.Plan = printable(string(exit.Answer)) // one that cannot be applied says why
	if exit.Code != exitDone && exit.Code != exitPending {
		return a.broken("skep plan", exit)
	}
	a.result.Summary = "nothing to change"
	if exit.Code == exitPending {
		a.result.Changes, a.result.Summary = true, "changes are planned"
	}
	return nil
}

func (a *attempt) deploy(ctx context.Context) error {
	a.deployed(ctx, controlplane.DeploymentBegun, "deploying", "")
	if err := a.once(ctx, "deploy", a.rollOut); err != nil {
		return err
	}
	a.result.Deployed, a.result.Summary, a.result.Commit = true, "deployed", a.input.Change.Commit
	return nil
}

// rollback brings stacks back to their revision before, or the one that was
// deployed last.
func (a *attempt) rollback(ctx context.Context) error {
	stacks := a.stacks()
	if len(stacks) == 0 {
		stacks = []string{""}
	}
	for _, stack := range stacks {
		err := a.once(ctx, "rollback "+stack, func(ctx context.Context) error {
			args := []string{"rollback", "--undo"}
			if stack != "" {
				args = append(args, stack)
			}
			exit, err := a.skep(ctx, "rollback", true, args...)
			if err == nil && exit.Code != exitDone {
				err = a.broken("skep rollback", exit)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	a.result.Deployed, a.result.Summary = true, "rolled back"
	return nil
}

// once does what changes the Swarm. A worker that dies after it and before the
// end of the run leaves it done. That it failed is a result too.
func (a *attempt) once(ctx context.Context, step string, f func(context.Context) error) error {
	done, err := a.w.Store.Once(ctx, a.run.ID, step, func(ctx context.Context) ([]byte, error) {
		err := f(ctx)
		var failed *failure
		if errors.As(err, &failed) {
			return json.Marshal(deployment{Problem: printable(failed.Error())})
		}
		if err != nil {
			return nil, err
		}
		return json.Marshal(deployment{})
	})
	if err != nil {
		return err
	}
	var d deployment
	if err := json.Unmarshal(done, &d); err != nil {
		return fmt.Errorf("read what came of the deploy: %w", err)
	}
	if d.Problem != "" {
		return a.fail(errors.New(d.Problem))
	}
	return nil
}

// deployment is what the step leaves.
type deployment struct {
	Problem string `json:"problem,omitempty"`
}

func (a *attempt) rollOut(ctx context.Context) error {
	exit, err := a.skep(ctx, "deploy", true, append([]string{"deploy", "--undo"}, a.stacks()...)...)
	if err != nil {
		return err
	}
	if exit.Code != exitDone {
		return a.broken("skep deploy", exit)
	}
	return nil
}

// broken is the failure of a command, with the last that it said.
func (a *attempt) broken(command string, exit Exit) error {
	why := exit.Killed
	switch {
	case why != "":
	case exit.Code == exitDone:
		why = "it ended well, but its answer is not what this worker reads: have jobs run the skep of the worker's own version"
	default:
		why = fmt.Sprintf("exit code %d", exit.Code)
	}
	if last := a.lines.last(); last != "" {
		why += ": " + last
	}
	return a.fail(fmt.Errorf("%s: %s", command, why))
}

func (a *attempt) stacks() []string {
	if a.input.Command == nil {
		return nil
	}
	var out []string
	for _, s := range a.input.Command.Stacks {
		out = append(out, string(s))
	}
	return out
}

// writers are the steps that get what opens the store of secrets.
var writers = []string{"secrets", "deploy", "preview", "rotate"}

// skep runs the command in a job, and ask wants to know what it answers.
func (a *attempt) skep(ctx context.Context, step string, swarm bool, args ...string) (Exit, error) {
	return a.launch(ctx, step, swarm, false, args)
}

func (a *attempt) ask(ctx context.Context, step string, swarm bool, args ...string) (Exit, error) {
	return a.launch(ctx, step, swarm, true, args)
}

// launch runs skep in a job. It reaches the Swarm only if it has to, and the
// store of secrets only to deploy.
func (a *attempt) launch(ctx context.Context, step string, swarm, answer bool, args []string) (Exit, error) {
	folder := path.Clean("./" + a.project.Folder) // from /work
	j := Job{
		Run: a.run.ID, Step: step, Tree: a.dir, Swarm: swarm, Deadline: deadline, Answer: answer,
		Command: append([]string{"skep", "-C", folder}, args...),
		Env:     map[string]string{}, Secrets: map[string]secrets.Value{},
	}
	if swarm {
		for name, value := range a.w.Environment {
			if strings.HasPrefix(name, "DOCKER_") || slices.Contains(writers, step) {
				j.Env[name] = value
			}
		}
	}
	if slices.Contains(writers, step) {
		j.Secrets = a.w.Secrets
	}
	end := a.begin(&j)
	defer end()
	exit, err := a.w.launch(ctx, j, a.lines)
	if errors.Is(context.Cause(ctx), controlplane.ErrOver) {
		a.result.Stopped = a.changing.Load()
	}
	if err = errors.Join(err, a.lines.finish(ctx)); err != nil {
		return Exit{}, fmt.Errorf("%w: skep %s: %w", errLaunch, step, err)
	}
	return exit, nil
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
