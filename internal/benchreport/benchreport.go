// Package benchreport is the command line of the programs that measure the
// sections of docs/performance.md.
package benchreport

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

// Measure measures and returns a section in Markdown. What it does meanwhile
// goes to progress.
type Measure func(ctx context.Context, progress io.Writer) ([]byte, error)

// Main runs a report as the program: an interrupt ends the measurement and
// what it started.
func Main(flags *flag.FlagSet, measure Measure) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := Run(ctx, flags, os.Args[1:], measure, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Run writes the section to stdout and returns the exit code: 2 for a wrong
// command line, 1 for a measurement that failed, of which nothing is written.
func Run(ctx context.Context, flags *flag.FlagSet, args []string, measure Measure, stdout, stderr io.Writer) int {
	flags.SetOutput(stderr)
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "%s takes no argument, got %q\n", flags.Name(), flags.Args())
		return 2
	}
	section, err := measure(ctx, stderr)
	if err == nil {
		_, err = stdout.Write(section)
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", flags.Name(), err)
		return 1
	}
	return 0
}

// Count is a flag for a number of at least 1.
func Count(flags *flag.FlagSet, name string, value int, usage string) *int {
	n := &count{n: value}
	flags.Var(n, name, usage)
	return &n.n
}

type count struct{ n int }

// String is also asked of a count that was never made.
func (c *count) String() string { return strconv.Itoa(c.n) }

func (c *count) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return errors.New("want a number of at least 1")
	}
	c.n = n
	return nil
}
