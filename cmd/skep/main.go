// Command skep compiles Compose files that state intent into stacks for Docker
// Swarm: it checks them, writes the bundle and explains what it wrote.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"skep/cmd/internal/arguments"
	"skep/generator/problem"
)

// Exit codes.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitProblems = 3 // the checks found errors
	exitPending  = 4 // plan --detailed-exitcode: there are changes
)

func main() {
	collectLess()
	ctx, stop := interruptible(context.Background())
	code := run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// interruptible is a context that ends with the first interrupt. A second one
// ends the process: who asks twice does not want to wait for an orderly end.
func interruptible(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(parent, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// collectLess trades memory for time, as a short run may: a project of usual
// size is compiled before the heap is collected for the first time, at 64 MiB;
// one of a thousand stacks keeps near the limit.
func collectLess() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(1600)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(300 << 20)
	}
}

// run is the whole program: args start with its name.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr}
	app := p.app()
	err := app.RunContext(ctx, arguments.Arrange(app, args))
	if err == nil {
		return exitDone
	}
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{code: exitFailed, err: err}
	}
	if f.err != nil {
		p.report(f)
	}
	return f.code
}

// program is one run of the command.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
}

func (p *program) app() *cli.App {
	app := &cli.App{
		Name:  "skep",
		Usage: "Compose files in, safe Swarm stacks out",
		Description: "A project is a folder with a cluster.yaml; a stack is a Compose file in it with a few x- keys.\n" +
			"skep checks the project, compiles it to stacks that `docker stack deploy` takes too, and brings the\n" +
			"Swarm that DOCKER_HOST names to them: with a plan before, and a way back.\n\n" +
			"Examples:\n   skep init --yes\n   skep check\n   skep generate\n   skep plan\n   skep deploy\n\n" +
			"Exit codes: 0 done, 1 failed, 2 usage, 3 the checks found errors, 4 changes are pending (plan --detailed-exitcode).",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "C", Usage: "project `FOLDER` (default: the working directory, then ./stacks)"},
			&cli.StringSliceFlag{Name: "profile", Usage: "activate a Compose `PROFILE` beside the cluster file's; may be repeated"},
		},
		Commands: []*cli.Command{
			p.init(), p.new(), p.importCommand(), p.check(), p.generate(), p.diff(), p.explain(), p.graph(), p.render(), p.lock(), p.schema(),
			p.plan(), p.deploy(), p.history(), p.rollback(), p.status(), p.logs(), p.down(), p.preview(), p.adopt(), p.doctor(), p.secrets(), p.dns(), p.tunnel(),
			p.completion(), p.docs(), p.version(),
		},
		Reader: p.stdin, Writer: p.stdout, ErrWriter: p.stderr,
		HideHelpCommand:           true,
		HideVersion:               true,
		Suggest:                   true,
		EnableBashCompletion:      true,
		DisableSliceFlagSeparator: true,
		ExitErrHandler:            func(*cli.Context, error) {}, // run returns the code
		OnUsageError:              usageError,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return unknownCommand(c)
			}
			return cli.ShowAppHelp(c)
		},
	}
	for _, c := range app.Commands {
		prepare(c)
	}
	return app
}

// prepare gives a command what all commands have.
func prepare(c *cli.Command) {
	c.OnUsageError = usageError
	c.HideHelpCommand = true
	for _, sub := range c.Subcommands {
		prepare(sub)
	}
	if len(c.Subcommands) > 0 {
		c.Action = func(c *cli.Context) error {
			if c.Args().Present() {
				return unknownCommand(c)
			}
			return usage("%s needs a command", commandName(c)).because("`skep %s --help` lists them", commandName(c))
		}
	}
}

func usageError(c *cli.Context, err error, _ bool) error {
	return usage("%s", err).because("`%s --help` lists the flags", strings.TrimSpace("skep "+commandName(c)))
}

// commandName is the command as it is typed, after skep.
func commandName(c *cli.Context) string {
	var names []string
	for _, at := range c.Lineage() { // from the command up to the app
		if at.Command != nil && at.Command.Name != "" && at.Command.Name != c.App.Name {
			names = append(names, at.Command.Name)
		}
	}
	slices.Reverse(names)
	return strings.Join(names, " ")
}

func unknownCommand(c *cli.Context) error {
	name := c.Args().First()
	commands := c.App.Commands
	if c.Command != nil && len(c.Command.Subcommands) > 0 {
		commands = c.Command.Subcommands
	}
	f := usage("there is no command %q", name)
	// SuggestCommand returns a sentence, however far the nearest name is.
	if near := cli.SuggestCommand(commands, name); name != "" && strings.Contains(near, `"`+name[:1]) {
		return f.because("%s `skep --help` lists them", near)
	}
	return f.because("`skep --help` lists them")
}

// jsonFlag is on every command.
func jsonFlag() cli.Flag { return &cli.BoolFlag{Name: "json", Usage: "write JSON for machines"} }

// failure ends the program with a code of its own. Without an error there is
// nothing left to say.
type failure struct {
	code   int
	err    error
	remedy string
}

func (f *failure) Error() string {
	if f.err == nil {
		return fmt.Sprintf("exit code %d", f.code)
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

func (f *failure) because(format string, args ...any) *failure {
	f.remedy = fmt.Sprintf(format, args...)
	return f
}

func usage(format string, args ...any) *failure {
	return &failure{code: exitUsage, err: fmt.Errorf(format, args...)}
}

func failed(err error) *failure { return &failure{code: exitFailed, err: err} }

// report tells a person what went wrong and what to do about it.
func (p *program) report(f *failure) {
	paint := problem.Paint{On: colored(p.stderr)}
	fmt.Fprintf(p.stderr, "%s %s\n", paint.Red("skep:"), indent(strings.TrimRight(f.Error(), "\r\n")))
	remedy := f.remedy
	switch {
	case remedy != "":
	case errors.Is(f.err, fs.ErrPermission):
		remedy = "check who owns the file and its permissions"
	case errors.Is(f.err, context.Canceled):
		remedy = "interrupted; run the command again"
	}
	if remedy != "" {
		fmt.Fprintf(p.stderr, "    %s\n", paint.Dim(remedy))
	}
}

// writeJSON writes v for machines.
func (p *program) writeJSON(v any) error {
	enc := json.NewEncoder(p.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// colored reports whether w is a terminal that wants colours
// (https://no-color.org).
func colored(w io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(w)
}

func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
