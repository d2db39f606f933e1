package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"skep/generator/bundle"
	"skep/generator/problem"
	"skep/services/dns"
	"skep/services/dns/cloudflare"
	"skep/services/dns/providers"
	"skep/services/dns/tunnel"
)

func (p *program) tunnel() *cli.Command {
	return &cli.Command{
		Name:  "tunnel",
		Usage: "Keep a remotely managed Cloudflare Tunnel true to the routes",
		Description: "Compares the tunnel's ingress rules with the routes in zones behind the tunnel. Rules that lead elsewhere\n" +
			"than to the ingress are somebody else's and stay. A tunnel that reads cluster/cloudflared.yaml needs none\n" +
			"of this.\n\nExamples:\n   skep tunnel plan\n   skep tunnel sync",
		Subcommands: []*cli.Command{
			{
				Name:  "plan",
				Usage: "Show what sync would change",
				Description: "Reads the tunnel's configuration and changes nothing. CLOUDFLARE_API_TOKEN and CLOUDFLARE_ACCOUNT_ID, or\n" +
					"CLOUDFLARE_API_TOKEN_FILE, come from the environment.\n\nExamples:\n   skep tunnel plan\n   skep tunnel plan --detailed-exitcode",
				Flags:  tunnelFlags(detailedFlag()),
				Action: func(c *cli.Context) error { return p.runTunnel(c, true) },
			},
			{
				Name:  "sync",
				Usage: "Write the tunnel's ingress rules",
				Description: "Makes the changes that plan shows, in one call. When more rules would go than --max-removals allows,\n" +
					"nothing is changed without --force.\n\n" + servedHelp + "Examples:\n   skep tunnel sync\n   skep tunnel sync --dry-run",
				Flags:  tunnelFlags(&cli.BoolFlag{Name: "dry-run", Usage: "change nothing, as plan does"}),
				Action: func(c *cli.Context) error { return p.runTunnel(c, c.Bool("dry-run")) },
			},
		},
	}
}

func tunnelFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		jsonFlag(), tokenFlag(),
		&cli.StringFlag{Name: "account", Usage: "`ID` of the Cloudflare account, in place of CLOUDFLARE_ACCOUNT_ID"},
		&cli.Float64Flag{Name: "max-removals", Value: dns.DefaultShare, Usage: "part of the cluster's rules that may go at once"},
		&cli.BoolFlag{Name: "force", Usage: "let rules go, however many"},
		noSwarmFlag(),
	}, more...)
}

var errHeldRules = errors.New("more rules would go at once than --max-removals allows")

func (p *program) runTunnel(c *cli.Context, dry bool) error {
	if err := noArguments(c); err != nil {
		return err
	}
	loaded, err := p.compile(c, toRead)
	if err != nil {
		return err
	}
	file := slices.IndexFunc(loaded.bundle.Files, func(f bundle.File) bool { return f.Path == "cluster/cloudflared.yaml" })
	if file < 0 || loaded.cluster.Tunnel == nil {
		return failed(errors.New("the cluster has no tunnel")).because("`tunnel:` in cluster.yaml names one")
	}
	want, err := tunnel.Parse(loaded.bundle.Files[file].Content)
	if err != nil {
		return err
	}
	at, err := openTunnel(c, want.Tunnel)
	if err != nil {
		return err
	}
	read, err := at.Read(c.Context)
	if errors.Is(err, cloudflare.ErrLocal) {
		return failed(err).because("cloudflared reads cluster/cloudflared.yaml; the API would take the tunnel away from that file for good")
	}
	if err != nil {
		return failed(err)
	}
	names := tunnelNames{want: want, origin: loaded.cluster.Tunnel.Origin, share: c.Float64("max-removals")}
	plan := names.plan(read.Rules, func(tunnel.Change) bool { return false })
	if slices.ContainsFunc(plan.Changes, removes) {
		keep := p.served(c)
		plan = names.plan(read.Rules, func(change tunnel.Change) bool { return kept(change, keep) })
	}
	plan.Held = plan.Held && !c.Bool("force")
	if err := p.showTunnel(c, plan); err != nil {
		return err
	}
	switch {
	case dry:
	case plan.Held:
		return failed(errHeldRules).because("nothing was changed; when it is meant, run it again with --force")
	case plan.Pending():
		if err := at.Write(c.Context, read, plan.Rules); err != nil {
			return failed(err)
		}
	}
	switch {
	case len(plan.Conflicts) > 0:
		return &failure{code: exitProblems}
	case plan.Pending() && c.Bool("detailed-exitcode"):
		return &failure{code: exitPending}
	}
	return nil
}

func openTunnel(c *cli.Context, id string) (*cloudflare.Tunnel, error) {
	get := settings(c)
	client, err := providers.CloudflareClient(get)
	if err != nil {
		return nil, opening(err)
	}
	account := c.String("account")
	if account == "" {
		if account, err = get(providers.CloudflareAccount); err != nil {
			return nil, err
		}
	}
	if account == "" {
		return nil, opening(&providers.Missing{Name: providers.CloudflareAccount})
	}
	return client.Tunnel(account, id), nil
}

func (p *program) showTunnel(c *cli.Context, plan tunnel.Plan) error {
	if c.Bool("json") {
		return p.writeJSON(plan)
	}
	paint := problem.Paint{On: colored(p.stdout)}
	for _, change := range plan.Changes {
		host := change.Hostname
		if host == "" {
			host = "every other host"
		}
		mark := map[tunnel.Action]string{
			tunnel.Create: paint.Green("create "), tunnel.Update: paint.Yellow("update "), tunnel.Remove: paint.Red("remove "),
		}[change.Action]
		if plan.Held && change.Action == tunnel.Remove {
			mark = paint.Red("held   ")
		}
		if _, err := fmt.Fprintf(p.stdout, "%s  %s -> %s\n", mark, problem.Printable(host), problem.Printable(change.Rule.Service())); err != nil {
			return err
		}
	}
	for _, conflict := range plan.Conflicts {
		fmt.Fprintf(p.stdout, "%s  %s: %s\n", paint.Red("refused"), problem.Printable(conflict.Hostname), problem.Printable(conflict.Reason))
	}
	held := ""
	if plan.Held {
		held = "; held: " + errHeldRules.Error() + ", and sync changes nothing without --force"
	}
	_, err := fmt.Fprintf(p.stdout, "tunnel %s: %d to change, %d unchanged%s\n", plan.Tunnel, len(plan.Changes), plan.Unchanged, held)
	return err
}
