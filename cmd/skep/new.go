package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"skep/generator/check"
	"skep/generator/scaffold"
	"skep/generator/spec"
	"skep/generator/stack"
)

func (p *program) new() *cli.Command {
	return &cli.Command{
		Name:        "new",
		Usage:       "Write a file to start from",
		Description: "Example:\n   skep new stack blog --image ghost:5.130.0 --port 2368",
		Subcommands: []*cli.Command{{
			Name:      "stack",
			Usage:     "Write a stack file",
			ArgsUsage: "NAME",
			Description: "Writes TIER/NAME/stack.yaml with the keys that most stacks need, some as comments.\n\n" +
				"Examples:\n   skep new stack blog\n   skep new stack blog --tier application --image ghost:5.130.0 --host blog --port 2368",
			Flags: []cli.Flag{
				jsonFlag(),
				&cli.StringFlag{Name: "tier", Usage: "`TIER` of the stack (default: the last)"},
				&cli.StringFlag{Name: "image", Usage: "`IMAGE` of its service (default: an example)"},
				&cli.StringFlag{Name: "host", Usage: "`HOST` that people reach it at (default: NAME, with --port)"},
				&cli.UintFlag{Name: "port", Usage: "`PORT` that the service listens on"},
			},
			Action: p.newStack,
		}},
	}
}

func (p *program) newStack(c *cli.Context) error {
	if c.NArg() != 1 {
		return usage("new stack takes one name, and got %d", c.NArg()).because("skep new stack NAME")
	}
	name, err := stack.ParseName(c.Args().First())
	if err != nil {
		return usage("%s", err)
	}
	if c.Uint("port") > 65535 {
		return usage("there is no port %d", c.Uint("port"))
	}
	dir, err := find(c)
	if err != nil {
		return err
	}
	cluster, problems := spec.Load(c.Context, dir, spec.Options{KnownRules: check.Waivable()})
	if cluster == nil {
		return p.refuse(c, &project{dir: dir, problems: problems})
	}
	tier := cluster.Tiers[len(cluster.Tiers)-1]
	if t := stack.Tier(c.String("tier")); t != "" {
		if !slices.Contains(cluster.Tiers, t) {
			return usage("there is no tier %q", t).because("cluster.yaml declares %s", joinTiers(cluster.Tiers))
		}
		tier = t
	}
	if s, ok := cluster.Stack(name); ok {
		return failed(fmt.Errorf("stack %s is %w: %s", name, scaffold.ErrExists, s.File)).because("choose another name")
	}
	file, err := scaffold.Stack{Name: name, Tier: tier, Image: c.String("image"), Host: c.String("host"), Port: uint16(c.Uint("port"))}.File()
	if err != nil {
		return err
	}
	files := []scaffold.File{file}
	schemas, err := scaffold.Schemas()
	if err != nil {
		return err
	}
	for _, s := range schemas {
		if _, err := os.Lstat(filepath.Join(dir, s.Path)); err != nil {
			files = append(files, s)
		}
	}
	if err := scaffold.Write(dir, files); err != nil {
		return existing(err)
	}
	return p.printWritten(c, dir, files)
}

func joinTiers(tiers []stack.Tier) string {
	out := make([]string, len(tiers))
	for i, t := range tiers {
		out[i] = string(t)
	}
	return strings.Join(out, ", ")
}
