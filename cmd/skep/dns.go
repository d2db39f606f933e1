package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"skep/generator/problem"
	"skep/networks"
	"skep/services/dns"
	"skep/services/dns/providers"
)

func (p *program) dns() *cli.Command {
	return &cli.Command{
		Name:  "dns",
		Usage: "Keep DNS zones true to the routes",
		Description: "Compares the records that the routes ask for with those at the provider of each zone, and changes\n" +
			"what differs. Records are marked with the cluster's name; those of anybody else are never touched.\n\n" +
			"Examples:\n   skep dns plan\n   skep dns sync",
		Subcommands: []*cli.Command{p.dnsPlan(), p.dnsSync()},
	}
}

const dnsEnvironment = "Settings come from the environment; a NAME_FILE names a file with the value: CLOUDFLARE_API_TOKEN;\n" +
	"UNIFI_URL, UNIFI_API_KEY, UNIFI_SITE, UNIFI_CA_FILE; RFC2136_SERVER, RFC2136_TSIG_NAME,\n" +
	"RFC2136_TSIG_SECRET, RFC2136_TSIG_ALGORITHM.\n\n"

func dnsFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		jsonFlag(), tokenFlag(),
		&cli.StringFlag{Name: "bundle", Usage: "read the zones from the bundle in `FOLDER` instead of compiling the project"},
		&cli.DurationFlag{Name: "grace", Value: dns.DefaultGrace, Usage: "how long a record stays after nothing wants it any more"},
		&cli.Float64Flag{Name: "max-removals", Value: dns.DefaultShare, Usage: "part of the cluster's records in a zone that may begin to go at once"},
		&cli.BoolFlag{Name: "force", Usage: "let records go, however many"},
		noSwarmFlag(),
	}, more...)
}

func tokenFlag() cli.Flag {
	return &cli.StringFlag{Name: "token-file", Usage: "`FILE` with Cloudflare's API token, in place of CLOUDFLARE_API_TOKEN"}
}

func detailedFlag() cli.Flag {
	return &cli.BoolFlag{Name: "detailed-exitcode", Usage: "exit with 4 when there are changes"}
}

func (p *program) dnsPlan() *cli.Command {
	return &cli.Command{
		Name:      "plan",
		Usage:     "Show what sync would change",
		ArgsUsage: "[ZONE...]",
		Description: "Reads the live records and changes nothing. A record that cannot be made, because somebody else has its\n" +
			"name for one, is named, and the exit code is 3.\n\n" + dnsEnvironment +
			"Examples:\n   skep dns plan\n   skep dns plan internal --json\n   skep dns plan --detailed-exitcode   # 4 when there is something to do",
		Flags:  dnsFlags(detailedFlag()),
		Action: func(c *cli.Context) error { return p.runDNS(c, true) },
	}
}

func (p *program) dnsSync() *cli.Command {
	return &cli.Command{
		Name:      "sync",
		Usage:     "Create, update and remove records",
		ArgsUsage: "[ZONE...]",
		Description: "Makes the changes that plan shows. A record that nothing wants any more is marked first, and removed by\n" +
			"the first run after the grace period. When more records would go than --max-removals allows, nothing is\n" +
			"changed without --force.\n\n" + servedHelp + dnsEnvironment +
			"Examples:\n   skep dns sync\n   skep dns sync public --token-file /run/secrets/cloudflare\n   skep dns sync --dry-run\n   skep dns sync --grace 0s --force   # the cluster is taken down",
		Flags:  dnsFlags(&cli.BoolFlag{Name: "dry-run", Usage: "change nothing, as plan does"}),
		Action: func(c *cli.Context) error { return p.runDNS(c, c.Bool("dry-run")) },
	}
}

// dnsTarget is a zone with its provider, what that has, and the plan.
type dnsTarget struct {
	zone     dns.Zone
	provider dns.Provider
	live     []dns.Live
	plan     dns.Plan
}

