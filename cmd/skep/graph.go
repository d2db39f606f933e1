package main

import (
	"io"

	"github.com/urfave/cli/v2"

	"skep/generator/graph"
)

func (p *program) graph() *cli.Command {
	return &cli.Command{
		Name:  "graph",
		Usage: "Draw stacks, routes and shared networks",
		Description: "Draws which zone leads to which service and which services meet on a shared network. Networks of one\n" +
			"stack and docker proxies are left out, they connect nothing across stacks.\n\n" +
			"Examples:\n   skep graph                          # Mermaid, for Markdown\n   skep graph --format svg > graph.svg\n   skep graph --format dot | dot -Tpng > graph.png",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.StringFlag{Name: "format", Value: "mermaid", Usage: "mermaid, dot or svg"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			render := map[string]func(graph.Graph) string{"mermaid": graph.Graph.Mermaid, "dot": graph.Graph.DOT, "svg": graph.Graph.SVG}[c.String("format")]
			if render == nil {
				return usage("there is no format %q", c.String("format")).because("mermaid, dot and svg are there")
			}
			loaded, err := p.compile(c, toRead)
			if err != nil {
				return err
			}
			g := graph.Of(loaded.cluster, loaded.bundle.Networks)
			if c.Bool("json") {
				return p.writeJSON(g)
			}
			_, err = io.WriteString(p.stdout, render(g))
			return err
		},
	}
}
