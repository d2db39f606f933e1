package main

import (
	"github.com/urfave/cli/v2"

	"skep/generator/spec"
)

func (p *program) schema() *cli.Command {
	schema := func(name, file string, make func() ([]byte, error)) *cli.Command {
		return &cli.Command{
			Name:  name,
			Usage: "Print the JSON Schema of " + file,
			Description: "Prints the JSON Schema that editors use to complete and check " + file + ".\n\n" +
				"Example:\n   skep schema " + name + " > " + name + ".schema.json\n" +
				"   # and as the first line of the file:\n   # yaml-language-server: $schema=../" + name + ".schema.json",
			Flags: []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "accepted for symmetry; a schema is JSON"}},
			Action: func(c *cli.Context) error {
				if err := noArguments(c); err != nil {
					return err
				}
				out, err := make()
				if err != nil {
					return err
				}
				_, err = p.stdout.Write(append(out, '\n'))
				return err
			},
		}
	}
	return &cli.Command{
		Name:        "schema",
		Usage:       "Print the JSON Schema of a stack file or of cluster.yaml",
		Description: "Editors with YAML support complete and check files by a schema.\n\nExample:\n   skep schema stack > stack.schema.json",
		Subcommands: []*cli.Command{
			schema("stack", "a stack file", spec.StackSchema),
			schema("cluster", spec.ClusterFile, spec.ClusterSchema),
		},
	}
}
