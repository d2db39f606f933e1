package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"skep/generator/problem"
	"skep/networks"
	"skep/services/deploy"
	"skep/services/dns"
	"skep/services/dns/cloudflare"
	"skep/services/dns/providers"
	"skep/services/dns/tunnel"
	"skep/services/swarm"
)

// namesFlags are those of commands that plan or change the names of hosts.
func namesFlags() []cli.Flag {
	return []cli.Flag{
		tokenFlag(),
		&cli.BoolFlag{Name: "no-dns", Usage: "leave DNS and the tunnel alone"},
	}
}

// namesPatience is how long a provider may take to list what it has.
const namesPatience = 15 * time.Second

// names are the zones and the tunnel of a project that somebody keeps through
// an API. What is missing to reach them is part of their plan.
func names(c *cli.Context, p deploy.Project, grace time.Duration) []deploy.Names {
	if c.Bool("no-dns") {
		return nil
	}
	var out []deploy.Names
	cluster, clusterErr := dns.ParseCluster(p.Cluster)
	for _, zone := range dns.Zones(p.Zones) {
		provider, err := providers.Open(zone.Zone, settings(c))
		if errors.Is(err, providers.ErrNoProvider) {
			continue
		}
		out = append(out, zoneNames{zone: zone, provider: provider, cluster: cluster, grace: grace, err: cmp.Or(clusterErr, err), now: time.Now})
	}
	if p.Tunnel != nil {
		t := tunnelNames{origin: p.Tunnel.Origin, owners: owners(p.Zones), share: dns.DefaultShare}
		if t.want, t.err = tunnel.Parse(p.Tunnel.Rules); t.err == nil {
			t.at, t.err = openTunnel(c, t.want.Tunnel)
		}
		out = append(out, t)
	}
	return out
}

// owners are the services that hosts belong to, as stack/service.
func owners(zones []networks.Zone) map[string]string {
	out := map[string]string{}
	for _, z := range zones {
		for _, r := range z.Records {
			out[r.Name] = cmp.Or(out[r.Name], r.Owner)
		}
	}
	return out
}

func unread(kind deploy.NamesKind, name string, err error) deploy.NamesPlan {
	return deploy.NamesPlan{Kind: kind, Name: name, Unread: err.Error()}
}

const servedHelp = "A name that a service of the Swarm still answers for, as a preview's does, stays. While the Swarm cannot be\n" +
	"read all names stay; --no-swarm goes by the project alone.\n\n"

func noSwarmFlag() cli.Flag {
	return &cli.BoolFlag{Name: "no-swarm", Usage: "let go what the project does not want, whatever the Swarm answers for"}
}

// served picks the hosts that stay though the project does not want them: those
// that something in the Swarm answers for, and all while nobody can say.
func (p *program) served(c *cli.Context) func(host string) bool {
	if c.Bool("no-swarm") {
		return func(string) bool { return false }
	}
	ctx, cancel := context.WithTimeout(c.Context, namesPatience)
	defer cancel()
	var keep func(string) bool
	if err := withSwarm(func(engine *swarm.Client) error {
		services, err := engine.Services(ctx)
		keep = deploy.Served(services)
		return err
	}); err != nil {
		fmt.Fprintln(p.stderr, "warning: no name goes, for the Swarm cannot be read:", problem.Printable(err.Error()))
		fmt.Fprintln(p.stderr, "  DOCKER_HOST must name a manager; --no-swarm goes by the project alone")
		return func(string) bool { return true }
	}
	return keep
}

// zoneNames keep the records of a zone.
type zoneNames struct {
	zone     dns.Zone
	provider dns.Provider
	cluster  dns.Cluster
	grace    time.Duration // of records that nothing wants
	err      error         // why the provider cannot be asked
	now      func() time.Time
}

var _ deploy.Names = zoneNames{}

func (z zoneNames) Plan(ctx context.Context, keep func(string) bool) deploy.NamesPlan {
	if z.err != nil {
		return unread(deploy.NamesDNS, z.zone.Domain, z.err)
	}
	ctx, cancel := context.WithTimeout(ctx, namesPatience)
	defer cancel()
	plan, err := z.read(ctx, keep)
	if err != nil {
		return unread(deploy.NamesDNS, z.zone.Domain, err)
	}
	out := deploy.NamesPlan{Kind: deploy.NamesDNS, Name: z.zone.Domain, Unchanged: plan.Unchanged + plan.Foreign}
	for _, c := range plan.Changes {
		out.Changes = append(out.Changes, z.change(c))
	}
	for _, c := range plan.Conflicts {
		out.Notes = append(out.Notes, fmt.Sprintf("%s %s is refused: %s", c.Record.Type, c.Record.Name, c.Reason))
	}
	if n := len(plan.Held); n > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("%d records would go at once and stay: `skep dns sync --force` lets them go", n))
	}
	return out
}

func (z zoneNames) Apply(ctx context.Context, keep func(string) bool, may func(deploy.NameChange) bool, done func(deploy.NameChange, error)) error {
	plan, err := z.read(ctx, keep)
	if err != nil {
		return err
	}
	plan.Changes = slices.DeleteFunc(plan.Changes, func(c dns.Change) bool { return !may(z.change(c)) })
	return dns.Apply(ctx, z.provider, plan, func(c dns.Change, err error) { done(z.change(c), err) })
}

// read plans the zone, without what somebody else in the Swarm answers to.
func (z zoneNames) read(ctx context.Context, keep func(string) bool) (dns.Plan, error) {
	return dns.Read(ctx, z.provider, z.zone, dns.Options{
		Cluster: z.cluster, Now: z.now(), Grace: z.grace, Share: dns.DefaultShare, Keep: keep,
	})
}

