package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"skep/generator/problem"
	"skep/generator/stack"
	"skep/services/deploy"
	"skep/services/swarm"
)

func (p *program) history() *cli.Command {
	return &cli.Command{
		Name:      "history",
		Usage:     "List the revisions of a stack",
		ArgsUsage: "[STACK]",
		Description: "Every deploy writes a revision into the Swarm: what was deployed, by whom, when and at which commit.\n" +
			"The last ten of a stack are kept.\n\n" +
			"Examples:\n   skep history\n   skep history media-core --json",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usage("one stack at most")
			}
			return withSwarm(func(engine *swarm.Client) error {
				live, err := deploy.Read(c.Context, engine)
				if err != nil {
					return err
				}
				list := deploy.History(live, stack.Name(c.Args().First()))
				if c.Bool("json") {
					return p.writeJSON(list)
				}
				if name := c.Args().First(); len(list) == 0 && name != "" {
					_, err := fmt.Fprintf(p.stdout, "No revision of stack %s: skep did not deploy it here, or it was taken down.\n", problem.Printable(name))
					return err
				} else if len(list) == 0 {
					_, err := fmt.Fprintln(p.stdout, "No revision: skep deployed nothing here.")
					return err
				}
				table := tabwriter.NewWriter(p.stdout, 0, 4, 2, ' ', 0)
				fmt.Fprintln(table, "STACK\tREVISION\tSTATE\tWHEN\tWHO\tCOMMIT\tNOTE")
				for _, r := range list {
					fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%s\t%s\n", r.Stack, r.Number, r.State,
						r.When.Local().Format(time.DateTime), problem.Printable(r.Who), problem.Printable(r.Commit), problem.Printable(r.Note))
				}
				return table.Flush()
			})
		},
	}
}
