package main

import (
	"bytes"
	"io"
	"log"
	"reflect"
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
			if len(c.Subcommands) == 0 && findFlag(c.Flags, "json") == nil {
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

func TestArrange(t *testing.T) {
	app := (&program{}).app()
	for in, want := range map[string]string{
		"skep":                                  "skep",
		"skep check -C x --strict":              "skep -C x check --strict",
		"skep check -C=x":                       "skep -C=x check",
		"skep new stack a --port 1 b":           "skep new stack --port 1 a b",
		"skep --json explain":                   "skep --json explain", // no global flag: the error names it
		"skep explain x --json":                 "skep explain --json x",
		"skep explain check":                    "skep explain check",
		"skep explain -- -x --json":             "skep explain -- -x --json",
		"skep lock --timeout":                   "skep lock --timeout",
		"skep generate --nope -o b":             "skep generate --nope -o b",
		"skep --profile a --profile b check":    "skep --profile a --profile b check",
		"skep check --generate-bash-completion": "skep check --generate-bash-completion",
	} {
		if got := arrange(app, strings.Fields(in)); !reflect.DeepEqual(got, strings.Fields(want)) {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}
