package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"skep/networks"
	"skep/services/dns"
	"skep/services/dns/authority"
	"skep/services/dns/labels"
	"skep/services/dns/providers"
)

// serve answers for the zones of provider skep.
func (p *program) serve(ctx context.Context, o options) error {
	d, _, err := load(o.zones)
	if err != nil {
		return err
	}
	metrics := registry()
	config := authority.Config{
		Allow: authority.Private, Secondaries: o.secondaries, NameServers: o.nameServers,
		Log: p.log, Metrics: authority.NewMetrics(metrics), Now: time.Now,
	}
	if len(o.allow) > 0 {
		config.Allow = nil
	}
	for _, s := range o.allow {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			return fmt.Errorf("-allow: %w", err)
		}
		config.Allow = append(config.Allow, prefix)
	}
	if config.Key, err = p.key(); err != nil {
		return err
	}
	if len(o.secondaries) > 0 && config.Key == nil {
		return &providers.Missing{Name: "SKEP_DNS_TSIG_NAME"}
	}
	server, err := authority.New(config)
	if err != nil {
		return err
	}
	h := &holder{program: p, server: server, zones: d.Zones, state: o.state, grace: o.grace}
	if err := h.start(); err != nil {
		return err
	}
	packets, l, err := authority.Listen(ctx, o.listen)
	if err != nil {
		return err
	}
	admin, err := listen(ctx, o.http)
	if err != nil {
		return err
	}
	p.log.Info("serving", "dns", l.Addr().String(), "http", admin.Addr().String(), "transfers", config.Key != nil)
	parts := []func(context.Context) error{
		func(ctx context.Context) error { return server.Serve(ctx, packets, l) },
		func(ctx context.Context) error { return p.admin(ctx, admin, metrics, h.status) },
	}
	if os.Getenv("DOCKER_HOST") == "" {
		p.log.Warn("DOCKER_HOST is not set: the zones file is all there is to serve")
	} else {
		watcher, closeDocker, err := p.watcher(o)
		if err != nil {
			return err
		}
		defer closeDocker()
		lastList(metrics, watcher.Listed)
		lists := make(chan seen)
		parts = append(parts,
			func(ctx context.Context) error { return h.run(ctx, lists) },
			func(ctx context.Context) error {
				return watcher.Run(ctx, func(services []labels.Service, stale func() bool) {
					select {
					case lists <- seen{services, stale}:
					case <-ctx.Done():
					}
				})
			})
	}
	return together(ctx, parts...)
}

// key signs transfers, if there is one.
func (p *program) key() (*authority.Key, error) {
	name, err := p.get("SKEP_DNS_TSIG_NAME")
	if err != nil || name == "" {
		return nil, err
	}
	secret, err := p.get("SKEP_DNS_TSIG_SECRET")
	if err != nil {
		return nil, err
	}
	if secret == "" {
		return nil, &providers.Missing{Name: "SKEP_DNS_TSIG_SECRET"}
	}
	algorithm, err := p.get("SKEP_DNS_TSIG_ALGORITHM")
	return &authority.Key{Name: name, Algorithm: algorithm, Secret: secret}, err
}

// holder turns lists of services into versions of the zones.
type holder struct {
	*program
	server *authority.Server
	zones  []networks.Zone // of the file
	state  string
	grace  time.Duration
	holds  map[string]*dns.Hold // by domain
}

// kept is a zone as it is written down.
type kept struct {
	Serial  uint32            `json:"serial"`
	Records []networks.Record `json:"records"`
}

