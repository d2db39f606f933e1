// Command report measures the control plane beside the least that could do the
// same, in one run, and prints a section of docs/performance.md.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("report", flag.ContinueOnError)
	flags.SetOutput(stderr)
	rounds := flags.Int("rounds", 5, "measure each `N` times, in turn")
	length := flags.Duration("time", 2*time.Second, "length of one measurement")
	if err := flags.Parse(args); err != nil || *rounds < 1 || *length <= 0 {
		return 2
	}
	var err error
	switch flags.Arg(0) {
	case "":
		var section []byte
		if section, err = measure(ctx, plan{*rounds, *length, stderr}); err == nil {
			_, err = stdout.Write(section)
		}
	case roleEngine:
		err = serveEngine(ctx, stdin, stdout)
	case roleClients:
		err = follow(ctx, stdin, stdout)
	default:
		return 2
	}
	if err != nil {
		fmt.Fprintln(stderr, "report:", err)
		return 1
	}
	return 0
}

// What this program is as a child of itself.
const (
	roleEngine  = "engine"
	roleClients = "clients"
)

// plan is how long to measure.
type plan struct {
	rounds   int
	length   time.Duration
	progress io.Writer
}

// inTurn calls each subject in turn, and the other way round in every second
// round: who goes second finds a warmer machine. The first round warms up, and
// is not kept.
func (p plan) inTurn(what string, subjects ...func(keep bool) error) error {
	for round := range p.rounds + 1 {
		fmt.Fprintf(p.progress, "%s: round %d of %d\n", what, round, p.rounds)
		for i := range subjects {
			if round%2 == 1 {
				i = len(subjects) - 1 - i
			}
			if err := subjects[i](round > 0); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
		}
	}
	return nil
}

func measure(ctx context.Context, p plan) (section []byte, err error) {
	before, err := loadAverage()
	if err != nil {
		return nil, err
	}
	b, err := startBed(ctx, p.progress)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.lastWords(p.progress)
		}
		err = errors.Join(err, b.stop())
	}()
	var body bytes.Buffer
	for _, part := range []func(context.Context, *bed, plan, io.Writer) error{measureAcks, measureRuns, measureEvents} {
		if err := part(ctx, b, p, &body); err != nil {
			return nil, err
		}
	}
	after, err := loadAverage()
	if err != nil {
		return nil, err
	}
	head := fmt.Sprintf(`## Control plane

%sgo run ./services/controlplane/bench/report%[1]s: medians of %d rounds of %s, the subjects in turn, on %d processors (%s/%s,
%s) that the load, the server, %s with its defaults (fsync on) and the workflow engine share.
Load average %s before and %s after. Machines differ and are noisy: read the ratios, which are of what the control
plane takes to what its yardstick takes.
`, "`", p.rounds, p.length, runtime.GOMAXPROCS(0), runtime.GOOS, runtime.GOARCH, runtime.Version(), b.postgres.version, before, after)
	return append([]byte(head), body.Bytes()...), nil
}

// loadAverage is of the last minute (proc(5)).
func loadAverage() (string, error) {
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", err
	}
	first, _, _ := strings.Cut(string(content), " ")
	return first, nil
}
