//go:build cdp

// Command theirs is caddy-docker-proxy itself, with the modules of the
// ingress, to measure against.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/lucaslorentz/caddy-docker-proxy/v2" // the docker-proxy command

	_ "skep/services/ingress/modules"
)

func main() { caddycmd.Main() }
