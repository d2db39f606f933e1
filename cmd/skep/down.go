package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"skep/generator/stack"
	"skep/services/deploy"
	"skep/services/swarm"
)

func (p *program) down() *cli.Command {
	return &cli.Command{
		Name:      "down",
		Usage:     "Remove a stack from the Swarm",
		ArgsUsage: "STACK",
		Description: "Removes the services, configs and networks of a stack, and its revisions. Volumes and secrets stay. Without\n" +
			"--yes it only lists what would go.\n\n" +
			"Examples:\n   skep down whoami\n   skep down whoami --yes",
		Flags: []cli.Flag{jsonFlag(), &cli.BoolFlag{Name: "yes", Usage: "do it"}},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usage("which stack?").because("`skep status` lists them")
			}
			name := stack.Name(c.Args().First())
			return withSwarm(func(engine *swarm.Client) error {
				live, err := deploy.Read(c.Context, engine)
				if err != nil {
					return err
				}
				objects := deploy.StackObjects(live, name)
				if len(objects) == 0 {
					return failed(fmt.Errorf("there is no stack %s in the Swarm", name)).because("`skep status` lists them")
				}
				if !c.Bool("yes") {
					if c.Bool("json") {
						return p.writeJSON(objects)
					}
					for _, o := range objects {
						fmt.Fprintf(p.stdout, "would remove %s %s\n", o.Kind, o.Name)
					}
					return usage("nothing was removed").because("`skep down %s --yes` does it", name)
				}
				o := deploy.Options{Who: who(), Now: time.Now}
				if c.Bool("json") {
					if err := deploy.Down(c.Context, engine, name, o); err != nil {
						return err
					}
					return p.writeJSON(objects)
				}
				progress := newProgress(p.stdout)
				o.Report = progress.report
				err = deploy.Down(c.Context, engine, name, o)
				progress.close()
				return err
			})
		},
	}
}
