package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"skep/generator/bundle"
	"skep/generator/check"
	"skep/generator/importer"
	"skep/generator/preview"
	"skep/generator/problem"
	"skep/generator/stack"
	"skep/generator/trace"
)

func (p *program) explain() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "Say what a rule means, or where a line of the bundle comes from",
		ArgsUsage: "[RULE | FILE:LINE | FILE | STACK[/SERVICE]]",
		Description: "Without an argument it lists the rules. A rule prints its page: why it matters, how to fix it. A line\n" +
			"of a Compose file in the bundle prints the line of the stack file or cluster file that it comes from\n" +
			"and the key or default that made it; a file, a stack or a service prints that for each of its lines.\n\n" +
			"Examples:\n   skep explain\n   skep explain unpinned-image\n   skep explain build/whoami.yaml:6\n   skep explain whoami/whoami",
		Flags: []cli.Flag{outFlag(), jsonFlag()},
		BashComplete: func(c *cli.Context) {
			for _, r := range rules() {
				fmt.Fprintln(c.App.Writer, r.ID)
			}
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usage("explain takes one argument, and got %d", c.NArg())
			}
			arg := c.Args().First()
			if arg == "" {
				return p.listRules(c)
			}
			if rule, ok := ruleOf(arg); ok {
				return p.explainRule(c, rule)
			}
			return p.explainOutput(c, arg)
		},
	}
}

// rules are all that a person may be told of, by id.
func rules() []problem.Rule {
	return slices.SortedFunc(slices.Values(slices.Concat(check.Rules(), preview.Rules(), importer.Rules())), func(a, b problem.Rule) int { return strings.Compare(a.ID, b.ID) })
}

func ruleOf(id string) (problem.Rule, bool) {
	all := rules()
	i := slices.IndexFunc(all, func(r problem.Rule) bool { return r.ID == id })
	if i < 0 {
		return problem.Rule{}, false
	}
	return all[i], true
}

type ruleReport struct {
	ID       string           `json:"id"`
	Severity problem.Severity `json:"severity"`
	Title    string           `json:"title"`
	Waivable bool             `json:"waivable"`
	Doc      string           `json:"doc,omitempty"`
}

func ruleReportOf(r problem.Rule) ruleReport {
	return ruleReport{r.ID, r.Severity, r.Title, slices.Contains(check.Waivable(), r.ID), r.Doc}
}

func (p *program) listRules(c *cli.Context) error {
	rules := rules()
	if c.Bool("json") {
		out := make([]ruleReport, len(rules))
		for i, r := range rules {
			out[i] = ruleReportOf(r)
		}
		return p.writeJSON(out)
	}
	width := 0
	for _, r := range rules {
		width = max(width, len(r.ID))
	}
	paint := problem.Paint{On: colored(p.stdout)}
	for _, r := range rules {
		severity := paint.Red("error  ")
		if r.Severity == problem.Warning {
			severity = paint.Yellow("warning")
		}
		if _, err := fmt.Fprintf(p.stdout, "%-*s  %s  %s\n", width, r.ID, severity, r.Title); err != nil {
			return err
		}
	}
	return nil
}

func (p *program) explainRule(c *cli.Context, r problem.Rule) error {
	if c.Bool("json") {
		return p.writeJSON(ruleReportOf(r))
	}
	paint := problem.Paint{On: colored(p.stdout)}
	_, err := fmt.Fprintf(p.stdout, "%s (%s)\n%s\n\n%s\n", paint.Bold(r.ID), r.Severity, r.Title, strings.TrimSpace(r.Doc))
	return err
}

// lineReport is where one line comes from.
type lineReport struct {
	File   string        `json:"file"`
	Line   int           `json:"line"`
	Text   string        `json:"text"`
	Key    string        `json:"key,omitempty"`
	Origin *originReport `json:"origin,omitempty"`
}

type originReport struct {
	problem.Position
	By     string `json:"by"`
	Source string `json:"source,omitempty"`
}

// explainOutput explains lines of an emitted file.
func (p *program) explainOutput(c *cli.Context, arg string) error {
	loaded, err := load(c, toRead)
	if err != nil {
		return err
	}
	b := loaded.bundle
	if b == nil {
		if err := loaded.text(p.stderr).Write(p.stderr, loaded.problems); err != nil {
			return err
		}
		return (&failure{code: exitProblems, err: fmt.Errorf("%q is not a rule, and no line can be explained: the stack files give no bundle", arg)}).
			because("correct the errors first; `skep explain` lists the rules")
	}
	dir := c.String("o")
	target, err := parseTarget(b, dir, arg)
	if err != nil {
		return err
	}
	content, err := target.stack.Compose().Encode(target.stack.Source)
	if err != nil {
		return err
	}
	lines, err := trace.Lines(content, target.stack.Origins())
	if err != nil {
		return err
	}
	if target.onDisk != "" {
		if there, err := os.ReadFile(target.onDisk); err != nil || !bytes.Equal(there, content) {
			fmt.Fprintf(p.stderr, "%s is not what the stack files give now; the lines below are from memory. Run `skep generate`.\n", target.onDisk)
		}
	}
	var reports []lineReport
	sources := loaded.sourceLines()
	for _, l := range lines {
		if target.line != 0 && l.Number != target.line || target.service != "" && !l.Of(target.service) {
			continue
		}
		r := lineReport{File: filepath.ToSlash(filepath.Join(dir, string(target.stack.Name)+".yaml")), Line: l.Number, Text: l.Text, Key: l.Key()}
		if l.Known && l.Origin.Pos.File != "" {
			pos := l.Origin.Pos
			r.Origin = &originReport{Position: pos, By: l.Origin.By, Source: sources(pos)}
			r.Origin.File = loaded.path(pos.File)
		}
		reports = append(reports, r)
	}
	if len(reports) == 0 {
		return usage("%s has no line %d", target.stack.Name+".yaml", target.line).because("it has %d lines", len(lines))
	}
	switch {
	case c.Bool("json") && target.line != 0:
		return p.writeJSON(reports[0])
	case c.Bool("json"):
		return p.writeJSON(reports)
	case target.line != 0:
		return p.printLine(reports[0])
	}
	return p.printLines(reports)
}

