package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"skep/secrets/onepassword"
	"skep/services/controlplane/api"
	"skep/services/controlplane/engine"
	"skep/services/controlplane/integration"
	"skep/services/controlplane/integration/azuredevops"
	"skep/services/controlplane/integration/github"
	"skep/services/controlplane/integration/gitlab"
	"skep/services/controlplane/integration/salesforce"
	"skep/services/controlplane/store"
	"skep/services/controlplane/webhook"
)

// api is everything that is answered on the public address.
func (s *server) api(db *store.Store, e *engine.Engine, at engine.Address) (*api.API, error) {
	hooks, err := webhook.New(webhook.Options{Sources: db, Deliveries: db, Metrics: s.registry, Log: s.log})
	if err != nil {
		return nil, err
	}
	proxies, err := prefixes(os.Getenv("SKEP_TRUSTED_PROXIES"))
	if err != nil {
		return nil, fmt.Errorf("SKEP_TRUSTED_PROXIES: %w", err)
	}
	source, err := onepassword.FromEnvironment(os.LookupEnv, "skep-server/"+version)
	if err != nil {
		return nil, err
	}
	drivers := integration.NewRegistry(integration.Options{Log: s.log, Loopback: os.Getenv("SKEP_LOOPBACK") == "on"},
		github.Driver(), azuredevops.Driver(), gitlab.Driver(), salesforce.Driver())
	return api.New(api.Options{
		Store: db, Registry: drivers, Webhooks: hooks, Starter: e, Ready: func(ctx context.Context) error { return reaches(ctx, at) },
		Metrics: s.registry, Log: s.log, Version: version, Proxies: proxies, Secrets: source,
	})
}

// reaches says whether the engine takes connections. Without it deliveries are
// kept, and wait.
func reaches(ctx context.Context, at engine.Address) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(at.Host, strconv.Itoa(at.Port)))
	if err != nil {
		return fmt.Errorf("the workflow engine does not answer: %w", err)
	}
	return conn.Close()
}

// prefixes reads a list of networks, with commas between.
func prefixes(list string) (out []netip.Prefix, err error) {
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		p, e := netip.ParsePrefix(item)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%q is no network like 10.0.0.0/24", item))
			continue
		}
		out = append(out, p)
	}
	return out, err
}

func openAPICommand() *cli.Command {
	return &cli.Command{
		Name: "openapi", Usage: "Print the API's OpenAPI document",
		Description: "The server has it at /api/v1/openapi.json too.\n\nExample:\n   skep-server openapi > openapi.json",
		Action: func(c *cli.Context) error {
			document, err := api.Document()
			if err != nil {
				return err
			}
			_, err = c.App.Writer.Write(document)
			return err
		},
	}
}
