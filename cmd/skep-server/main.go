// Command skep-server is the control plane: it takes webhooks, keeps them,
// hands them to the workflow engine as runs, and answers its API.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"skep/cmd/internal/arguments"
	"skep/services/controlplane/tracing"
)

// version is set by the Makefile.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError is one in what was asked for.
type usageError struct{ error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	log := slog.New(tracing.LogHandler(slog.NewJSONHandler(stderr, nil)))
	app := &cli.App{
		Name: "skep-server", Usage: "Keeps Swarms true to Git", Version: version, HideVersion: true, HideHelpCommand: true,
		Description: "Takes webhooks from GitHub, Azure DevOps, GitLab and others, checks, plans and deploys what was\n" +
			"pushed, and reports on commits and pull requests.\n\n" +
			"Settings come from the environment; a variable that ends in _FILE names a file with the value.\n\n" +
			"Example:\n" +
			"   openssl rand -hex 32 > skep.key\n" +
			"   export SKEP_DATABASE_URL=postgres://skep@/skep SKEP_DATABASE_KEY_FILE=skep.key\n" +
			"   export SKEP_HATCHET_DATABASE_URL=postgres://skep@/hatchet   # the workflow engine's own\n" +
			"   skep-server serve\n" +
			"   skep-server token create --scope admin laptop",
		Reader: stdin, Writer: stdout, ErrWriter: stderr,
		Commands: []*cli.Command{
			serveCommand(log), migrateCommand(), tokenCommand(), reencryptCommand(), openAPICommand(), healthCommand(), hatchetCommand(), engineCommand(),
		},
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   wrongFlag("skep-server"),
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usage("there is no command %q: see skep-server --help", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
	for _, c := range app.Commands {
		prepare(app.Name, c)
	}
	err := app.RunContext(ctx, arguments.Arrange(app, args))
	var wrong usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &wrong):
		fmt.Fprintf(stderr, "skep-server: %v\n", err)
		return exitUsage
	}
	fmt.Fprintf(stderr, "skep-server: %v\n", err)
	return exitFailed
}

// prepare gives a command what all commands have. It is called as path says.
func prepare(path string, c *cli.Command) {
	path += " " + c.Name
	c.OnUsageError, c.HideHelpCommand = wrongFlag(path), true
	for _, sub := range c.Subcommands {
		prepare(path, sub)
	}
	if len(c.Subcommands) > 0 {
		c.Action = func(c *cli.Context) error {
			if c.Args().Present() {
				return usage("there is no command %q: see %s --help", c.Args().First(), path)
			}
			return usage("%s needs a command: see %[1]s --help", path)
		}
	}
}

func wrongFlag(path string) cli.OnUsageErrorFunc {
	return func(_ *cli.Context, err error, _ bool) error { return usage("%w (see %s --help)", err, path) }
}

func migrateCommand() *cli.Command {
	return &cli.Command{
		Name: "migrate", Usage: "Bring the database to this version",
		Description: "Waits for its turn if another does the same. serve does it too, unless --no-migrate says so.\n\nExample:\n   skep-server migrate",
		Flags:       databaseFlags(),
		Action: func(c *cli.Context) error {
			d, err := database(c)
			if err != nil {
				return err
			}
			if err := d.migrate(c.Context); err != nil {
				return err
			}
			fmt.Fprintln(c.App.Writer, "The database is at this version.")
			return nil
		},
	}
}

func reencryptCommand() *cli.Command {
	return &cli.Command{
		Name: "reencrypt", Usage: "Encrypt all secrets with the current key",
		Description: "The key file has the new key first and the old ones below it, a line each: id and 64 hexadecimal\n" +
			"digits. It may be interrupted and run again. When it is done the old keys can go.\n\nExample:\n   skep-server reencrypt",
		Flags: databaseFlags(),
		Action: func(c *cli.Context) error {
			s, err := openStore(c)
			if err != nil {
				return err
			}
			defer s.Close()
			n, err := s.Reencrypt(c.Context)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "%d secrets are encrypted with the current key.\n", n)
			return nil
		},
	}
}

// drain is what requests and runs have after the signal to end.
const drain = 30 * time.Second
