package main

import (
	"errors"
	"os"

	"github.com/urfave/cli/v2"

	"skep/generator/problem"
	"skep/services/deploy"
	"skep/services/dns"
	"skep/services/swarm"
)

func pruneFlag() cli.Flag {
	return &cli.BoolFlag{Name: "prune", Usage: "remove what a stack has in the Swarm and not in the project; what a rollback needs stays"}
}

func (p *program) plan() *cli.Command {
	return &cli.Command{
		Name:      "plan",
		Usage:     "Show what deploy would do",
		ArgsUsage: "[STACK...]",
		Description: "Compares the project with what the Swarm runs: what is created, updated setting by setting, replaced and\n" +
			"removed, which services restart and why, and what somebody changed by hand; then the names that lead to the\n" +
			"hosts, in zones and the tunnel that are kept through an API. A provider that cannot be asked is named, and stops\n" +
			"nothing. Nothing is changed.\n\n" + dnsEnvironment +
			"Examples:\n   skep plan\n   skep plan media-core --detailed-exitcode   # 4 when there is something to do\n" +
			"   skep plan -out plan.json && skep deploy plan.json\n   skep plan --preview pr-12 app\n   skep plan --markdown >> \"$GITHUB_STEP_SUMMARY\"",
		Flags: append([]cli.Flag{
			jsonFlag(), pruneFlag(),
			&cli.StringFlag{Name: "preview", Usage: "plan the preview `NAME` of the stacks, as skep preview up would make it"},
			&cli.StringFlag{Name: "out", Usage: "write the plan to `FILE`, for `skep deploy FILE`"},
			&cli.BoolFlag{Name: "markdown", Usage: "write Markdown, for a pull request"},
			&cli.BoolFlag{Name: "detailed-exitcode", Usage: "exit with 4 when there are changes"},
			&cli.BoolFlag{Name: "before-sync", Usage: "count secrets that are missing as made, as `skep secrets sync` comes before the deploy"},
		}, namesFlags()...),
		Action: func(c *cli.Context) error {
			if c.Bool("before-sync") && c.String("out") != "" {
				return usage("a plan --before-sync is not to be deployed").because("`skep secrets sync`, then plan with --out")
			}
			if name := c.String("preview"); name != "" {
				return p.planPreview(c, name)
			}
			return withSwarm(func(client *swarm.Client) error {
				engine, stop := deploy.ReadAhead(c.Context, client)
				defer stop()
				_, want, err := p.desired(c)
				if err != nil {
					return err
				}
				names := stackNames(c)
				if want, err = want.Only(names...); err != nil {
					return err
				}
				return p.runPlan(c, engine, want, deploy.Scope{Prune: c.Bool("prune"), Partial: len(names) > 0, BeforeSync: c.Bool("before-sync")})
			})
		},
	}
}

// runPlan plans, and does with the plan what the flags say.
func (p *program) runPlan(c *cli.Context, engine deploy.Reader, want deploy.Project, scope deploy.Scope) error {
	plan, err := p.showPlan(c, engine, want, scope)
	if err != nil {
		return err
	}
	if file := c.String("out"); file != "" {
		if err := savePlan(file, deploy.Saved{Plan: plan, Scope: scope, Project: want}); err != nil {
			return err
		}
	}
	if c.Bool("detailed-exitcode") && !plan.Empty() {
		return &failure{code: exitPending}
	}
	return nil
}

// showPlan plans and writes the plan. One that cannot be applied is an error.
func (p *program) showPlan(c *cli.Context, engine deploy.Reader, want deploy.Project, scope deploy.Scope) (deploy.Plan, error) {
	_, plan, err := deploy.Look(c.Context, engine, want, scope, names(c, want, dns.DefaultGrace))
	if err != nil {
		return deploy.Plan{}, err
	}
	if err := p.printPlan(c, plan); err != nil {
		return deploy.Plan{}, err
	}
	if plan.Ready() != nil { // the plan says why
		return deploy.Plan{}, failed(deploy.ErrNotReady).because("see to what the plan marks with !, and plan again")
	}
	return plan, nil
}

func (p *program) printPlan(c *cli.Context, plan deploy.Plan) error {
	switch {
	case c.Bool("json"):
		return p.writeJSON(plan)
	case c.Bool("markdown"):
		return plan.WriteMarkdown(p.stdout)
	}
	return plan.WriteText(p.stdout, problem.Paint{On: colored(p.stdout)})
}

// savePlan writes a plan that nobody else may read: it holds the whole bundle.
func savePlan(file string, s deploy.Saved) (err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Mode().IsRegular() { // one that was there has a mode of its own; a pipe keeps it
		if err := f.Chmod(0o600); err != nil {
			return err
		}
	}
	return s.Write(f)
}
