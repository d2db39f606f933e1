package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"skep/generator/problem"
	"skep/generator/spec"
	"skep/secrets"
	"skep/secrets/onepassword"
	"skep/services/deploy"
	"skep/services/swarm"
)

func (p *program) doctor() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "Look for what is wrong with the Swarm",
		Description: "Looks at the engine, the managers' quorum, the nodes and their clocks, Swarm's certificates, free subnets,\n" +
			"secret drivers, the project's secret store and updates that stopped half-way, and says what to do. It exits\n" +
			"with 1 when something is broken.\n\n" +
			"Examples:\n   skep doctor\n   skep doctor --hosts --json",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.BoolFlag{Name: "hosts", Usage: "look up every host that the ingress serves, and look at its certificate"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return withSwarm(func(engine *swarm.Client) error {
				findings, err := examine(c, engine)
				if err != nil {
					return err
				}
				if err := p.printDiagnosis(c, findings); err != nil {
					return err
				}
				for _, f := range findings {
					if f.Verdict == deploy.Broken {
						return &failure{code: exitFailed}
					}
				}
				return nil
			})
		},
	}
}

func examine(c *cli.Context, client *swarm.Client) ([]deploy.Finding, error) {
	asked := time.Now()
	engine, err := client.Engine(c.Context)
	if err != nil {
		return nil, err
	}
	v := deploy.Vitals{EngineVersion: engine.Version, APIVersion: engine.APIVersion, Manager: engine.Info.Swarm.ControlAvailable}
	// The engine's clock is compared with the middle of the question's time.
	v.Asked = asked.Add(time.Since(asked) / 2)
	if v.EngineTime, err = time.Parse(time.RFC3339Nano, engine.Info.SystemTime); err != nil {
		v.EngineTime = v.Asked
	}
	if cluster := engine.Info.Swarm.Cluster; cluster != nil {
		v.Pools, v.SubnetBits = []netip.Prefix(cluster.DefaultAddrPool), int(cluster.SubnetSize)
		v.TrustRoot, v.RootRotation = cluster.TLSInfo.TrustRoot, cluster.RootRotationInProgress
	}
	var live deploy.Live
	if v.Manager {
		if live, err = deploy.Read(c.Context, client); err != nil && !errors.Is(err, deploy.ErrRedacted) {
			return nil, err
		}
	}
	findings := append(deploy.Diagnose(v, live), connect(c)...)
	if c.Bool("hosts") {
		checker := hostChecker{dial: (&net.Dialer{}).DialContext, now: time.Now}
		findings = append(findings, checker.check(c.Context, servedHosts(deploy.StatusOf(live)))...)
	}
	return findings, nil
}

// connect asks the 1Password Connect of the project, if it has one, how it does.
// That it is away is no more than a warning: what runs goes on running.
func connect(c *cli.Context) []deploy.Finding {
	dir, err := find(c)
	if err != nil {
		return nil
	}
	cluster, _ := spec.Load(c.Context, dir, spec.Options{})
	if cluster == nil || cluster.Secrets.Provider != "onepassword-connect" {
		return nil
	}
	host := cmp.Or(os.Getenv("OP_CONNECT_HOST"), cluster.Secrets.Host)
	if host == "" {
		return nil
	}
	return []deploy.Finding{lookAtConnect(c.Context, host)}
}

// connectPatience is how long Connect has to answer.
const connectPatience = 5 * time.Second

func lookAtConnect(ctx context.Context, host string) deploy.Finding {
	f := deploy.Finding{Check: "secret store", Verdict: deploy.Warning}
	token, noToken := onepassword.TokenFrom(os.LookupEnv)
	if noToken != nil {
		token = onepassword.StaticToken("") // the health asks for none
	}
	client, err := onepassword.New(host, token, onepassword.Config{UserAgent: "skep/" + versionString()})
	if err != nil {
		f.Text, f.Remedy = err.Error(), "set OP_CONNECT_HOST, or secrets.host in "+spec.ClusterFile
		return f
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, connectPatience)
	defer cancel()
	health, err := client.Health(ctx)
	switch {
	case err != nil:
		f.Text, f.Remedy = err.Error(), "start 1Password Connect; where its address is one of the Swarm's own, set OP_CONNECT_HOST to one that this machine reaches"
	case len(health.NotReady) > 0:
		f.Text = fmt.Sprintf("1Password Connect %s is not ready: %s", health.Version, strings.Join(health.NotReady, ", "))
		f.Remedy = "look at its log; `TOKEN_NEEDED` goes away with the first request that has a token"
	case errors.Is(noToken, onepassword.ErrNoToken):
		f.Verdict, f.Text = deploy.Fine, fmt.Sprintf("1Password Connect %s answers; there is no token here to try", health.Version)
	case noToken != nil:
		f.Text, f.Remedy = noToken.Error(), "`skep secrets --help` says where the token is looked for"
	default:
		vaults, err := client.Vaults(ctx)
		if err != nil {
			f.Text, f.Remedy = err.Error(), "look at the log of 1Password Connect"
			if errors.Is(err, secrets.ErrDenied) {
				f.Remedy = "make a new token in 1Password, and put it where the old one is"
			}
			break
		}
		f.Verdict, f.Text = deploy.Fine, fmt.Sprintf("1Password Connect %s answers, and its token may read %d vaults", health.Version, vaults)
	}
	return f
}

func (p *program) printDiagnosis(c *cli.Context, findings []deploy.Finding) error {
	if c.Bool("json") {
		return p.writeJSON(findings)
	}
	paint := problem.Paint{On: colored(p.stdout)}
	table := tabwriter.NewWriter(p.stdout, 0, 4, 2, ' ', 0)
	for _, f := range findings {
		color := map[deploy.Verdict]func(string) string{deploy.Fine: paint.Green, deploy.Warning: paint.Yellow, deploy.Broken: paint.Red}[f.Verdict]
		fmt.Fprintf(table, "%s\t%s\t%s\n", f.Check, color(string(f.Verdict)), problem.Printable(f.Text))
		if f.Remedy != "" {
			fmt.Fprintf(table, "\t\t  %s\n", paint.Dim(f.Remedy))
		}
	}
	return table.Flush()
}
