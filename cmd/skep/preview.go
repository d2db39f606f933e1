package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"skep/generator/problem"
	"skep/services/deploy"
	"skep/services/dns"
	"skep/services/swarm"
)

func (p *program) preview() *cli.Command {
	return &cli.Command{
		Name:  "preview",
		Usage: "Run stacks a second time, under other names, for a time",
		Description: "A preview is a copy of some stacks beside the originals: its stacks, hosts, networks, volumes, configs and\n" +
			"secrets have names of their own, and it goes when its time is over. What it may share with the originals is\n" +
			"what `previews` in cluster.yaml names.\n\n" +
			"Examples:\n   skep preview up pr-12 app --ttl 72h\n   skep preview list\n   skep preview down pr-12 --yes",
		Subcommands: []*cli.Command{p.previewUp(), p.previewList(), p.previewDown(), p.previewSweep()},
	}
}

const defaultTTL = 72 * time.Hour

func (p *program) previewUp() *cli.Command {
	return &cli.Command{
		Name:      "up",
		Usage:     "Deploy a preview, or bring it up to date and make its time longer",
		ArgsUsage: "NAME [STACK...]",
		Description: "Shows the plan and deploys it. Without a STACK these are the stacks of previews.stacks in cluster.yaml. Stack app\n" +
			"of preview pr-12 is pr-12-app, and its host app.example.com is pr-12-app.example.com. Secrets are read anew and\n" +
			"made for the preview; secrets.lock stays as it is. Run again it changes what changed, and the time counts from now.\n" +
			"Its hosts get their records, and their rules in the tunnel, once it is up.\n\n" + dnsEnvironment +
			"Examples:\n   skep preview up pr-12\n   skep preview up pr-12 app --ttl 8h\n   skep preview up pr-12 app --dry-run",
		Flags: append([]cli.Flag{
			jsonFlag(),
			&cli.DurationFlag{Name: "ttl", Value: defaultTTL, Usage: "how long it lives"},
			&cli.BoolFlag{Name: "dry-run", Usage: "show the plan and change nothing"},
		}, append(waitFlags(), namesFlags()...)...),
		Action: func(c *cli.Context) error {
			ttl := c.Duration("ttl")
			if ttl <= 0 {
				return usage("--ttl %s", ttl).because("it must be longer than nothing, such as 72h")
			}
			o, err := deployOptions(c)
			if err != nil {
				return err
			}
			project, err := p.previewProject(c, c.Args().First(), c.Args().Tail())
			if err != nil {
				return err
			}
			return withLogins(c, func(engine *swarm.Client) error {
				project.expires = o.Now().Add(ttl)
				if c.Bool("dry-run") {
					return p.planOf(c, engine, project)
				}
				return p.raise(c, engine, project, o)
			})
		},
	}
}

// planPreview is plan --preview: without a change of its time, if it is there.
func (p *program) planPreview(c *cli.Context, name string) error {
	project, err := p.previewProject(c, name, c.Args().Slice())
	if err != nil {
		return err
	}
	return withSwarm(func(engine *swarm.Client) error {
		live, err := deploy.Read(c.Context, engine)
		if err != nil {
			return err
		}
		project.expires = time.Now().Add(defaultTTL)
		if there, ok := deploy.FindPreview(live, name); ok && !there.Expires.IsZero() {
			project.expires = there.Expires
		}
		return p.planOf(c, engine, project)
	})
}

// planOf shows what up would do, which makes the secrets first.
func (p *program) planOf(c *cli.Context, engine *swarm.Client, project *previewProject) error {
	live, err := deploy.Read(c.Context, engine)
	if err != nil {
		return err
	}
	project.look(live)
	if err := p.buildPreview(c, project); err != nil {
		return err
	}
	return p.runPlan(c, engine, project.want, previewBeforeSync())
}

// previewScope removes what a preview no longer has: nobody goes back to it.
var previewScope = deploy.Scope{Prune: true, Partial: true}

func previewBeforeSync() deploy.Scope {
	scope := previewScope
	scope.BeforeSync = true
	return scope
}

