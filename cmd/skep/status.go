package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"skep/generator/problem"
	"skep/services/deploy"
	"skep/services/swarm"
)

func (p *program) status() *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "Show how the stacks in the Swarm do",
		ArgsUsage: "[STACK...]",
		Description: "Lists stacks with their revision, services, tasks and hosts, what is not up, and what somebody changed by\n" +
			"hand. The project is not read. It exits with 1 when a service is not up.\n\n" +
			"Examples:\n   skep status\n   skep status media-core --tasks\n   skep status --watch",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.BoolFlag{Name: "tasks", Usage: "list every task"},
			&cli.BoolFlag{Name: "watch", Usage: "write it again whenever it changes, until interrupted"},
		},
		Action: func(c *cli.Context) error {
			return withSwarm(func(engine *swarm.Client) error {
				if c.Bool("watch") {
					return p.watchStatus(c, engine)
				}
				live, err := deploy.Read(c.Context, engine)
				if err != nil {
					return err
				}
				status := deploy.StatusOf(live, stackNames(c)...)
				if err := p.printStatus(c, status); err != nil {
					return err
				}
				for _, s := range status.Stacks {
					for _, service := range s.Services {
						if !service.Healthy {
							return &failure{code: exitFailed}
						}
					}
				}
				return nil
			})
		},
	}
}

func (p *program) printStatus(c *cli.Context, s deploy.Status) error {
	if c.Bool("json") {
		return p.writeJSON(s)
	}
	return s.WriteText(p.stdout, problem.Paint{On: colored(p.stdout)}, c.Bool("tasks"))
}

// watchEvery is the pause between two looks.
const watchEvery = 2 * time.Second

func (p *program) watchStatus(c *cli.Context, engine *swarm.Client) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var last string
	for {
		live, err := deploy.Read(c.Context, engine)
		switch {
		case c.Context.Err() != nil:
			return nil
		case err != nil:
			fmt.Fprintln(p.stderr, problem.Printable(err.Error()))
		default:
			status := deploy.StatusOf(live, stackNames(c)...)
			if now := fmt.Sprintf("%+v", status); now != last {
				last = now
				if isTerminal(p.stdout) && !c.Bool("json") {
					fmt.Fprint(p.stdout, "\x1b[H\x1b[2J") // from the top of an empty screen
				}
				if err := p.printStatus(c, status); err != nil {
					return err
				}
			}
		}
		select {
		case <-tick.C:
		case <-c.Context.Done():
			return nil
		}
	}
}