// start serves what was served last, or else what the file says, so that the
// Docker API need not be there.
func (h *holder) start() error {
	h.holds = map[string]*dns.Hold{}
	for _, z := range h.own(labels.Zones(h.zones, nil)) {
		if len(z.Refused) > 0 { // written by a person, who is there to mend it
			c := z.Refused[0]
			return fmt.Errorf("zone %s: %s %s: %s", z.Name, c.Record.Type, c.Record.Name, c.Reason)
		}
		hold := &dns.Hold{Grace: h.grace}
		h.holds[z.Domain] = hold
		last, err := h.read(z.Domain)
		switch {
		case err == nil:
			if err := h.server.Restore(z.Domain, last.Records, last.Serial); err != nil {
				h.log.Error("what was kept of the zone is of no use", "zone", z.Name, "error", err)
				break
			}
			hold.Update(last.Records, time.Now())
			continue
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		if _, err := h.server.Update(z.Domain, z.Records); err != nil {
			return fmt.Errorf("zone %s: %w", z.Name, err)
		}
	}
	if len(h.holds) == 0 {
		return errors.New("no zone of the file has the provider skep")
	}
	return nil
}

func (h *holder) own(zones []networks.Zone) []dns.Zone {
	var out []dns.Zone
	for _, z := range dns.Zones(zones) {
		if z.Provider == providers.Own {
			out = append(out, z.Fit(dns.Traits{}))
		}
	}
	return out
}

// seen is a list of services, and whether more may have happened since.
type seen struct {
	services []labels.Service
	stale    func() bool
}

// run serves each list, and lets names go when their time has come: not while
// the list is stale.
func (h *holder) run(ctx context.Context, lists <-chan seen) error {
	last := seen{stale: func() bool { return true }}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case last = <-lists:
		case <-timer.C:
			select {
			case last = <-lists:
			default:
			}
			if last.stale() {
				continue // the next list comes
			}
		case <-ctx.Done():
			return nil
		}
		timer.Reset(h.update(last.services, time.Now()))
	}
}

// update returns when to look again.
func (h *holder) update(services []labels.Service, now time.Time) time.Duration {
	wait := time.Hour
	for _, z := range h.own(labels.Zones(h.zones, services)) {
		for _, c := range z.Refused {
			h.log.Warn("refused", "zone", z.Name, "name", c.Record.Name, "owner", c.Record.Owner, "reason", c.Reason)
		}
		records, next := h.holds[z.Domain].Update(z.Records, now)
		if !next.IsZero() {
			wait = min(wait, max(time.Second, next.Sub(now)))
		}
		changed, err := h.server.Update(z.Domain, records)
		if err != nil {
			h.log.Error("the zone stays as it is", "zone", z.Name, "error", err)
			continue
		}
		if changed {
			if err := h.write(z.Domain, records); err != nil {
				h.log.Error("keep the zone", "zone", z.Name, "error", err)
			}
		}
	}
	return wait
}

func (h *holder) path(domain string) string { return filepath.Join(h.state, domain+".json") }

func (h *holder) read(domain string) (kept, error) {
	if h.state == "" {
		return kept{}, fs.ErrNotExist
	}
	content, err := os.ReadFile(h.path(domain))
	if err != nil {
		return kept{}, err
	}
	var k kept
	if err := json.Unmarshal(content, &k); err != nil {
		h.log.Error("what was kept of the zone is of no use", "domain", domain, "error", err)
		return kept{}, fs.ErrNotExist
	}
	return k, nil
}

// write replaces the file at once.
func (h *holder) write(domain string, records []networks.Record) error {
	if h.state == "" {
		return nil
	}
	serial, _ := h.server.Serial(domain)
	content, err := json.Marshal(kept{Serial: serial, Records: records})
	if err != nil {
		return err
	}
	staged := h.path(domain) + ".new"
	if err := os.WriteFile(staged, content, 0o600); err != nil {
		return err
	}
	return os.Rename(staged, h.path(domain))
}

func (h *holder) status() any {
	type zone struct {
		Domain string `json:"domain"`
		Serial uint32 `json:"serial"`
	}
	out := []zone{}
	for _, z := range h.own(h.zones) {
		serial, _ := h.server.Serial(z.Domain)
		out = append(out, zone{z.Domain, serial})
	}
	return map[string]any{"zones": out}
}
