package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"skep/generator/problem"
	"skep/services/ingress"
)

func (p *program) render() *cli.Command {
	return &cli.Command{
		Name:  "render",
		Usage: "Show what the ingress will run",
		Description: "Turns the labels of all services into Caddy's configuration with the code that the ingress itself runs.\n\n" +
			"Examples:\n   skep render caddyfile\n   skep render caddy-json | jq .apps.http.servers",
		Subcommands: []*cli.Command{
			{
				Name:  "caddyfile",
				Usage: "Print the Caddyfile",
				Description: "Prints the Caddyfile. Upstreams are names of Swarm services; the ingress writes the addresses of\n" +
					"their tasks instead.\n\nExample:\n   skep render caddyfile",
				Flags: []cli.Flag{jsonFlag()},
				Action: func(c *cli.Context) error {
					text, err := p.caddyfile(c)
					if err != nil {
						return err
					}
					if c.Bool("json") {
						return p.writeJSON(map[string]string{"caddyfile": string(text)})
					}
					_, err = p.stdout.Write(text)
					return err
				},
			},
			{
				Name:        "caddy-json",
				Usage:       "Print Caddy's JSON",
				Description: "Prints Caddy's native configuration; warnings of its adapter go to stderr.\n\nExample:\n   skep render caddy-json > caddy.json",
				Flags:       []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "accepted for symmetry; the output is JSON"}},
				Action: func(c *cli.Context) error {
					text, err := p.caddyfile(c)
					if err != nil {
						return err
					}
					config, warnings, err := ingress.Adapt(text)
					if err != nil {
						return fmt.Errorf("adapt the Caddyfile: %w", err)
					}
					for _, w := range warnings {
						fmt.Fprintln(p.stderr, "warning:", problem.Printable(w))
					}
					_, err = p.stdout.Write(config)
					return err
				},
			},
		},
	}
}

// caddyfile renders the labels of the whole bundle, which the checks have
// accepted.
func (p *program) caddyfile(c *cli.Context) ([]byte, error) {
	if err := noArguments(c); err != nil {
		return nil, err
	}
	loaded, err := p.compile(c, toRead)
	if err != nil {
		return nil, err
	}
	text, refusals := ingress.Caddyfile(loaded.bundle.LabelSets())
	for _, r := range refusals {
		return nil, fmt.Errorf("the ingress refuses the labels of %s: %w", r.Service, r.Err)
	}
	return text, nil
}