func (z zoneNames) wants(name string) bool {
	return slices.ContainsFunc(z.zone.Records, func(r networks.Record) bool { return r.Name == name })
}

func (z zoneNames) change(c dns.Change) deploy.NameChange {
	out := deploy.NameChange{
		Type: string(c.Record.Type), Host: c.Record.Name, New: c.Record.Content, Owner: cmp.Or(c.Record.Owner, c.Mark.Owner), Why: c.Reason,
	}
	switch c.Action {
	case dns.Create:
		out.Action = deploy.Create
	case dns.Retire:
		out.Action, out.Old, out.New = deploy.Retire, c.Record.Content, ""
	case dns.Remove:
		out.Action, out.Old, out.New = deploy.Remove, c.Record.Content, ""
		if z.wants(c.Record.Name) { // it makes room for another record of its name
			out.Action = deploy.Update
		}
	default:
		out.Action = deploy.Update
		if c.Old != nil {
			out.Old = c.Old.Content
		}
	}
	return out
}

// tunnelNames keep the rules of a tunnel.
type tunnelNames struct {
	want   tunnel.Config
	origin string
	owners map[string]string
	share  float64 // of the rules that may go at once
	at     *cloudflare.Tunnel
	err    error
}

var _ deploy.Names = tunnelNames{}

func (t tunnelNames) Plan(ctx context.Context, keep func(string) bool) deploy.NamesPlan {
	if t.err != nil {
		return unread(deploy.NamesTunnel, t.want.Tunnel, t.err)
	}
	ctx, cancel := context.WithTimeout(ctx, namesPatience)
	defer cancel()
	read, err := t.at.Read(ctx)
	switch {
	case errors.Is(err, cloudflare.ErrLocal): // its rules are a file of a stack
		return deploy.NamesPlan{Kind: deploy.NamesTunnel, Name: t.want.Tunnel}
	case err != nil:
		return unread(deploy.NamesTunnel, t.want.Tunnel, err)
	}
	plan := t.plan(read.Rules, func(c tunnel.Change) bool { return kept(c, keep) })
	held := plan.Held
	if held {
		plan = t.plan(read.Rules, removes)
	}
	out := deploy.NamesPlan{Kind: deploy.NamesTunnel, Name: t.want.Tunnel, Unchanged: plan.Unchanged}
	for _, c := range plan.Changes {
		out.Changes = append(out.Changes, t.change(c))
	}
	for _, c := range plan.Conflicts {
		out.Notes = append(out.Notes, fmt.Sprintf("%s is refused: %s", c.Hostname, c.Reason))
	}
	if held {
		out.Notes = append(out.Notes, "too many rules would go at once and stay: `skep tunnel sync --force` lets them go")
	}
	return out
}

func (t tunnelNames) Apply(ctx context.Context, keep func(string) bool, may func(deploy.NameChange) bool, done func(deploy.NameChange, error)) error {
	read, err := t.at.Read(ctx)
	if err != nil {
		return err
	}
	plan := t.plan(read.Rules, func(c tunnel.Change) bool { return kept(c, keep) || !may(t.change(c)) })
	if !plan.Pending() {
		return nil
	}
	err = t.at.Write(ctx, read, plan.Rules)
	for _, c := range plan.Changes {
		done(t.change(c), err)
	}
	return err
}

// kept reports whether a rule that would go is somebody else's in the Swarm.
func kept(c tunnel.Change, keep func(string) bool) bool { return removes(c) && keep(c.Hostname) }

func removes(c tunnel.Change) bool { return c.Action == tunnel.Remove }

// plan leaves out the changes that are refused. The API takes all rules at
// once, so that what stays is part of what is wanted.
func (t tunnelNames) plan(live []tunnel.Rule, refused func(tunnel.Change) bool) tunnel.Plan {
	compare := func(rules []tunnel.Rule) tunnel.Plan {
		return tunnel.Compare(tunnel.Config{Tunnel: t.want.Tunnel, Rules: rules}, live, t.origin, t.share)
	}
	rules := slices.Clone(t.want.Rules)
	var last tunnel.Rule // a rule for every other host that stays
	for _, c := range compare(rules).Changes {
		switch {
		case !refused(c):
		case c.Hostname == "":
			last = c.Before
		case c.Action == tunnel.Remove:
			rules = append(rules, c.Rule)
		default:
			rules = slices.DeleteFunc(rules, func(r tunnel.Rule) bool { return r.Hostname() == c.Hostname })
			if c.Before != nil {
				rules = append(rules, c.Before)
			}
		}
	}
	out := compare(rules)
	if last != nil {
		out.Rules[len(out.Rules)-1] = last
		out.Changes = slices.DeleteFunc(out.Changes, func(c tunnel.Change) bool { return c.Hostname == "" })
	}
	return out
}

func (t tunnelNames) change(c tunnel.Change) deploy.NameChange {
	out := deploy.NameChange{Type: "rule", Host: cmp.Or(c.Hostname, "every other host"), Owner: t.owners[c.Hostname]}
	switch c.Action {
	case tunnel.Create:
		out.Action, out.New = deploy.Create, c.Rule.Service()
	case tunnel.Update:
		out.Action, out.Old, out.New = deploy.Update, c.Before.Service(), c.Rule.Service()
		if out.Old == out.New {
			out.Why = "how the ingress is asked differs"
		}
	case tunnel.Remove:
		out.Action, out.Old, out.Why = deploy.Remove, c.Rule.Service(), "nothing wants it"
	}
	return out
}
