package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"skep/services/deploy"
	"skep/services/swarm"
)

func (p *program) adopt() *cli.Command {
	return &cli.Command{
		Name:      "adopt",
		Usage:     "Take over a stack that docker stack deploy made",
		ArgsUsage: "STACK",
		Description: "Labels the stack's services as skep's, which restarts no task. When they are just what the project says,\n" +
			"that becomes the first revision; else the plan shows what a deploy would change.\n\n" +
			"Examples:\n   skep adopt media-core\n   skep plan media-core",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usage("which stack?").because("`skep status` lists them")
			}
			loaded, want, err := p.desired(c)
			if err != nil {
				return err
			}
			if want, err = want.Only(stackNames(c)...); err != nil {
				return advise(err)
			}
			want.Networks = nil
			o := deploy.Options{Who: who(), Now: time.Now, Commit: committed(c.Context, loaded.dir)}
			return withSwarm(func(engine *swarm.Client) error {
				plan, err := deploy.Adopt(c.Context, engine, want, o)
				if err != nil {
					return err
				}
				if c.Bool("json") {
					return p.writeJSON(plan)
				}
				if !plan.Empty() || plan.Ready() != nil {
					fmt.Fprintln(p.stdout, "The stack is adopted. It is not what the project says; a deploy would do this:")
				}
				return p.printPlan(c, plan)
			})
		},
	}
}
