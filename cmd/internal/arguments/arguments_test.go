package arguments_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"skep/cmd/internal/arguments"
)

func TestArrange(t *testing.T) {
	app := &cli.App{
		Flags: []cli.Flag{&cli.StringFlag{Name: "C"}, &cli.StringSliceFlag{Name: "profile"}},
		Commands: []*cli.Command{
			{Name: "check", Flags: []cli.Flag{&cli.BoolFlag{Name: "strict"}}},
			{Name: "generate", Flags: []cli.Flag{&cli.StringFlag{Name: "o"}}},
			{Name: "explain", Flags: []cli.Flag{&cli.BoolFlag{Name: "json"}}},
			{Name: "lock", Flags: []cli.Flag{&cli.DurationFlag{Name: "timeout"}}},
			{Name: "new", Subcommands: []*cli.Command{{Name: "stack", Flags: []cli.Flag{&cli.IntFlag{Name: "port"}}}}},
			{Name: "token", Subcommands: []*cli.Command{{Name: "create", Flags: []cli.Flag{
				&cli.StringSliceFlag{Name: "scope"}, &cli.DurationFlag{Name: "expires", Aliases: []string{"e"}},
			}}}},
		},
	}
	for in, want := range map[string]string{
		"skep":                                                   "skep",
		"skep check -C x --strict":                               "skep -C x check --strict",
		"skep check -C=x":                                        "skep -C=x check",
		"skep new stack a --port 1 b":                            "skep new stack --port 1 a b",
		"skep --json explain":                                    "skep --json explain", // no global flag: the error names it
		"skep explain x --json":                                  "skep explain --json x",
		"skep explain check":                                     "skep explain check",
		"skep explain -- -x --json":                              "skep explain -- -x --json",
		"skep lock --timeout":                                    "skep lock --timeout",
		"skep generate --nope -o b":                              "skep generate --nope -o b",
		"skep --profile a --profile b check":                     "skep --profile a --profile b check",
		"skep check --generate-bash-completion":                  "skep check --generate-bash-completion",
		"skep token create ci --scope read --scope deploy -e 1h": "skep token create --scope read --scope deploy -e 1h ci",
		"skep token create --scope read ci --scope deploy":       "skep token create --scope read --scope deploy ci",
	} {
		if got := arguments.Arrange(app, strings.Fields(in)); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}
