package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"skep/networks"
	"skep/services/dns"
	"skep/services/dns/labels"
	"skep/services/dns/providers"
	"skep/services/dns/reconcile"
)

// sync sends records to the providers.
func (p *program) sync(ctx context.Context, o options) error {
	d, cluster, err := load(o.zones)
	if err != nil {
		return err
	}
	if o.share < 0 || o.share > 1 {
		return errors.New("-max-removals is a part between 0 and 1")
	}
	open := map[string]dns.Provider{}
	for _, z := range d.Zones {
		provider, err := providers.Open(z, p.get)
		if errors.Is(err, providers.ErrNoProvider) {
			continue
		}
		if err != nil {
			return fmt.Errorf("zone %s: %w", z.Name, err)
		}
		open[z.Name] = provider
	}
	if len(open) == 0 {
		return fmt.Errorf("%s has no zone whose provider is cloudflare, unifi or rfc2136", o.zones)
	}
	watcher, closeDocker, err := p.watcher(o)
	if err != nil {
		return err
	}
	defer closeDocker()
	if o.once {
		return p.syncOnce(ctx, o, d, cluster, open, watcher)
	}
	metrics := registry()
	about := reconcile.NewMetrics(metrics)
	tunnels, err := p.tunnels(o, d.Zones, about)
	if err != nil {
		return err
	}
	r := &reconcile.Reconciler{
		Providers: open, Cluster: cluster, Grace: o.grace, Share: o.share, Resync: o.resync, DryRun: o.dryRun,
		Log: p.log, Metrics: about,
	}
	lastList(metrics, watcher.Listed)
	l, err := listen(ctx, o.http)
	if err != nil {
		return err
	}
	p.log.Info("syncing", "cluster", cluster, "zones", len(open), "tunnels", len(tunnels), "http", l.Addr().String(), "dry-run", o.dryRun)
	status := func() any {
		all := map[string]any{}
		for name, s := range r.Status() {
			all[name] = s
		}
		for _, t := range tunnels {
			all[t.Name()] = t.Status()
		}
		return all
	}
	parts := []func(context.Context) error{
		r.Run,
		func(ctx context.Context) error {
			return watcher.Run(ctx, func(services []labels.Service, stale func() bool) {
				zones, sites := dns.Zones(labels.Zones(d.Zones, services)), labels.SitesOf(services)
				r.Want(zones, stale)
				for _, t := range tunnels {
					t.Want(rules(zones, sites, t.ID, t.Origin), stale)
				}
			})
		},
		func(ctx context.Context) error { return p.admin(ctx, l, metrics, status) },
	}
	for _, t := range tunnels {
		parts = append(parts, t.Run)
	}
	return together(ctx, parts...)
}

// syncOnce plans, applies and prints every zone.
func (p *program) syncOnce(ctx context.Context, o options, d networks.DNS, cluster dns.Cluster, open map[string]dns.Provider, watcher *labels.Watcher) error {
	services, err := watcher.List(ctx)
	if err != nil {
		return fmt.Errorf("list the services: %w", err)
	}
	plans := []dns.Plan{}
	var failures []error
	for _, z := range dns.Zones(labels.Zones(d.Zones, services)) {
		provider, ok := open[z.Name]
		if !ok {
			continue
		}
		plan, err := dns.Read(ctx, provider, z, dns.Options{Cluster: cluster, Now: time.Now(), Grace: o.grace, Share: o.share})
		if err != nil {
			failures = append(failures, err)
			continue
		}
		plans = append(plans, plan)
		if !o.dryRun {
			failures = append(failures, dns.Apply(ctx, provider, plan, func(dns.Change, error) {}))
		}
	}
	enc := json.NewEncoder(p.stdout)
	enc.SetIndent("", "  ")
	return errors.Join(append(failures, enc.Encode(plans))...)
}
