package main

import (
	"context"
	"fmt"
	"maps"

	"github.com/urfave/cli/v2"

	"skep/generator/problem"
	"skep/generator/spec"
	"skep/secrets"
	"skep/services/secretsync"
	"skep/services/swarm"
)

func (p *program) secretsLock() *cli.Command {
	return &cli.Command{
		Name:  "lock",
		Usage: "Bring the versions in " + spec.SecretsLock + " up to the Swarm's",
		Description: "The labels of the Swarm's secrets say which version of which reference they are. What the lock lacks, has an\n" +
			"older version of, or has of an item that was replaced by another one is taken from there: `skep plan` then\n" +
			"compares with what runs. Asks no store, and sees no value. References that have no version are listed;\n" +
			"`skep secrets sync` makes their secrets.\n\n" +
			"Examples:\n   skep secrets lock && skep plan\n   skep secrets lock --json",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			project, err := p.secretProject(c)
			if err != nil {
				return err
			}
			wanted, err := project.Secrets(project.Lock())
			if err != nil {
				return err
			}
			return withSwarm(func(engine *swarm.Client) error {
				return p.recall(c.Context, c.Bool("json"), project, secretsync.References(wanted), engine)
			})
		},
	}
}

// lockedReport is what --json says.
type lockedReport struct {
	Lock    string              `json:"lock"`
	Locked  secrets.Lock        `json:"locked"`  // what is in it
	Missing []secrets.Reference `json:"missing"` // in it and in the Swarm
	Changes bool                `json:"changes"`
}

func (p *program) recall(ctx context.Context, asJSON bool, project *secretProject, references []secrets.Reference, engine *swarm.Client) error {
	live, err := secretEngine{engine}.Secrets(ctx)
	if err != nil {
		return err
	}
	lock, missing := secretsync.Recall(project.Lock(), references, live, project.cluster.Name)
	report := lockedReport{
		Lock: project.path(spec.SecretsLock), Locked: lock, Missing: append([]secrets.Reference{}, missing...), Changes: !maps.Equal(project.Lock(), lock),
	}
	if report.Changes {
		if err := project.SaveLock(lock); err != nil {
			return err
		}
	}
	if asJSON {
		return p.writeJSON(report)
	}
	paint := problem.Paint{On: colored(p.stdout)}
	for _, ref := range missing {
		if _, err := fmt.Fprintf(p.stdout, "%s  %s: the Swarm has no secret of it\n", paint.Yellow("missing"), ref); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(p.stdout, "Locked: %d of %d.\n", len(references)-len(missing), len(references))
	return err
}
