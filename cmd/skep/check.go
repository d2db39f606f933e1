package main

import (
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"skep/generator/check"
	"skep/generator/problem"
)

func (p *program) check() *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "Find everything that is wrong with the project",
		Description: "Reads the project, runs every check on it, and has Docker's own loader and the ingress's own\n" +
			"Caddy look at the result. Prints all problems at once; errors exit with 3.\n\n" +
			"Examples:\n   skep check\n   skep check -C homelab --strict\n   skep check --format sarif > skep.sarif",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.StringFlag{Name: "format", Value: "text", Usage: "text, json or sarif (2.1.0)"},
			&cli.BoolFlag{Name: "strict", Usage: "exit with 3 on warnings, too"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			format := c.String("format")
			if c.Bool("json") {
				format = "json"
			}
			switch format {
			case "text", "json", "sarif":
			default:
				return usage("there is no format %q", format).because("text, json and sarif are there")
			}
			loaded, err := load(c, toRead)
			if err != nil {
				return err
			}
			if err := p.printProblems(loaded, format); err != nil {
				return err
			}
			if loaded.problems.Failed() || c.Bool("strict") && len(loaded.problems) > 0 {
				return &failure{code: exitProblems}
			}
			return nil
		},
	}
}

// problemReport is what --json says about a project.
type problemReport struct {
	Stacks   int          `json:"stacks"`
	Errors   int          `json:"errors"`
	Warnings int          `json:"warnings"`
	Problems problem.List `json:"problems"`
}

func reportOf(loaded *project) problemReport {
	return problemReport{
		Stacks: loaded.stacks(), Errors: loaded.problems.Count(problem.Error), Warnings: loaded.problems.Count(problem.Warning),
		Problems: loaded.named(),
	}
}

func (p *program) printProblems(loaded *project, format string) error {
	switch format {
	case "json":
		return p.writeJSON(reportOf(loaded))
	case "sarif":
		out, err := loaded.problems.SARIF(check.Rules(), versionString(), func(file string) string {
			return filepath.ToSlash(loaded.path(file))
		})
		if err != nil {
			return fmt.Errorf("write SARIF: %w", err)
		}
		_, err = p.stdout.Write(out)
		return err
	}
	if err := loaded.text(p.stdout).Write(p.stdout, loaded.problems); err != nil {
		return err
	}
	paint := problem.Paint{On: colored(p.stdout)}
	summary := loaded.problems.Summary(loaded.stacks())
	switch {
	case loaded.problems.Failed():
		summary = paint.Red(summary)
	case len(loaded.problems) > 0:
		summary = paint.Yellow(summary)
	default:
		summary = paint.Green(summary)
	}
	_, err := fmt.Fprintln(p.stdout, summary)
	return err
}

// noArguments refuses arguments, which a command without any would ignore.
func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return usage("%s takes no argument, and got %q", commandName(c), c.Args().First()).
			because("`skep %s --help` lists its flags", commandName(c))
	}
	return nil
}
