package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"skep/generator/bundle"
	"skep/generator/diff"
	"skep/generator/problem"
)

func (p *program) diff() *cli.Command {
	return &cli.Command{
		Name:  "diff",
		Usage: "Show what generate would change, key by key",
		Description: "Compares the bundle on disk with what the stack files give now: per stack and service the keys that\n" +
			"change with their old and new values, then networks, secrets, DNS records and other files.\n\n" +
			"Examples:\n   skep diff\n   skep diff -o deploy/bundle --exit-code\n   skep diff --json",
		Flags: []cli.Flag{
			outFlag(), jsonFlag(),
			&cli.BoolFlag{Name: "exit-code", Usage: "exit with 1 when there is a difference"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			loaded, err := p.compile(c, toRead)
			if err != nil {
				return err
			}
			if err := loaded.bundle.Encode(); err != nil {
				return err
			}
			changes, err := compareFolder(loaded.bundle, c.String("o"))
			if err != nil {
				return err
			}
			if err := p.printDiff(c, changes); err != nil {
				return err
			}
			if c.Bool("exit-code") && len(changes) > 0 {
				return &failure{code: exitFailed}
			}
			return nil
		},
	}
}

// compareFolder compares the bundle with the one in a folder.
func compareFolder(b *bundle.Bundle, dir string) ([]diff.Change, error) {
	files, err := b.Compare(dir)
	if err != nil {
		return nil, err
	}
	content := map[string][]byte{}
	for _, f := range b.Files {
		content[f.Path] = f.Content
	}
	changes := []diff.Change{}
	for _, f := range files {
		if f.Path == bundle.Manifest {
			continue
		}
		old, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(f.Path)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		changes = append(changes, diff.Files(f.Path, isStackFile(f.Path), old, content[f.Path])...)
	}
	return changes, nil
}

// isStackFile reports whether a file of the bundle is the Compose file of a
// stack: they alone lie at its top.
func isStackFile(path string) bool {
	ok, _ := filepath.Match("*.yaml", path)
	return ok
}

func (p *program) printDiff(c *cli.Context, changes []diff.Change) error {
	if c.Bool("json") {
		return p.writeJSON(changes)
	}
	if len(changes) == 0 {
		_, err := fmt.Fprintf(p.stdout, "%s: no difference\n", c.String("o"))
		return err
	}
	return diff.WriteText(p.stdout, problem.Paint{On: colored(p.stdout)}, changes)
}
