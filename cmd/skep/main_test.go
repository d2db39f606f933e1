package main

import (
	"bytes"
	"io"
	"log"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

var quiet = log.New(io.Discard, "", 0)

func TestEveryCommandHasHelpAndJSON(t *testing.T) {
	var walk func(path string, c *cli.Command)
	walk = func(path string, c *cli.Command) {
		path += " " + c.Name
		t.Run(strings.TrimSpace(path), func(t *testing.T) {
			if c.Usage == "" || strings.HasSuffix(c.Usage, ".") {
				t.Errorf("usage is %q", c.Usage)
			}
			if !strings.Contains(c.Description, "Example") || !strings.Contains(c.Description, "skep"+path) {
				t.Errorf("no example of skep%s in %q", path, c.Description)
			}
			if len(c.Subcommands) == 0 && !slices.ContainsFunc(c.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), "json") }) {
				t.Error("no --json")
			}
			var out, errs bytes.Buffer
			args := append(append([]string{"skep"}, strings.Fields(path)...), "--help")
			if code := run(t.Context(), args, strings.NewReader(""), &out, &errs); code != exitDone || !strings.Contains(out.String(), "Example") {
				t.Errorf("exit code %d, %s%s", code, out.String(), errs.String())
			}
		})
		for _, sub := range c.Subcommands {
			walk(path, sub)
		}
	}
	for _, c := range (&program{}).app().Commands {
		walk("", c)
	}
}
