package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// version is set by the linker (see Makefile).
var version = ""

// versionString is the release, or the revision that the binary was built from.
func versionString() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}

func (p *program) version() *cli.Command {
	return &cli.Command{
		Name:        "version",
		Usage:       "Print the version",
		Description: "Prints the version of skep and of the Go that built it.\n\nExample:\n   skep version --json",
		Flags:       []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if c.Bool("json") {
				return p.writeJSON(map[string]string{"version": versionString(), "go": runtime.Version()})
			}
			_, err := fmt.Fprintf(p.stdout, "skep %s (%s)\n", versionString(), runtime.Version())
			return err
		},
	}
}
