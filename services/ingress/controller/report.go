package controller

import (
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"github.com/prometheus/client_golang/prometheus"

	"skep/services/ingress/label"
	"skep/services/ingress/route"
)

// Status is what the ingress says of itself.
type Status struct {
	Docker   string          `json:"docker"` // "connected", or why not
	Updated  time.Time       `json:"updated,omitzero"`
	Error    string          `json:"error,omitempty"` // of the last update
	Draining int             `json:"draining"`        // versions of sites that only open requests keep
	Sites    []SiteStatus    `json:"sites"`
	Refused  []label.Refusal `json:"refused"`
}

// SiteStatus is one site.
type SiteStatus struct {
	Addresses    []string         `json:"addresses"`
	Stack        label.Stack      `json:"stack"`
	Services     []string         `json:"services"`
	Upstreams    []route.Upstream `json:"upstreams"`
	Certificates []Certificate    `json:"certificates,omitempty"`

	id    label.SiteID
	hosts []label.Host
}

// Certificate is one that Caddy would show for a host.
type Certificate struct {
	Host    label.Host `json:"host"`
	Issuer  string     `json:"issuer"`
	Expires time.Time  `json:"expires"`
}

// reporter keeps the status and the metrics.
type reporter struct {
	mu       sync.Mutex
	docker   error
	asked    bool
	fromDisk bool
	err      error
	when     time.Time
	sites    []SiteStatus
	refused  []label.Refusal

	registry *prometheus.Registry
	up       prometheus.Gauge
	updates  *prometheus.CounterVec
	seconds  prometheus.Histogram
	count    prometheus.Gauge
	refusals *prometheus.GaugeVec
	counted  map[refusalLabels]float64 // of the last turn, and touched by turns alone
}

// refusalLabels are service, stack and rule.
type refusalLabels [3]string

func newReporter() *reporter {
	name := func(s string) string { return "skep_ingress_" + s }
	r := &reporter{
		registry: prometheus.NewRegistry(),
		up:       prometheus.NewGauge(prometheus.GaugeOpts{Name: name("docker_connected"), Help: "Whether Docker answers."}),
		updates:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: name("updates_total"), Help: "Updates by result: changed, unchanged, failed."}, []string{"result"}),
		seconds:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: name("update_seconds"), Help: "How long updates take.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}),
		count:    prometheus.NewGauge(prometheus.GaugeOpts{Name: name("sites"), Help: "Sites that are served."}),
		refusals: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name("refused"), Help: "Labels that are refused, by service and rule."}, []string{"service", "stack", "rule"}),
	}
	r.registry.MustRegister(r.up, r.updates, r.seconds, r.count, r.refusals,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name("draining"), Help: "Versions of sites that only open requests keep."},
			func() float64 { return float64(route.Sites.Draining()) }))
	return r
}

func (r *reporter) connected(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.docker, r.asked = err, true
	if err == nil {
		r.up.Set(1)
	} else {
		r.up.Set(0)
	}
}

func (r *reporter) failed(err error) {
	r.updates.WithLabelValues("failed").Inc()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *reporter) updated(t *turn, took time.Duration, changed bool) {
	result := "unchanged"
	if changed {
		result = "changed"
	}
	r.updates.WithLabelValues(result).Inc()
	r.seconds.Observe(took.Seconds())
	r.count.Set(float64(len(t.parts)))
	r.countRefusals(t.refusals)
	sites := make([]SiteStatus, 0, len(t.parts))
	for _, p := range t.parts {
		site := t.sites[p.ID]
		if site == nil {
			continue
		}
		s := SiteStatus{Addresses: site.Keys, Stack: site.Stack, id: p.ID, hosts: site.Hosts}
		for _, source := range site.Sources {
			s.Services = append(s.Services, source.Name)
		}
		sites = append(sites, s)
	}
	r.mu.Lock()
	before := r.refused
	r.err, r.when, r.sites, r.refused = nil, time.Now().UTC(), sites, t.refusals
	r.mu.Unlock()
	t.c.logRefusals(before, t.refusals)
}

// countRefusals replaces the metric, without a moment in which it says less.
func (r *reporter) countRefusals(refusals []label.Refusal) {
	now := map[refusalLabels]float64{}
	for _, f := range refusals {
		now[refusalLabels{f.Source, string(f.Stack), string(f.Rule)}]++
	}
	for labels, n := range now {
		r.refusals.WithLabelValues(labels[:]...).Set(n)
	}
	for labels := range r.counted {
		if now[labels] == 0 {
			r.refusals.DeleteLabelValues(labels[:]...)
		}
	}
	r.counted = now
}

// restored notes that the last good configuration serves.
func (r *reporter) restored() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fromDisk = true
}

func (r *reporter) hasRestored() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fromDisk
}

// logRefusals logs those that are new.
func (c *Controller) logRefusals(before, now []label.Refusal) {
	known := map[label.Refusal]bool{}
	for _, f := range before {
		known[f] = true
	}
	for _, f := range now {
		if !known[f] {
			c.log.Warn("labels are refused", "service", f.Source, "stack", string(f.Stack), "label", f.Label, "site", f.Site,
				"rule", string(f.Rule), "reason", f.Reason, "kept", f.Kept)
		}
	}
}

// status is what the ingress says of itself now.
func (r *reporter) status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{Docker: "connected", Updated: r.when, Draining: route.Sites.Draining(), Refused: append([]label.Refusal{}, r.refused...)}
	switch {
	case !r.asked:
		s.Docker = "connecting"
	case r.docker != nil:
		s.Docker = r.docker.Error()
	}
	if r.err != nil {
		s.Error = r.err.Error()
	}
	s.Sites = make([]SiteStatus, len(r.sites))
	for i, site := range r.sites {
		site.Upstreams = route.Sites.Upstreams(string(site.id))
		site.Certificates = certificates(site.hosts)
		s.Sites[i] = site
	}
	return s
}

func certificates(hosts []label.Host) []Certificate {
	var out []Certificate
	for _, host := range hosts {
		if host == "" {
			continue
		}
		for _, c := range caddytls.AllMatchingCertificates(string(host)) {
			if c.Leaf != nil {
				out = append(out, Certificate{host, c.Leaf.Issuer.CommonName, c.Leaf.NotAfter})
			}
		}
	}
	return out
}