func (p *program) runDNS(c *cli.Context, dry bool) error {
	d, err := p.wantedDNS(c)
	if err != nil {
		return err
	}
	cluster, err := dns.ParseCluster(d.Cluster)
	if err != nil {
		return failed(err).because("`name:` in cluster.yaml says it")
	}
	options := dns.Options{Cluster: cluster, Now: time.Now(), Grace: c.Duration("grace"), Share: c.Float64("max-removals"), Force: c.Bool("force")}
	if options.Share < 0 || options.Share > 1 || options.Grace < 0 {
		return usage("--max-removals is a part between 0 and 1, and --grace is not negative")
	}
	targets, err := openZones(c, d)
	if err != nil {
		return err
	}
	if err := readZones(c, targets); err != nil {
		return err
	}
	planZones(targets, options)
	if slices.ContainsFunc(targets, func(t dnsTarget) bool { return t.plan.Removes() }) {
		options.Keep = p.served(c)
		planZones(targets, options)
	}
	if dry {
		return p.showDNS(c, targets)
	}
	return p.applyDNS(c, targets)
}

func readZones(c *cli.Context, targets []dnsTarget) (err error) {
	for i := range targets {
		t := &targets[i]
		if t.live, err = dns.List(c.Context, t.provider, t.zone); err != nil {
			return failed(err)
		}
	}
	return nil
}

func planZones(targets []dnsTarget, options dns.Options) {
	for i := range targets {
		t := &targets[i]
		t.plan = dns.Compare(t.zone, t.live, t.provider.Traits(), options)
	}
}

// wantedDNS are the zones of the bundle, from disk or compiled now.
func (p *program) wantedDNS(c *cli.Context) (networks.DNS, error) {
	if dir := c.String("bundle"); dir != "" {
		path := filepath.Join(dir, "cluster", "dns.yaml")
		content, err := os.ReadFile(path)
		if err != nil {
			return networks.DNS{}, err
		}
		d, err := networks.ParseDNS(content)
		if err != nil {
			return networks.DNS{}, fmt.Errorf("%s: %w", path, err)
		}
		return d, nil
	}
	loaded, err := p.compile(c, toRead)
	if err != nil {
		return networks.DNS{}, err
	}
	return networks.DNS{Cluster: loaded.cluster.Name, Zones: loaded.bundle.Zones}, nil
}

// settings are the environment's, and what flags say in its place.
func settings(c *cli.Context) providers.Settings {
	return providers.FromEnv(func(name string) (string, bool) {
		if file := c.String("token-file"); file != "" {
			switch name {
			case providers.CloudflareToken:
				return "", false
			case providers.CloudflareToken + "_FILE":
				return file, true
			}
		}
		return os.LookupEnv(name)
	})
}

// openZones opens the providers of the zones that the arguments name, or of all
// that have one.
func openZones(c *cli.Context, d networks.DNS) ([]dnsTarget, error) {
	named := c.Args().Slice()
	for _, name := range named {
		if !slices.ContainsFunc(d.Zones, func(z networks.Zone) bool { return z.Name == name }) {
			return nil, usage("there is no zone %q", name).because("`zones:` in cluster.yaml lists them")
		}
	}
	var out []dnsTarget
	for _, z := range dns.Zones(d.Zones) {
		if len(named) > 0 && !slices.Contains(named, z.Name) {
			continue
		}
		provider, err := providers.Open(z.Zone, settings(c))
		switch {
		case errors.Is(err, providers.ErrNoProvider) && len(named) == 0:
			continue
		case err != nil:
			return nil, opening(fmt.Errorf("zone %s: %w", z.Name, err))
		}
		out = append(out, dnsTarget{zone: z, provider: provider})
	}
	if len(out) == 0 {
		return nil, failed(errors.New("no zone has a provider that records are sent to")).
			because("`provider:` of a zone in cluster.yaml is one of cloudflare, unifi and rfc2136; `skep-dns serve` serves those of provider skep")
	}
	return out, nil
}

