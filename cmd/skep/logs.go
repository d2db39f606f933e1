package main

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/urfave/cli/v2"

	"skep/generator/problem"
	"skep/services/deploy"
	"skep/services/swarm"
)

func (p *program) logs() *cli.Command {
	return &cli.Command{
		Name:      "logs",
		Usage:     "Show what the services of a stack write",
		ArgsUsage: "STACK [SERVICE...]",
		Description: "Each line has its service in front. With --json a line is an object.\n\n" +
			"Examples:\n   skep logs media-core\n   skep logs media-core sonarr --follow --tail 20",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.IntFlag{Name: "tail", Value: 100, Usage: "`LINES` of each service; 0 for all"},
			&cli.StringFlag{Name: "since", Usage: "a time, or a span such as 10m"},
			&cli.BoolFlag{Name: "follow", Usage: "go on until interrupted"},
			&cli.BoolFlag{Name: "timestamps", Usage: "with the time of each line"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				return usage("which stack?").because("`skep status` lists them")
			}
			return withSwarm(func(engine *swarm.Client) error {
				services, err := engine.Services(c.Context)
				if err != nil {
					return err
				}
				name := c.Args().First()
				ids := deploy.ServicesOf(services, name, c.Args().Tail()...)
				if len(ids) == 0 {
					return failed(fmt.Errorf("there is no such service in stack %s", name)).because("`skep status %s` lists them", name)
				}
				options := swarm.LogOptions{Tail: c.Int("tail"), Since: c.String("since"), Follow: c.Bool("follow"), Timestamps: c.Bool("timestamps")}
				var group sync.WaitGroup
				var mu sync.Mutex
				errs := make([]error, len(ids))
				for i, s := range ids {
					out := &lineWriter{mu: &mu, out: p.stdout, service: s.Spec.Name}
					if c.Bool("json") {
						out.json = p
					}
					group.Go(func() {
						errs[i] = engine.ServiceLogs(c.Context, s, options, out)
						out.flush()
					})
				}
				group.Wait()
				for _, err := range errs {
					if err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}

// lineWriter writes whole lines with their service in front.
type lineWriter struct {
	mu      *sync.Mutex // of all writers to out
	out     io.Writer
	service string
	json    *program // writes objects when it is set
	rest    []byte
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			return len(b), nil
		}
		if err := w.line(string(bytes.TrimSuffix(w.rest[:i], []byte("\r")))); err != nil {
			return 0, err
		}
		w.rest = w.rest[i+1:]
	}
}

func (w *lineWriter) flush() {
	if len(w.rest) > 0 {
		_ = w.line(string(w.rest)) // the stream is over: nobody is left to tell
	}
}

func (w *lineWriter) line(text string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.json != nil {
		return w.json.writeJSON(map[string]string{"service": w.service, "line": text})
	}
	_, err := fmt.Fprintf(w.out, "%s | %s\n", w.service, problem.Printable(text))
	return err
}
