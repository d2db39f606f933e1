package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"skep/generator/problem"
	"skep/services/deploy"
	"skep/services/dns"
	"skep/services/swarm"
)

func waitFlags() []cli.Flag {
	return []cli.Flag{
		&cli.DurationFlag{Name: "timeout", Value: 10 * time.Minute, Usage: "how long a service may take to come up, and a job to complete"},
		&cli.BoolFlag{Name: "no-wait", Usage: "do not wait for services to come up; jobs that others wait for are waited for"},
		&cli.BoolFlag{Name: "keep", Usage: "leave a stack that failed as it is, do not go back to its previous revision"},
		undoFlag(),
		&cli.BoolFlag{Name: "with-registry-auth", Usage: "give the logins of docker to the services that are created or updated, for nodes to pull with"},
		&cli.StringFlag{Name: "resolve-image", Value: "changed", Usage: "when to ask the registry for an image's digest: changed or never"},
	}
}

func undoFlag() cli.Flag {
	return &cli.BoolFlag{Name: "undo", Usage: "when interrupted, take stacks that are not done back to what they were; else the next deploy finishes them"}
}

func (p *program) deploy() *cli.Command {
	return &cli.Command{
		Name:      "deploy",
		Usage:     "Bring the Swarm to what the project says",
		ArgsUsage: "[STACK... | PLAN.json]",
		Description: "Deploys tier by tier, and in a tier a stack after those that it needs. Only what changed is touched, and a\n" +
			"job runs once per content, before the services that wait for it. A stack that fails goes back to its\n" +
			"previous revision. With nothing to do nothing is written. The names of hosts, in DNS and the tunnel, come once the\n" +
			"stacks are up; what a failed stack had stays. A provider that does not answer is told, and stops nothing.\n\n" + dnsEnvironment +
			"Examples:\n   skep deploy\n   skep deploy media-core media-support --prune\n   skep deploy plan.json     # just that plan, or nothing\n   skep deploy --dry-run",
		Flags: append([]cli.Flag{
			jsonFlag(), pruneFlag(),
			&cli.BoolFlag{Name: "dry-run", Usage: "show the plan and change nothing"},
		}, append(waitFlags(), namesFlags()...)...),
		Action: func(c *cli.Context) error {
			return withLogins(c, func(client *swarm.Client) error {
				engine, stop := deploy.ReadAhead(c.Context, client)
				defer stop()
				want, o, err := p.deployInput(c)
				if err != nil {
					return err
				}
				o.Names = names(c, want, dns.DefaultGrace)
				if c.Bool("dry-run") {
					plan, err := p.showPlan(c, engine, want, o.Scope)
					if err == nil && o.Expect != nil && !o.Expect.Same(plan) {
						return failed(deploy.ErrStalePlan).because("run `skep plan` again")
					}
					return err
				}
				return p.runDeploy(c, engine, want, o)
			})
		},
	}
}

// deployInput is what the arguments ask for: stacks of the project, or a saved
// plan, which brings its own.
func (p *program) deployInput(c *cli.Context) (deploy.Project, deploy.Options, error) {
	o, err := deployOptions(c)
	if err != nil {
		return deploy.Project{}, o, err
	}
	if c.NArg() == 1 && strings.HasSuffix(c.Args().First(), ".json") {
		if c.Bool("prune") {
			return deploy.Project{}, o, usage("a saved plan says itself what it prunes").because("run `skep plan --prune -out FILE`")
		}
		f, err := os.Open(filepath.Clean(c.Args().First()))
		if err != nil {
			return deploy.Project{}, o, failed(err).because("`skep plan -out FILE` writes one")
		}
		defer f.Close()
		saved, err := deploy.ReadSaved(f)
		if err != nil {
			return deploy.Project{}, o, advise(err)
		}
		o.Expect, o.Scope = &saved.Plan, saved.Scope
		return saved.Project, o, nil
	}
	loaded, want, err := p.desired(c)
	if err != nil {
		return deploy.Project{}, o, err
	}
	names := stackNames(c)
	o.Scope = deploy.Scope{Prune: c.Bool("prune"), Partial: len(names) > 0}
	o.Commit = committed(c.Context, loaded.dir)
	want, err = want.Only(names...)
	return want, o, advise(err)
}

