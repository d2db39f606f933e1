// Package arguments is how the commands that have commands of their own, skep and
// skep-server, read their command line. The others have a few flags and no more,
// which the flag package reads.
package arguments

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// Arrange puts flags where the flag package looks for them: before the
// arguments of their command, and global ones before the command. People write
// `skep new stack blog --port 80` and `skep check -C homelab`.
func Arrange(app *cli.App, args []string) []string {
	if len(args) == 0 || args[len(args)-1] == "--generate-bash-completion" {
		return args
	}
	type level struct {
		name  string
		flags []cli.Flag
		given []string
	}
	levels := []level{{name: args[0], flags: app.Flags}}
	commands := app.Commands
	var positional []string
	literal := false
	rest := args[1:]
	for len(rest) > 0 {
		arg := rest[0]
		rest = rest[1:]
		switch {
		case literal || arg == "-" || !strings.HasPrefix(arg, "-"):
			next := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(arg) })
			if !literal && len(positional) == 0 && next >= 0 {
				levels = append(levels, level{name: arg, flags: commands[next].Flags})
				commands = commands[next].Subcommands
				continue
			}
			positional = append(positional, arg)
		case arg == "--":
			literal = true
		default:
			name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
			at, takesValue := len(levels)-1, false
			for i := len(levels) - 1; i >= 0; i-- {
				if f := findFlag(levels[i].flags, name); f != nil {
					_, isBool := f.(*cli.BoolFlag)
					at, takesValue = i, !isBool
					break
				}
			}
			levels[at].given = append(levels[at].given, arg)
			if takesValue && !hasValue && len(rest) > 0 {
				levels[at].given = append(levels[at].given, rest[0])
				rest = rest[1:]
			}
		}
	}
	var out []string
	for _, l := range levels {
		out = append(append(out, l.name), l.given...)
	}
	if slices.ContainsFunc(positional, func(s string) bool { return strings.HasPrefix(s, "-") }) {
		out = append(out, "--")
	}
	return append(out, positional...)
}

func findFlag(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}
