package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/urfave/cli/v2"
)

func healthCommand() *cli.Command {
	return &cli.Command{
		Name: "healthcheck", Usage: "Ask the server whether it is well",
		Description: "For a container's health check: exits with 1 when it is not.\n\nExample:\n   skep-server healthcheck",
		Flags:       []cli.Flag{&cli.StringFlag{Name: "listen", Usage: "`ADDRESS` of the server", Value: "127.0.0.1:8080", EnvVars: []string{"SKEP_LISTEN"}}},
		Action: func(c *cli.Context) error {
			host, port, err := net.SplitHostPort(c.String("listen"))
			if err != nil {
				return usageError{err}
			}
			if host == "" || net.ParseIP(host).IsUnspecified() {
				host = "127.0.0.1"
			}
			ctx, cancel := context.WithTimeout(c.Context, 5*time.Second)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/healthz", nil)
			if err != nil {
				return err
			}
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				return err
			}
			defer answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				return fmt.Errorf("the server answers %s", answer.Status)
			}
			return nil
		},
	}
}
