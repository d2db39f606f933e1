package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	"skep/generator/stack"
	"skep/services/deploy"
	"skep/services/swarm"
)

func (p *program) previewDown() *cli.Command {
	return &cli.Command{
		Name:      "down",
		Usage:     "Remove a preview",
		ArgsUsage: "NAME",
		Description: "Removes its services, jobs, configs, secrets, networks and revisions, and its volumes on the engine that is\n" +
			"talked to; those on other nodes stay there. Without --yes it only lists what would go.\n\n" +
			"Examples:\n   skep preview down pr-12\n   skep preview down pr-12 --yes",
		Flags: append([]cli.Flag{jsonFlag(), yesFlag()}, namesFlags()...),
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usage("which preview?").because("`skep preview list` lists them")
			}
			name := c.Args().First()
			return withSwarm(func(engine *swarm.Client) error {
				live, err := deploy.Read(c.Context, engine)
				if err != nil {
					return err
				}
				there, ok := deploy.FindPreview(live, name)
				if !ok {
					return failed(fmt.Errorf("there is no preview %s in the Swarm", name)).because("`skep preview list` lists them")
				}
				return p.removePreviews(c, engine, live, []deploy.Preview{there}, func(v deploy.Preview) bool { return v.Name == name },
					fmt.Sprintf("`skep preview down %s --yes` does it", name))
			})
		},
	}
}

func yesFlag() cli.Flag { return &cli.BoolFlag{Name: "yes", Usage: "do it"} }

func (p *program) previewSweep() *cli.Command {
	return &cli.Command{
		Name:  "sweep",
		Usage: "Remove the previews whose time is over",
		Description: "Also removes what a removal that was cut off has left, an hour after it was made. Safe to run at any time, again\n" +
			"and again: it waits for a deploy under way and looks anew after it. Without --yes it only lists what would go.\n\n" +
			"Examples:\n   skep preview sweep\n   skep preview sweep --yes",
		Flags: append([]cli.Flag{jsonFlag(), yesFlag()}, namesFlags()...),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			now := time.Now()
			over := func(v deploy.Preview) bool { return v.Expired(now) }
			return withSwarm(func(engine *swarm.Client) error {
				live, err := deploy.Read(c.Context, engine)
				if err != nil {
					return err
				}
				var gone []deploy.Preview
				for _, v := range deploy.Previews(live) {
					if over(v) {
						gone = append(gone, v)
					}
				}
				if len(gone) == 0 {
					if c.Bool("json") {
						return p.writeJSON(removedReport{Removed: []deploy.Preview{}, Objects: []deploy.Change{}, Volumes: []string{}})
					}
					_, err := fmt.Fprintln(p.stdout, "No preview's time is over.")
					return err
				}
				return p.removePreviews(c, engine, live, gone, over, "`skep preview sweep --yes` does it")
			})
		},
	}
}

// removedReport is what --json says of what is removed, or would be.
type removedReport struct {
	Removed []deploy.Preview `json:"removed"` // without --yes: none
	Objects []deploy.Change  `json:"objects"`
	Volumes []string         `json:"volumes"` // of this engine
}

// removePreviews lists what goes and, when it is told to, removes it.
func (p *program) removePreviews(c *cli.Context, engine *swarm.Client, live deploy.Live, list []deploy.Preview, gone func(deploy.Preview) bool, remedy string) error {
	report := removedReport{Removed: []deploy.Preview{}, Objects: []deploy.Change{}, Volumes: []string{}}
	for _, v := range list {
		report.Objects = append(report.Objects, deploy.PreviewObjects(live, v.Name)...)
		volumes, err := engine.Volumes(c.Context, stack.LabelPreview+"="+v.Name)
		if err != nil {
			return err
		}
		report.Volumes = append(report.Volumes, volumes...)
	}
	if !c.Bool("yes") {
		return p.wouldRemove(c, report, remedy)
	}
	o := deploy.Options{Who: who(), Now: time.Now}
	progress := newProgress(p.stdout)
	if !c.Bool("json") {
		o.Report = progress.report
	}
	removed, err := deploy.RemovePreviews(c.Context, engine, gone, o)
	err = errors.Join(err, p.dropNames(c, live, removed, o))
	progress.close()
	report.Removed = append(report.Removed, removed...)
	volumes, volumeErr := removeVolumes(c.Context, engine, removed)
	report.Volumes = append([]string{}, volumes...)
	err = errors.Join(err, volumeErr)
	if c.Bool("json") {
		return errors.Join(p.writeJSON(report), err)
	}
	for _, name := range volumes {
		fmt.Fprintf(p.stdout, "removed volume %s\n", name)
	}
	for _, v := range removed {
		fmt.Fprintf(p.stdout, "Preview %s is gone.\n", v.Name)
		if len(live.Nodes) > 1 {
			fmt.Fprintf(p.stdout, "  Volumes on other nodes stay: docker volume prune -a --filter label=%s=%s removes them there.\n", stack.LabelPreview, v.Name)
		}
	}
	return err
}

// dropNames removes the names of previews that are gone, at once: nobody is to
// come back. It takes the project to know who keeps them.
func (p *program) dropNames(c *cli.Context, live deploy.Live, removed []deploy.Preview, o deploy.Options) error {
	var stacks []stack.Name
	var hosts []string
	for _, v := range removed {
		stacks, hosts = append(stacks, v.Stacks...), append(hosts, v.Hosts...)
	}
	if len(hosts) == 0 || c.Bool("no-dns") {
		return nil
	}
	if o.Report == nil {
		o.Report = func(deploy.Event) {}
	}
	if _, err := find(c); err != nil {
		o.Report(deploy.Event{Verb: deploy.Warned, Text: "DNS and the tunnel were left alone, for there is no project here: `skep deploy` in it removes the names"})
		return nil
	}
	_, project, err := p.desired(c)
	if err != nil {
		return fmt.Errorf("remove the names of what is gone: %w", err)
	}
	return deploy.DropNames(c.Context, live, project, stacks, hosts, names(c, project, 0), o.Report)
}

func (p *program) wouldRemove(c *cli.Context, report removedReport, remedy string) error {
	if c.Bool("json") {
		return p.writeJSON(report)
	}
	for _, o := range report.Objects {
		fmt.Fprintf(p.stdout, "would remove %s %s\n", o.Kind, o.Name)
	}
	for _, name := range report.Volumes {
		fmt.Fprintf(p.stdout, "would remove volume %s\n", name)
	}
	return usage("nothing was removed").because("%s", remedy)
}

// volumePatience is how long the containers of a service that is gone may take
// to let go of their volumes.
const volumePatience = time.Minute

// removeVolumes removes the volumes that previews had on this engine.
func removeVolumes(ctx context.Context, engine *swarm.Client, of []deploy.Preview) ([]string, error) {
	var removed []string
	var errs []error
	for _, v := range of {
		volumes, err := engine.Volumes(ctx, stack.LabelPreview+"="+v.Name)
		errs = append(errs, err)
		for _, name := range volumes {
			_, err := backoff.Retry(ctx, func() (struct{}, error) {
				err := engine.RemoveVolume(ctx, name)
				if err != nil && !errdefs.IsConflict(err) {
					err = backoff.Permanent(err)
				}
				return struct{}{}, err
			}, backoff.WithMaxElapsedTime(volumePatience))
			if err != nil {
				errs = append(errs, fmt.Errorf("remove volume %s: %w", name, err))
				continue
			}
			removed = append(removed, name)
		}
	}
	return removed, errors.Join(errs...)
}