func (p *program) printLine(r lineReport) error {
	paint := problem.Paint{On: colored(p.stdout)}
	if _, err := fmt.Fprintf(p.stdout, "%s: %s\n", paint.Bold(fmt.Sprintf("%s:%d", r.File, r.Line)), strings.TrimSpace(r.Text)); err != nil {
		return err
	}
	if r.Origin == nil {
		_, err := fmt.Fprintln(p.stdout, "    written by skep itself")
		return err
	}
	_, err := fmt.Fprintf(p.stdout, "    from %s (%s)\n", paint.Cyan(r.Origin.String()), r.Origin.By)
	if err == nil && r.Origin.Source != "" {
		_, err = fmt.Fprintf(p.stdout, "    %s\n", problem.Printable(strings.TrimSpace(r.Origin.Source)))
	}
	return err
}

func (p *program) printLines(reports []lineReport) error {
	paint := problem.Paint{On: colored(p.stdout)}
	width := 0
	for _, r := range reports {
		if n := len([]rune(r.Text)); n <= 72 {
			width = max(width, n)
		}
	}
	for _, r := range reports {
		from := ""
		if r.Origin != nil {
			from = "# " + r.Origin.String() + " (" + r.Origin.By + ")"
		}
		if _, err := fmt.Fprintln(p.stdout, strings.TrimRight(fmt.Sprintf("%4d  %-*s  %s", r.Line, width, r.Text, paint.Dim(from)), " ")); err != nil {
			return err
		}
	}
	return nil
}

// sourceLines reads lines of the project's files, each file once.
func (p *project) sourceLines() func(problem.Position) string {
	files := map[string][]string{}
	return func(pos problem.Position) string {
		lines, ok := files[pos.File]
		if !ok {
			content, err := p.source(pos.File)
			if err == nil {
				lines = strings.Split(string(content), "\n")
			}
			files[pos.File] = lines
		}
		if pos.Line < 1 || pos.Line > len(lines) {
			return ""
		}
		return strings.TrimRight(lines[pos.Line-1], "\r")
	}
}

// target is what is to be explained.
type target struct {
	stack   *bundle.Stack
	service stack.ServiceName // empty: all
	line    int               // 0: all
	onDisk  string            // the file that the argument names
}

func parseTarget(b *bundle.Bundle, dir, arg string) (target, error) {
	file, after, numbered := cutLast(arg, ":")
	line := 0
	if numbered {
		n, err := strconv.Atoi(after)
		if err != nil || n < 1 {
			return target{}, usage("%q is not of the form FILE:LINE", arg)
		}
		line = n
	}
	if base := filepath.Base(file); strings.HasSuffix(base, ".yaml") {
		name := strings.TrimSuffix(base, ".yaml")
		if s := findStack(b, name); s != nil {
			onDisk := file
			if _, err := os.Stat(onDisk); err != nil && base == file {
				onDisk = filepath.Join(dir, base)
			}
			return target{stack: s, line: line, onDisk: onDisk}, nil
		}
		return target{}, usage("%s is not the Compose file of a stack", file).because("lines of %s are explained", strings.Join(stackFiles(b), ", "))
	}
	name, service, _ := strings.Cut(file, "/")
	if s := findStack(b, name); s != nil && !numbered {
		if service == "" || slices.Contains(s.Compose().Services(), stack.ServiceName(service)) {
			return target{stack: s, service: stack.ServiceName(service)}, nil
		}
	}
	return target{}, usage("there is no rule, file or stack %q", arg).because("`skep explain` lists the rules; stacks are %s", strings.Join(stackFiles(b), ", "))
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func findStack(b *bundle.Bundle, name string) *bundle.Stack {
	for _, s := range b.Stacks {
		if string(s.Name) == name {
			return s
		}
	}
	return nil
}

func stackFiles(b *bundle.Bundle) []string {
	var out []string
	for _, s := range b.Stacks {
		out = append(out, string(s.Name)+".yaml")
	}
	return out
}
