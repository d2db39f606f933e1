package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"skep/generator/bundle"
	"skep/generator/problem"
)

func outFlag() cli.Flag {
	return &cli.StringFlag{Name: "o", Value: "build", Usage: "`FOLDER` of the bundle"}
}

func (p *program) generate() *cli.Command {
	return &cli.Command{
		Name:  "generate",
		Usage: "Write the bundle",
		Description: "Checks the project and writes the bundle: a Compose file a stack, DNS records, secret references and\n" +
			"the rest. Files are replaced at once and stale ones removed. With an error nothing is written.\n\n" +
			"Examples:\n   skep generate\n   skep generate -o deploy/bundle\n   skep generate --check   # in CI: is the bundle in the repository up to date?",
		Flags: []cli.Flag{
			outFlag(), jsonFlag(),
			&cli.BoolFlag{Name: "check", Usage: "write nothing; exit with 1 when the folder is not what would be written"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			loaded, err := p.compile(c, toRead)
			if err != nil {
				return err
			}
			if !c.Bool("json") { // which has them in its answer
				if err := loaded.text(p.stderr).Write(p.stderr, loaded.problems); err != nil {
					return err
				}
			}
			if err := loaded.bundle.Encode(); err != nil {
				return err
			}
			dir := c.String("o")
			var changes []bundle.Change
			if c.Bool("check") {
				changes, err = loaded.bundle.Compare(dir)
			} else {
				changes, err = loaded.bundle.Write(dir)
			}
			if errors.Is(err, bundle.ErrForeignFolder) {
				return failed(err).because("choose another folder with -o, or empty this one")
			}
			if err != nil {
				return err
			}
			return p.printChanges(c, loaded, dir, changes)
		},
	}
}

// generateReport is what --json says.
type generateReport struct {
	Folder    string       `json:"folder"`
	Changes   []fileChange `json:"changes"`
	Unchanged int          `json:"unchanged"`
	Problems  problem.List `json:"problems"`
}

type fileChange struct {
	Path string            `json:"path"`
	Kind bundle.ChangeKind `json:"kind"`
}

func (p *program) printChanges(c *cli.Context, loaded *project, dir string, changes []bundle.Change) error {
	stale := len(changes) > 0
	// The manifest follows from the rest.
	changes = slices.DeleteFunc(changes, func(c bundle.Change) bool { return c.Path == bundle.Manifest })
	out := generateReport{Folder: dir, Changes: []fileChange{}, Unchanged: len(loaded.bundle.Files), Problems: loaded.named()}
	counts := map[bundle.ChangeKind]int{}
	for _, change := range changes {
		out.Changes = append(out.Changes, fileChange{change.Path, change.Kind})
		counts[change.Kind]++
	}
	out.Unchanged -= counts[bundle.Added] + counts[bundle.Changed]
	var err error
	if c.Bool("json") {
		err = p.writeJSON(out)
	} else {
		err = p.printFiles(out, counts)
	}
	if err != nil {
		return err
	}
	if c.Bool("check") && stale {
		return failed(fmt.Errorf("%s is not what the stack files give", dir)).because("run `skep generate` and commit the result")
	}
	return nil
}

func (p *program) printFiles(out generateReport, counts map[bundle.ChangeKind]int) error {
	paint := problem.Paint{On: colored(p.stdout)}
	for _, change := range out.Changes {
		mark := map[bundle.ChangeKind]string{
			bundle.Added: paint.Green("added  "), bundle.Changed: paint.Yellow("changed"), bundle.Removed: paint.Red("removed"),
		}[change.Kind]
		if _, err := fmt.Fprintf(p.stdout, "%s  %s/%s\n", mark, out.Folder, change.Path); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(p.stdout, "%s: %d added, %d changed, %d removed, %d unchanged\n",
		out.Folder, counts[bundle.Added], counts[bundle.Changed], counts[bundle.Removed], out.Unchanged)
	return err
}