func deployOptions(c *cli.Context) (deploy.Options, error) {
	resolve := c.String("resolve-image")
	if resolve != "changed" && resolve != "never" {
		return deploy.Options{}, usage("--resolve-image %s", resolve).because("it is changed or never")
	}
	return deploy.Options{
		Who: who(), Now: time.Now, Timeout: c.Duration("timeout"), NoWait: c.Bool("no-wait"), KeepFailed: c.Bool("keep"), Undo: c.Bool("undo"),
		ResolveTags: resolve == "changed",
	}, nil
}

// deployReport is what --json says.
type deployReport struct {
	Plan    deploy.Plan `json:"plan"`
	Failed  []failedOne `json:"failed"`
	Skipped []string    `json:"skipped"`
	// Warnings did not fail the deploy.
	Warnings []string `json:"warnings"`
}

// warnings collects them from what a deploy tells.
type warnings struct {
	mu   sync.Mutex
	list []string
}

func (w *warnings) report(e deploy.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Verb == deploy.Warned {
		w.list = append(w.list, fmt.Sprintf("stack %s: %s", e.Stack, e.Text))
	}
}

type failedOne struct {
	Stack    string           `json:"stack"`
	Error    string           `json:"error"`
	Services []deploy.Failure `json:"services"`
	Restored bool             `json:"restored"`
}

// runDeploy deploys and says how it goes.
func (p *program) runDeploy(c *cli.Context, engine deploy.Engine, want deploy.Project, o deploy.Options) error {
	if c.Bool("json") {
		var told warnings
		o.Report = told.report
		result, err := deploy.Deploy(c.Context, engine, want, o)
		if jsonErr := p.writeJSON(reportOfDeploy(result, told.list)); jsonErr != nil {
			return jsonErr
		}
		return err
	}
	progress := newProgress(p.stdout)
	o.Report = progress.report
	result, err := deploy.Deploy(c.Context, engine, want, o)
	progress.close()
	paint := problem.Paint{On: colored(p.stdout)}
	if err == nil {
		_, err = fmt.Fprintln(p.stdout, deployed(result))
		return err
	}
	for _, f := range result.Failed {
		what := "was left as it is"
		switch {
		case f.Restored:
			what = "is back at what it was"
		case f.RestoreErr != nil:
			what = "could not be taken back: " + f.RestoreErr.Error()
		}
		fmt.Fprintf(p.stdout, "%s stack %s %s\n", paint.Red("failed"), f.Stack, problem.Printable(what))
	}
	return err
}

func deployed(r deploy.Result) string {
	if r.Plan.Empty() {
		return r.Plan.Summary()
	}
	n := 0
	for _, s := range r.Plan.Stacks {
		if !s.Empty() {
			n++
		}
	}
	noun := "stacks"
	if n == 1 {
		noun = "stack"
	}
	return fmt.Sprintf("Deployed %d %s.", n, noun)
}

func reportOfDeploy(r deploy.Result, warnings []string) deployReport {
	out := deployReport{Plan: r.Plan, Failed: []failedOne{}, Skipped: []string{}, Warnings: append([]string{}, warnings...)}
	for _, f := range r.Failed {
		one := failedOne{Stack: string(f.Stack), Error: f.Err.Error(), Restored: f.Restored, Services: []deploy.Failure{}}
		for _, failure := range failures(f.Err) {
			one.Services = append(one.Services, *failure)
		}
		out.Failed = append(out.Failed, one)
	}
	for _, name := range r.Skipped {
		out.Skipped = append(out.Skipped, string(name))
	}
	return out
}

// failures are the services that an error is about.
func failures(err error) []*deploy.Failure {
	switch e := err.(type) {
	case *deploy.Failure:
		return []*deploy.Failure{e}
	case interface{ Unwrap() error }:
		return failures(e.Unwrap())
	case interface{ Unwrap() []error }:
		var out []*deploy.Failure
		for _, one := range e.Unwrap() {
			out = append(out, failures(one)...)
		}
		return out
	}
	return nil
}
