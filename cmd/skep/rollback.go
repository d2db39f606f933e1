package main

import (
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"

	"skep/generator/stack"
	"skep/services/deploy"
	"skep/services/swarm"
)

func (p *program) rollback() *cli.Command {
	return &cli.Command{
		Name:      "rollback",
		Usage:     "Deploy an earlier revision of a stack again",
		ArgsUsage: "[STACK] [REVISION]",
		Description: "Without a revision it is the one before the deployed one, without a stack the one that was deployed last.\n" +
			"Configs and secrets are those of that revision. Jobs do not run. It is a new revision, so that rolling\n" +
			"back can be rolled back. The project is not read, and the next `skep deploy` deploys it again.\n\n" +
			"Examples:\n   skep rollback media-core\n   skep rollback media-core 7",
		Flags: append([]cli.Flag{jsonFlag()}, waitFlags()...),
		Action: func(c *cli.Context) error {
			if c.NArg() > 2 {
				return usage("a stack and a revision at most")
			}
			number := 0
			if text := c.Args().Get(1); text != "" {
				n, err := strconv.Atoi(text)
				if err != nil || n < 1 {
					return usage("revision %q is no number", text).because("`skep history` lists them")
				}
				number = n
			}
			o, err := deployOptions(c)
			if err != nil {
				return err
			}
			o.ResolveTags = false // a revision runs what it ran
			return withLogins(c, func(engine *swarm.Client) error {
				if c.Bool("json") {
					var told warnings
					o.Report = told.report
					result, _, err := deploy.Rollback(c.Context, engine, stack.Name(c.Args().First()), number, o)
					if jsonErr := p.writeJSON(reportOfDeploy(result, told.list)); jsonErr != nil {
						return jsonErr
					}
					return err
				}
				progress := newProgress(p.stdout)
				o.Report = progress.report
				result, target, err := deploy.Rollback(c.Context, engine, stack.Name(c.Args().First()), number, o)
				progress.close()
				if err != nil {
					return err
				}
				if result.Plan.Empty() {
					_, err = fmt.Fprintf(p.stdout, "Stack %s runs revision %d already.\n", target.Stack, target.Number)
					return err
				}
				_, err = fmt.Fprintf(p.stdout, "Stack %s runs revision %d again.\n", target.Stack, target.Number)
				return err
			})
		},
	}
}
