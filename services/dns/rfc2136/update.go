package rfc2136

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	mdns "github.com/miekg/dns"

	"skep/networks"
	"skep/services/dns"
	"skep/services/dns/txtmark"
)

// Apply makes one change in one update: the server makes all of it or nothing.
func (z *Zone) Apply(ctx context.Context, c dns.Change) error {
	if err := z.find(ctx); err != nil {
		return err
	}
	u, err := z.update(ctx, c)
	if err != nil || u == nil {
		return err
	}
	answer, err := z.exchange(ctx, u)
	if err != nil {
		return err
	}
	switch answer.Rcode {
	case mdns.RcodeSuccess:
		return nil
	case mdns.RcodeYXDomain, mdns.RcodeYXRrset, mdns.RcodeNXRrset, mdns.RcodeNameError:
		return fmt.Errorf("%w (%s)", dns.ErrChanged, mdns.RcodeToString[answer.Rcode])
	case mdns.RcodeRefused, mdns.RcodeNotAuth:
		return fmt.Errorf("the server answers %s: may the key %s update %s there?", mdns.RcodeToString[answer.Rcode], z.key, z.zone)
	}
	return fmt.Errorf("the server answers %s", mdns.RcodeToString[answer.Rcode])
}

// update is the message for a change; nil when it has been made already.
func (z *Zone) update(ctx context.Context, c dns.Change) (*mdns.Msg, error) {
	u := new(mdns.Msg)
	u.SetUpdate(z.zone)
	if c.Old != nil && !c.Old.Orphan {
		set, err := z.fetch(ctx, c.Old.Name, c.Old.Type)
		if err != nil {
			return nil, err
		}
		old := slices.IndexFunc(set, func(rr mdns.RR) bool {
			l, _ := live(rr)
			return l.Content == c.Old.Content
		})
		switch {
		case old >= 0:
			if c.Action != dns.Retire {
				u.Remove([]mdns.RR{mdns.Copy(set[old])})
			}
			u.Used(set) // nobody changes it between this look and the update
		case c.Action != dns.Remove:
			return nil, dns.ErrChanged
		}
	}
	if err := z.mark(ctx, u, c); err != nil {
		return nil, err
	}
	if c.Action == dns.Remove || c.Action == dns.Retire {
		if len(u.Ns) == 0 {
			return nil, nil
		}
		return u, nil
	}
	rr, err := z.rr(c.Record)
	if err != nil {
		return nil, err
	}
	if c.Action == dns.Create {
		alone := *rr.Header()
		alone.Rrtype = mdns.TypeCNAME
		if c.Record.Type == networks.CNAME {
			u.NameNotUsed([]mdns.RR{rr})
		} else {
			u.RRsetNotUsed([]mdns.RR{&mdns.ANY{Hdr: alone}})
		}
	}
	u.Insert([]mdns.RR{rr})
	return u, nil
}

// mark writes the mark beside the record, in place of those that this cluster
// has for it.
func (z *Zone) mark(ctx context.Context, u *mdns.Msg, c dns.Change) error {
	name, err := txtmark.Name(c.Record.Name)
	if err != nil {
		return err
	}
	there, err := z.fetch(ctx, name, networks.TXT)
	if err != nil {
		return err
	}
	covered := []txtmark.Fingerprint{txtmark.Of(c.Record)}
	if c.Old != nil {
		covered = append(covered, txtmark.Of(c.Old.Record))
	}
	for _, rr := range there {
		text := strings.Join(rr.(*mdns.TXT).Txt, "")
		e, err := txtmark.Parse(text)
		if err != nil || e.Mark.Cluster != c.Mark.Cluster {
			continue
		}
		orphan := c.Old != nil && c.Old.Orphan && c.Old.Content == text
		if orphan || slices.ContainsFunc(covered, func(f txtmark.Fingerprint) bool { return slices.Contains(e.Covers, f) }) {
			u.Remove([]mdns.RR{rr})
		}
	}
	if c.Action == dns.Remove {
		return nil
	}
	rr, err := z.rr(networks.Record{Name: name, Type: networks.TXT, Content: txtmark.For(c.Mark, c.Record).Text()})
	if err != nil {
		return err
	}
	u.Insert([]mdns.RR{rr})
	return nil
}

// fetch asks for the records of one name and type.
func (z *Zone) fetch(ctx context.Context, name string, kind networks.RecordType) ([]mdns.RR, error) {
	m := new(mdns.Msg)
	m.SetQuestion(mdns.Fqdn(name), mdns.StringToType[string(kind)])
	m.RecursionDesired = false
	answer, err := z.exchange(ctx, m)
	if err != nil {
		return nil, err
	}
	if answer.Rcode != mdns.RcodeSuccess && answer.Rcode != mdns.RcodeNameError {
		return nil, errors.New("the server answers " + mdns.RcodeToString[answer.Rcode])
	}
	return slices.DeleteFunc(answer.Answer, func(rr mdns.RR) bool {
		h := rr.Header()
		return networkName(h.Name) != name || h.Rrtype != m.Question[0].Qtype
	}), nil
}
