// Command skep-ingress is Caddy with an app that serves what labels in Docker
// say, and the modules that Skep's labels use. Swarm runs it as "skep-ingress
// docker-proxy".
//
// A variable NAME_FILE sets NAME from a file, as for secrets, and
// "skep-ingress healthcheck [URL]" serves an image without a shell.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"skep/services/ingress/boot"
	"skep/services/ingress/controller"
	_ "skep/services/ingress/modules"
)

// health answers well once there is something to serve, or Docker to ask.
const health = "http://" + controller.DefaultStatus + "/healthz"

func main() {
	if err := boot.ReadFileVariables(os.Environ(), os.Setenv); err != nil {
		fmt.Fprintln(os.Stderr, "skep-ingress:", err)
		os.Exit(caddy.ExitCodeFailedStartup)
	}
	caddycmd.RegisterCommand(dockerProxyCommand())
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "healthcheck",
		Usage: "[<url>]",
		Short: "Asks the running ingress once and fails unless it answers well",
		Long:  "Asks the URL, or " + health + ", and fails unless the answer is below 400.",
		Flags: flag.NewFlagSet("healthcheck", flag.ExitOnError),
		Func: func(flags caddycmd.Flags) (int, error) {
			url := health
			if flags.NArg() > 0 {
				url = flags.Arg(0)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			if err := boot.Healthcheck(ctx, url); err != nil {
				return caddy.ExitCodeFailedStartup, err
			}
			return caddy.ExitCodeSuccess, nil
		},
	})
	caddycmd.Main()
}
