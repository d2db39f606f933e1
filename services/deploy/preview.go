package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/swarm"

	"skep/generator/stack"
	"skep/networks"
)

// Preview is a preview as the Swarm knows it: by the labels of what it has.
type Preview struct {
	Name   string       `json:"preview"`
	Stacks []stack.Name `json:"stacks"`
	Hosts  []string     `json:"hosts"` // that the ingress serves
	// Expires is when it may be removed: the latest that one of its services
	// says. It is zero for what a removal, or a deploy, left half-way.
	Expires time.Time `json:"expires,omitzero"`
	Running int       `json:"running"` // services that are up
	Want    int       `json:"want"`

	newest time.Time // when the last of its objects was made
}

// leftoverAge is how long what has no service is left alone: a deploy makes
// secrets and networks before its services.
const leftoverAge = time.Hour

// Expired reports whether the time of a preview is over. What has no service
// any more is what a removal that was cut off has left.
func (p Preview) Expired(now time.Time) bool {
	if p.Expires.IsZero() {
		return now.Sub(p.newest) > leftoverAge
	}
	return now.After(p.Expires)
}

// Previews lists the previews of a Swarm by name.
func Previews(live Live) []Preview {
	found := map[string]*Preview{}
	of := func(labels map[string]string, made time.Time) *Preview {
		name := labels[stack.LabelPreview]
		if name == "" {
			return nil
		}
		p := found[name]
		if p == nil {
			p = &Preview{Name: name, Stacks: []stack.Name{}, Hosts: []string{}}
			found[name] = p
		}
		if s := stack.Name(cmp.Or(labels[labelNamespace], labels[LabelStack])); s != "" && !slices.Contains(p.Stacks, s) {
			p.Stacks = append(p.Stacks, s)
		}
		if made.After(p.newest) {
			p.newest = made
		}
		return p
	}
	names, nodes := live.networkNames(), live.nodeNames()
	for _, s := range live.Services {
		p := of(s.Spec.Labels, s.CreatedAt)
		if p == nil {
			continue
		}
		p.Hosts = append(p.Hosts, siteHosts(s.Spec.Labels)...)
		if at, err := time.Parse(time.RFC3339, s.Spec.Labels[stack.LabelExpires]); err == nil && at.After(p.Expires) {
			p.Expires = at
		}
		p.Want++
		if serviceStatus(s, live.tasks(s.ID), names, nodes).Healthy {
			p.Running++
		}
	}
	for _, o := range live.Configs {
		of(o.Spec.Labels, o.CreatedAt)
	}
	for _, o := range live.Secrets {
		of(o.Spec.Labels, o.CreatedAt)
	}
	for _, n := range live.Networks {
		of(n.Labels, n.Created)
	}
	out := []Preview{}
	for _, p := range found {
		slices.Sort(p.Stacks)
		slices.Sort(p.Hosts)
		p.Hosts = slices.Compact(p.Hosts)
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b Preview) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// FindPreview finds a preview by name.
func FindPreview(live Live, name string) (Preview, bool) {
	return find(Previews(live), func(p *Preview) bool { return p.Name == name })
}

// siteHosts are the hosts of sites without scheme and port.
func siteHosts(labels map[string]string) []string {
	var out []string
	for _, site := range hostsOf(labels) {
		if _, rest, ok := strings.Cut(site, "://"); ok {
			site = rest
		}
		site, _, _ = strings.Cut(site, "/")
		site, _, _ = strings.Cut(site, ":")
		if strings.Contains(site, ".") {
			out = append(out, site)
		}
	}
	return out
}

// Subnets are those that the Swarm's networks have, by the networks' names.
func Subnets(live Live) map[networks.Name]netip.Prefix {
	out := map[networks.Name]netip.Prefix{}
	for _, n := range live.Networks {
		for i, pool := range n.IPAM.Config {
			name := n.Name
			if i > 0 {
				name = fmt.Sprintf("%s/%d", n.Name, i)
			}
			if pool.Subnet.IsValid() && pool.Subnet.Addr().Is4() {
				out[networks.Name(name)] = pool.Subnet.Masked()
			}
		}
	}
	return out
}

// preview refuses to make one out of what is none, or of another preview, and
// hosts that somebody in the Swarm has already.
func (c *comparison) preview() {
	r := c.desired.release
	mine := siteHostsOf(c.desired.services)
	for _, s := range c.live.Services {
		of := s.Spec.Labels[stack.LabelPreview]
		if s.Spec.Labels[labelNamespace] == string(r.Stack) {
			if of != r.Preview {
				c.problem("service %s in the Swarm belongs to %s: remove it first, or take another name", s.Spec.Name, whose(of))
				return
			}
			continue
		}
		if r.Preview == "" {
			continue
		}
		for _, host := range siteHosts(s.Spec.Labels) {
			if slices.Contains(mine, host) {
				c.problem("host %s is served for service %s already: give the preview another name", host, s.Spec.Name)
			}
		}
	}
}

func siteHostsOf(services []desiredService) []string {
	var out []string
	for _, s := range services {
		out = append(out, siteHosts(s.spec.Labels)...)
	}
	return out
}

func whose(preview string) string {
	if preview == "" {
		return "no preview"
	}
	return "preview " + preview
}

// PreviewObjects are the objects of a preview, as changes that remove them, in
// an order in which they can be: networks, which say whose the rest is, go last.
func PreviewObjects(live Live, name string) []Change {
	var out []Change
	add := func(kind Kind, labels map[string]string, object string) {
		if labels[stack.LabelPreview] == name {
			out = append(out, Change{Action: Remove, Kind: kind, Name: object})
		}
	}
	for _, s := range live.Services {
		kind := KindService
		if isJob(s.Spec.Mode) {
			kind = KindJob
		}
		add(kind, s.Spec.Labels, s.Spec.Name)
	}
	for _, o := range live.Configs {
		add(KindConfig, o.Spec.Labels, o.Spec.Name)
	}
	for _, o := range live.Secrets {
		add(KindSecret, o.Spec.Labels, o.Spec.Name)
	}
	for _, n := range live.Networks {
		add(KindNetwork, n.Labels, n.Name)
	}
	order := []Kind{KindService, KindJob, KindConfig, KindSecret, KindNetwork}
	slices.SortFunc(out, func(a, b Change) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Kind), slices.Index(order, b.Kind)), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// RemovePreviews removes the previews that gone picks, and returns them. It
// picks again once nobody else deploys, so that one whose time was made longer
// meanwhile stays. With nothing to remove it writes nothing. Volumes stay on
// their nodes.
func RemovePreviews(ctx context.Context, engine Engine, gone func(Preview) bool, o Options) ([]Preview, error) {
	o = o.withDefaults()
	patient := newPatient(engine, o)
	live, err := Read(ctx, patient)
	if err != nil {
		return nil, fmt.Errorf("read the Swarm: %w", err)
	}
	if !slices.ContainsFunc(Previews(live), gone) {
		return nil, nil
	}
	var removed []Preview
	err = withLease(ctx, patient, o, func(held context.Context) error {
		live, err := Read(held, patient)
		if err != nil {
			return fmt.Errorf("read the Swarm: %w", err)
		}
		var errs []error
		for _, p := range Previews(live) {
			if !gone(p) {
				continue
			}
			if err := removePreview(held, patient, live, p, o); err != nil {
				errs = append(errs, fmt.Errorf("preview %s: %w", p.Name, err))
				continue
			}
			removed = append(removed, p)
		}
		return errors.Join(errs...)
	})
	return removed, err
}

func removePreview(ctx context.Context, engine Engine, live Live, p Preview, o Options) error {
	for _, c := range PreviewObjects(live, p.Name) {
		if err := removeObject(ctx, engine, live, c); err != nil {
			return fmt.Errorf("remove %s %s: %w", c.Kind, c.Name, err) // the next run goes on here
		}
		o.Report(Event{Stack: stackOf(p, c, live), Verb: Removed, Subject: string(c.Kind) + " " + c.Name})
	}
	return nil
}

// stackOf is the stack that an object of a preview belongs to.
func stackOf(p Preview, c Change, live Live) stack.Name {
	if len(p.Stacks) == 1 {
		return p.Stacks[0]
	}
	if s, ok := find(live.Services, func(s *swarm.Service) bool { return s.Spec.Name == c.Name }); ok {
		return stack.Name(s.Spec.Labels[labelNamespace])
	}
	return ""
}
