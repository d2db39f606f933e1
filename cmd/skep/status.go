package main

import (
	"fmt"
	"slices"
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
		Description: "Lists stacks with their revision, services and tasks, what is not up, and what somebody changed by hand; and for\n" +
			"each host the address that a server of its zone gives, and the certificate that is found there. The project is\n" +
			"not read. It exits with 1 when a service is not up.\n\n" +
			"Examples:\n   skep status\n   skep status media-core --tasks\n   skep status --watch",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.BoolFlag{Name: "tasks", Usage: "list every task"},
			&cli.BoolFlag{Name: "no-hosts", Usage: "do not look at the hosts' addresses and certificates"},
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
				for _, name := range stackNames(c) {
					if !slices.ContainsFunc(status.Stacks, func(s deploy.StackStatus) bool { return s.Stack == name }) {
						return failed(fmt.Errorf("there is no service of a stack %q", name)).because("`skep status` lists all stacks")
					}
				}
				if !c.Bool("no-hosts") {
					newHostLook().fill(c.Context, &status)
				}
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

// The pauses between two looks: names and certificates change slowly.
const (
	watchEvery      = 2 * time.Second
	watchHostsEvery = time.Minute
)

func (p *program) watchStatus(c *cli.Context, engine *swarm.Client) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var last string
	var hosts deploy.Status
	var looked time.Time
	for {
		live, err := deploy.Read(c.Context, engine)
		switch {
		case c.Context.Err() != nil:
			return nil
		case err != nil:
			fmt.Fprintln(p.stderr, problem.Printable(err.Error()))
		default:
			status := deploy.StatusOf(live, stackNames(c)...)
			if !c.Bool("no-hosts") {
				if served := servedHosts(status); time.Since(looked) > watchHostsEvery || !slices.Equal(served, servedHosts(hosts)) {
					newHostLook().fill(c.Context, &status)
					hosts, looked = status, time.Now()
				}
				status.TakeHosts(hosts)
			}
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
