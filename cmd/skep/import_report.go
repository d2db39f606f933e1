package main

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"skep/generator/importer"
	"skep/generator/problem"
	"skep/generator/spec"
)

// importReport is what --json says.
type importReport struct {
	Project string           `json:"project"`
	Written []string         `json:"written"`
	Stacks  []importedReport `json:"stacks"`
	Hint    string           `json:"hint,omitempty"`
}

type importedReport struct {
	importer.Result
	File    string `json:"file"`
	Path    string `json:"path"`
	Content string `json:"content,omitempty"` // with --stdout
}

func (p *program) printImport(c *cli.Context, run *imported) error {
	if c.Bool("json") {
		out := run.report()
		out.Written = []string{}
		for i, r := range run.results {
			out.Stacks[i].Content = string(r.Stack)
		}
		return p.writeJSON(out)
	}
	var shown int
	for _, f := range run.files {
		if f.shared() || path.Base(f.path) == ".env" {
			continue
		}
		if base := path.Base(f.path); base != "stack.yaml" && base != spec.ClusterFile {
			continue // a copy of a file that is there
		}
		if shown++; shown > 1 {
			fmt.Fprintln(p.stdout)
		}
		if _, err := fmt.Fprintf(p.stdout, "# %s\n%s", filepath.ToSlash(run.path(f)), f.content); err != nil {
			return err
		}
	}
	return p.printFindings(p.stderr, run)
}

func (p *program) reportImport(c *cli.Context, run *imported) error {
	if c.Bool("json") {
		return p.writeJSON(run.report())
	}
	if err := p.printFindings(p.stdout, run); err != nil {
		return err
	}
	for _, f := range run.files {
		if _, err := fmt.Fprintln(p.stdout, "wrote", filepath.ToSlash(run.path(f))); err != nil {
			return err
		}
	}
	if len(run.files) == 0 {
		fmt.Fprintln(p.stdout, "nothing new to write")
	}
	where := ""
	if found, err := spec.FindProject(""); err != nil || found != run.dir {
		where = " -C " + filepath.ToSlash(run.dir)
	}
	next := "skep check" + where
	if slices.ContainsFunc(run.results, func(r importer.Result) bool { return bytes.Contains(r.Stack, []byte("op://")) }) {
		// A secret in a variable needs the entrypoint of the image.
		next = "skep lock" + where + " && " + next
	}
	_, err := fmt.Fprintf(p.stdout, "\nNext: %s\n", next)
	return err
}

func (run *imported) report() importReport {
	out := importReport{Project: filepath.ToSlash(run.dir), Written: []string{}, Stacks: []importedReport{}, Hint: run.hint}
	for i, r := range run.results {
		out.Stacks = append(out.Stacks, importedReport{Result: r, File: run.inputs[i].File, Path: path.Join(run.folder(r), "stack.yaml")})
	}
	for _, f := range run.files {
		out.Written = append(out.Written, filepath.ToSlash(run.path(f)))
	}
	return out
}

// printFindings says what each file became, and what a person has to look at.
func (p *program) printFindings(w io.Writer, run *imported) error {
	paint := problem.Paint{On: colored(w)}
	out := bufio.NewWriter(w)
	for i, r := range run.results {
		fmt.Fprintf(out, "%s: stack %s, tier %s\n", paint.Bold(run.inputs[i].File), r.Name, r.Tier)
		for _, line := range lifted(r) {
			fmt.Fprintf(out, "  %s\n", problem.Printable(line))
		}
		for _, k := range r.Kept {
			what := k.What
			if k.Service != "" {
				what = k.Service + ": " + what
			}
			fmt.Fprintf(out, "%s: %s: %s\n", paint.Bold(k.Position.String()), problem.Printable(what), problem.Printable(k.Why))
			if k.Remedy != "" {
				fmt.Fprintf(out, "    %s\n", paint.Dim(problem.Printable(k.Remedy)))
			}
		}
		fmt.Fprintln(out)
	}
	if run.hint != "" {
		fmt.Fprintf(out, "%s\n\n", run.hint)
	}
	return out.Flush()
}

// lifted says in a line for each service which keys it got.
func lifted(r importer.Result) []string {
	keys := map[string][]string{}
	for _, l := range r.Lifted {
		name := cmp.Or(l.Service, "the file")
		if !slices.Contains(keys[name], l.To) {
			keys[name] = append(keys[name], l.To)
		}
	}
	width := 0
	for name := range keys {
		width = max(width, len(name))
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		slices.Sort(keys[name])
		out = append(out, fmt.Sprintf("%-*s  %s", width, name, strings.Join(keys[name], ", ")))
	}
	return out
}
