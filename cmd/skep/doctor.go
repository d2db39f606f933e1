package main

import (
	"fmt"
	"net/netip"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"skep/generator/problem"
	"skep/services/deploy"
	"skep/services/swarm"
)

func (p *program) doctor() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "Look for what is wrong with the Swarm",
		Description: "Looks at the engine, the managers' quorum, the nodes, clocks, free subnets and updates that stopped half-way,\n" +
			"and says what to do. It exits with 1 when something is broken.\n\n" +
			"Examples:\n   skep doctor\n   skep doctor --json",
		Flags: []cli.Flag{jsonFlag()},
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
	}
	var live deploy.Live
	if v.Manager {
		if live, err = deploy.Read(c.Context, client); err != nil {
			return nil, err
		}
	}
	return deploy.Diagnose(v, live), nil
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