// previewReport is what up --json says.
type previewReport struct {
	Preview string    `json:"preview"`
	Stacks  []string  `json:"stacks"`
	URLs    []string  `json:"urls"`
	Expires time.Time `json:"expires"`
	deployReport
}

// raise makes the preview: its secrets, then the rest.
func (p *program) raise(c *cli.Context, engine *swarm.Client, project *previewProject, o deploy.Options) error {
	live, err := deploy.Read(c.Context, engine)
	if err != nil {
		return err
	}
	project.look(live)
	if err := p.buildPreview(c, project); err != nil {
		return err
	}
	if len(project.wanted) > 0 {
		if err := p.mayRaise(c, engine, project); err != nil {
			return err
		}
		made, err := project.sync(c, engine)
		if !c.Bool("json") {
			for _, name := range made {
				fmt.Fprintf(p.stdout, "created secret %s\n", name)
			}
		}
		if err != nil {
			return err
		}
		if err := p.buildPreview(c, project); err != nil { // with the versions that are there now
			return err
		}
	}
	o.Scope, o.Commit = previewScope, committed(c.Context, project.dir)
	o.Note = "preview " + string(project.name)
	o.Names = names(c, project.want, dns.DefaultGrace)
	if c.Bool("json") {
		var told warnings
		o.Report = told.report
		result, err := deploy.Deploy(c.Context, engine, project.want, o)
		report := previewReport{Preview: string(project.name), Stacks: project.stackNames(), URLs: project.urls(),
			Expires: project.expires.UTC().Truncate(time.Second), deployReport: reportOfDeploy(result, told.list)}
		return errors.Join(p.writeJSON(report), err)
	}
	if _, err := p.showPlan(c, engine, project.want, o.Scope); err != nil {
		return err
	}
	if err := p.runDeploy(c, engine, project.want, o); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "Preview %s is up until %s.\n", project.name, project.expires.UTC().Format(time.RFC3339))
	for _, url := range project.urls() {
		fmt.Fprintln(p.stdout, "  "+url)
	}
	return err
}

// mayRaise refuses, before a secret is made, what could not be deployed with it.
func (p *program) mayRaise(c *cli.Context, engine deploy.Reader, project *previewProject) error {
	live, err := deploy.Read(c.Context, engine)
	if err != nil {
		return err
	}
	plan, err := deploy.Compare(project.want, live, previewBeforeSync())
	if err != nil || plan.Ready() == nil {
		return err
	}
	return errors.Join(p.printPlan(c, plan), failed(deploy.ErrNotReady).because("see to what the plan marks with !"))
}

func (p *program) previewList() *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "List the previews of the Swarm",
		Description: "Reads the Swarm alone: previews are known by their labels.\n\n" +
			"Examples:\n   skep preview list\n   skep preview list --json",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return withSwarm(func(engine *swarm.Client) error {
				live, err := deploy.Read(c.Context, engine)
				if err != nil {
					return err
				}
				list := deploy.Previews(live)
				if c.Bool("json") {
					return p.writeJSON(map[string]any{"previews": list})
				}
				if len(list) == 0 {
					_, err := fmt.Fprintln(p.stdout, "There is no preview.")
					return err
				}
				return p.tabulatePreviews(list)
			})
		},
	}
}

func (p *program) tabulatePreviews(list []deploy.Preview) error {
	out := tabwriter.NewWriter(p.stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(out, "PREVIEW\tSTACKS\tUP\tEXPIRES\tHOSTS")
	for _, v := range list {
		stacks := make([]string, len(v.Stacks))
		for i, s := range v.Stacks {
			stacks[i] = string(s)
		}
		expires := v.Expires.Format(time.RFC3339)
		switch {
		case v.Expires.IsZero():
			expires = "half removed"
		case v.Expired(time.Now()):
			expires += " (over)"
		}
		fmt.Fprintf(out, "%s\t%s\t%d/%d\t%s\t%s\n", problem.Printable(v.Name), problem.Printable(strings.Join(stacks, " ")), v.Running, v.Want, expires,
			problem.Printable(strings.Join(v.Hosts, " ")))
	}
	return out.Flush()
}
