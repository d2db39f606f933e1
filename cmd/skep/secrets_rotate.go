package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"skep/generator/stack"
	"skep/services/deploy"
	"skep/services/secretsync"
	"skep/services/swarm"
)

func (p *program) secretsRotate() *cli.Command {
	return &cli.Command{
		Name:  "rotate",
		Usage: "Sync, and deploy the stacks that use an earlier version",
		Description: "One turn of `skep secrets watch`: what has a new version is synced, and the stacks whose services use another\n" +
			"one are deployed, health-gated as ever, each for itself. With nothing new it changes nothing; after a failure it\n" +
			"is run again.\n\n" +
			"Examples:\n   skep secrets rotate\n   skep secrets rotate --stack media-core --json",
		Flags: []cli.Flag{
			jsonFlag(), noPruneFlag(), undoFlag(),
			&cli.StringSliceFlag{Name: "stack", Usage: "deploy `STACK` alone; may be repeated"},
			&cli.DurationFlag{Name: "timeout", Value: 10 * time.Minute, Usage: "how long a service may take to come up"},
		},
		Action: func(c *cli.Context) error {
			var names []stack.Name
			for _, s := range c.StringSlice("stack") {
				names = append(names, stack.Name(s))
			}
			return p.withSyncer(c, func(ctx context.Context, project *secretProject, s *secretsync.Syncer, engine *swarm.Client) error {
				r, stop := &rotation{c: c, engine: engine}, func() {}
				if !c.Bool("json") {
					progress := newProgress(p.stdout)
					r.report, stop = progress.report, progress.close
				}
				done, err := secretsync.Rotate(ctx, s, project, r, !c.Bool("no-prune"), names...)
				stop()
				return errors.Join(p.printRotation(c, project, done, failures(err)), err, missing(done.Sync))
			})
		},
	}
}

// rotationReport is what --json says.
type rotationReport struct {
	Actions  []secretsync.Action `json:"actions"`
	Deployed []stack.Name        `json:"deployed"`
	Services []*deploy.Failure   `json:"services"` // that did not come up
}

func (p *program) printRotation(c *cli.Context, project *secretProject, done secretsync.Rotation, failed []*deploy.Failure) error {
	if c.Bool("json") {
		return p.writeJSON(rotationReport{
			Actions: append([]secretsync.Action{}, done.Sync.Actions...), Deployed: append([]stack.Name{}, done.Deployed...),
			Services: append([]*deploy.Failure{}, failed...),
		})
	}
	if err := p.printSecrets(c, project, done.Sync, synced); err != nil {
		return err
	}
	for _, name := range done.Deployed {
		if _, err := fmt.Fprintf(p.stdout, "deployed  %s\n", name); err != nil {
			return err
		}
	}
	return nil
}
