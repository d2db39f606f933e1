// Command skep-ingress is Caddy with caddy-docker-proxy and the modules that
// Skep's labels use. Swarm runs it as "skep-ingress docker-proxy".
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
	_ "github.com/lucaslorentz/caddy-docker-proxy/v2" // the docker-proxy command

	"skep/services/ingress/boot"
	_ "skep/services/ingress/modules"
)

// adminAPI answers as soon as Caddy runs, before there is a site.
const adminAPI = "http://127.0.0.1:2019/config/"

func main() {
	if err := boot.ReadFileVariables(os.Environ(), os.Setenv); err != nil {
		fmt.Fprintln(os.Stderr, "skep-ingress:", err)
		os.Exit(caddy.ExitCodeFailedStartup)
	}
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "healthcheck",
		Usage: "[<url>]",
		Short: "Asks the running ingress once and fails unless it answers well",
		Long:  "Asks the URL, or Caddy's admin API on " + adminAPI + ", and fails unless the answer is below 400.",
		Flags: flag.NewFlagSet("healthcheck", flag.ExitOnError),
		Func: func(flags caddycmd.Flags) (int, error) {
			url := adminAPI
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
