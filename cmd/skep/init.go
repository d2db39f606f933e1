package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"

	"skep/generator/scaffold"
	"skep/generator/stack"
)

func (p *program) init() *cli.Command {
	return &cli.Command{
		Name:      "init",
		Usage:     "Start a project that can be deployed as it is",
		ArgsUsage: "[FOLDER]",
		Description: "Writes stacks/cluster.yaml, an ingress and a first stack behind it, .gitignore and the schemas that\n" +
			"editors check by. At a terminal it asks for a name and a domain first. It never overwrites a file.\n\n" +
			"Examples:\n   skep init --yes\n   skep init homelab --name homelab --domain home.example.com",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "ask nothing"},
			&cli.StringFlag{Name: "name", Usage: "`NAME` of the cluster (default: the folder's)"},
			&cli.StringFlag{Name: "domain", Usage: "`DOMAIN` that services get their names in (default: localhost)"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usage("init takes one folder, and got %d", c.NArg())
			}
			dir := c.Args().First()
			if dir == "" {
				dir = "."
			}
			if info, err := os.Stat(dir); err == nil && !info.IsDir() {
				return usage("%s is a file", dir).because("init makes a project in a folder: name another, or one that is not there yet")
			}
			project, err := p.describe(c, dir)
			if err != nil {
				return err
			}
			files, err := project.Files()
			if err != nil {
				return err
			}
			if err := scaffold.Write(dir, files); err != nil {
				return existing(err)
			}
			if err := p.printWritten(c, dir, files); err != nil || c.Bool("json") {
				return err
			}
			here := ""
			if dir != "." {
				here = "cd " + dir + " && "
			}
			_, err = fmt.Fprintf(p.stdout, "\nNext: %sskep deploy && curl http://whoami.%s\n", here, project.Domain)
			return err
		},
	}
}

// describe takes the project's name and domain from the flags, or asks.
func (p *program) describe(c *cli.Context, dir string) (scaffold.Project, error) {
	name, domain := c.String("name"), c.String("domain")
	if !c.Bool("yes") && isTerminal(p.stdin) && isTerminal(p.stdout) {
		in := bufio.NewReader(p.stdin)
		for _, q := range []struct {
			answer          *string
			text, otherwise string
		}{{&name, "Name of the cluster", folderName(dir)}, {&domain, "Domain of its services", "localhost"}} {
			if *q.answer != "" {
				continue
			}
			var err error
			if *q.answer, err = p.ask(c.Context, in, q.text, q.otherwise); err != nil {
				return scaffold.Project{}, err
			}
		}
	}
	if name == "" {
		name = folderName(dir)
	}
	if domain == "" {
		domain = "localhost"
	}
	parsed, err := stack.ParseName(name)
	if err != nil {
		return scaffold.Project{}, usage("%s", err)
	}
	host, err := stack.ParseHost(domain)
	if err != nil {
		return scaffold.Project{}, usage("%s", err)
	}
	return scaffold.Project{Name: parsed, Domain: host}, nil
}

// ask puts a question to the person at the terminal. A read of a terminal cannot
// be called off: after an interrupt it ends with the program.
func (p *program) ask(ctx context.Context, in *bufio.Reader, question, otherwise string) (string, error) {
	fmt.Fprintf(p.stdout, "%s [%s]: ", question, otherwise)
	answered := make(chan string, 1)
	go func() {
		line, _ := in.ReadString('\n') // at the end of input the default stands
		answered <- line
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(p.stdout)
		return "", context.Cause(ctx)
	case line := <-answered:
		return cmp.Or(strings.TrimSpace(line), otherwise), nil
	}
}

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// folderName makes a name of the folder's.
func folderName(dir string) string {
	full, err := filepath.Abs(dir)
	if err != nil {
		return "cluster"
	}
	name := strings.Trim(notInName.ReplaceAllString(strings.ToLower(filepath.Base(full)), "-"), "-")
	if _, err := stack.ParseName(name); err != nil {
		return "cluster"
	}
	return name
}

func existing(err error) error {
	if errors.Is(err, scaffold.ErrExists) {
		return failed(err).because("nothing was written; move them away or choose another folder or name")
	}
	return err
}

func (p *program) printWritten(c *cli.Context, dir string, files []scaffold.File) error {
	written := make([]string, len(files))
	for i, f := range files {
		written[i] = filepath.ToSlash(filepath.Join(dir, f.Path))
	}
	if c.Bool("json") {
		return p.writeJSON(map[string][]string{"written": written})
	}
	for _, path := range written {
		if _, err := fmt.Fprintln(p.stdout, "wrote", path); err != nil {
			return err
		}
	}
	return nil
}