// opening says what to do about a setting that is missing.
func opening(err error) *failure {
	f := failed(err)
	var missing *providers.Missing
	if errors.As(err, &missing) {
		f = f.because("set %s, or %s_FILE to a file that holds it", missing.Name, missing.Name)
	}
	return f
}

// dnsReport is what --json says.
type dnsReport struct {
	Plans []dns.Plan `json:"plans"`
	// Applied is how many changes were made.
	Applied  int      `json:"applied"`
	Failures []string `json:"failures"`
}

func (p *program) showDNS(c *cli.Context, targets []dnsTarget) error {
	report := dnsReport{Plans: []dns.Plan{}, Failures: []string{}}
	for _, t := range targets {
		report.Plans = append(report.Plans, t.plan)
		if c.Bool("json") {
			continue
		}
		if err := t.plan.WriteText(p.stdout, problem.Paint{On: colored(p.stdout)}); err != nil {
			return err
		}
	}
	if c.Bool("json") {
		if err := p.writeJSON(report); err != nil {
			return err
		}
	}
	return afterPlan(c, report.Plans)
}

// afterPlan is the exit code of a plan.
func afterPlan(c *cli.Context, plans []dns.Plan) error {
	pending := false
	for _, plan := range plans {
		if len(plan.Conflicts) > 0 {
			return &failure{code: exitProblems}
		}
		pending = pending || plan.Pending() || len(plan.Held) > 0
	}
	if pending && c.Bool("detailed-exitcode") {
		return &failure{code: exitPending}
	}
	return nil
}

func (p *program) applyDNS(c *cli.Context, targets []dnsTarget) error {
	for _, t := range targets {
		if n := len(t.plan.Held); n > 0 {
			if err := p.showDNS(c, targets); err != nil && !errors.As(err, new(*failure)) {
				return err
			}
			return failed(fmt.Errorf("zone %s: %d records would go at once, which is more than --max-removals allows", t.zone.Name, n)).
				because("nothing was changed; when it is meant, run it again with --force")
		}
	}
	report := dnsReport{Plans: []dns.Plan{}, Failures: []string{}}
	paint, errPaint := problem.Paint{On: colored(p.stdout)}, problem.Paint{On: colored(p.stderr)}
	var failures []error
	for _, t := range targets {
		report.Plans = append(report.Plans, t.plan)
		err := dns.Apply(c.Context, t.provider, t.plan, func(change dns.Change, err error) {
			switch {
			case err != nil && !c.Bool("json"):
				fmt.Fprintf(p.stderr, "%s  %s\n", errPaint.Red("failed"), problem.Printable(change.Record.Name+": "+err.Error()))
			case err == nil:
				report.Applied++
				if !c.Bool("json") {
					fmt.Fprintln(p.stdout, change.Line(paint))
				}
			}
		})
		if err != nil {
			failures = append(failures, err)
			report.Failures = append(report.Failures, err.Error())
		}
	}
	if c.Bool("json") {
		if err := p.writeJSON(report); err != nil {
			return err
		}
	} else if err := p.summarizeDNS(report); err != nil {
		return err
	}
	if len(failures) > 0 {
		return failed(fmt.Errorf("%d changes made, the rest failed: %w", report.Applied, errors.Join(failures...))).because("run it again; what was done stays done")
	}
	return afterPlan(c, report.Plans)
}

func (p *program) summarizeDNS(report dnsReport) error {
	for _, plan := range report.Plans {
		_, err := fmt.Fprintf(p.stdout, "%s: %d changes, %d waiting to go, %d unchanged\n", plan.Domain, len(plan.Changes), len(plan.Waiting), plan.Unchanged)
		if err != nil {
			return err
		}
		for _, refused := range plan.Conflicts {
			fmt.Fprintf(p.stderr, "refused  %s %s: %s\n", refused.Record.Type, problem.Printable(refused.Record.Name), problem.Printable(refused.Reason))
		}
	}
	return nil
}
