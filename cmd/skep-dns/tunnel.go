package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"skep/networks"
	"skep/services/dns"
	"skep/services/dns/cloudflare"
	"skep/services/dns/httpapi"
	"skep/services/dns/labels"
	"skep/services/dns/providers"
	"skep/services/dns/reconcile"
	"skep/services/dns/tunnel"
)

var _ reconcile.Rules = (*cloudflare.Tunnel)(nil)

// tunnelDomain ends the target of a zone whose names lead into a tunnel.
const tunnelDomain = ".cfargotunnel.com"

// tunnels opens those that zones lead into, if there is an origin for them.
func (p *program) tunnels(o options, zones []networks.Zone, metrics *reconcile.Metrics) ([]*reconcile.Tunnel, error) {
	if o.origin == "" {
		return nil, nil
	}
	client, err := providers.CloudflareClient(p.get)
	if err != nil {
		return nil, err
	}
	account, err := p.get(providers.CloudflareAccount)
	switch {
	case err != nil:
		return nil, err
	case account == "":
		return nil, &providers.Missing{Name: providers.CloudflareAccount}
	}
	var out []*reconcile.Tunnel
	for _, z := range zones {
		id, ok := strings.CutSuffix(z.Target, tunnelDomain)
		if !ok || slices.ContainsFunc(out, func(t *reconcile.Tunnel) bool { return t.ID == id }) {
			continue
		}
		out = append(out, &reconcile.Tunnel{
			Rules: client.Tunnel(account, id), ID: id, Origin: o.origin, Grace: o.grace, Share: o.share, Resync: o.resync, DryRun: o.dryRun,
			Log: p.log, Metrics: metrics,
		})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("-tunnel-origin: no zone of %s has a target ID%s", o.zones, tunnelDomain)
	}
	return out, nil
}

// rules lead the hosts that have a record into the tunnel to the ingress, and
// no other host.
func rules(zones []dns.Zone, sites map[labels.Owned]labels.Site, id, origin string) []tunnel.Rule {
	var out []tunnel.Rule
	for _, z := range zones {
		for _, r := range z.Records {
			site, ok := sites[labels.Owned{Owner: r.Owner, Host: r.Name}]
			if ok && r.Type == networks.CNAME && r.Content == id+tunnelDomain {
				out = append(out, tunnel.NewRule(tunnel.Route{Host: site.Host, Plain: site.Plain, SelfSigned: site.SelfSigned}, origin))
			}
		}
	}
	return out
}

// checkOrigin: the scheme of a rule follows the route, not the flag.
func checkOrigin(origin string) error {
	if !strings.HasPrefix(origin, "https://") || httpapi.CheckURL(origin) != nil {
		return errors.New("-tunnel-origin is of the form https://ingress_caddy")
	}
	return nil
}
