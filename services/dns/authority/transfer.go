package authority

import (
	"context"
	"slices"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
)

// transfer hands the zone to a secondary that signs with the key (RFC 5936,
// RFC 1995), or fills in the answer that says otherwise.
func (s *Server) transfer(w mdns.ResponseWriter, r, m *mdns.Msg, z *served, stream bool) (written bool) {
	q := r.Question[0]
	if mdns.CanonicalName(q.Name) != z.origin || r.IsTsig() == nil || s.config.Key == nil {
		m.Rcode = mdns.RcodeRefused
		return false
	}
	m.Authoritative = true
	records := z.full()
	if q.Qtype == mdns.TypeIXFR {
		if len(r.Ns) != 1 || r.Ns[0].Header().Rrtype != mdns.TypeSOA {
			m.Rcode = mdns.RcodeFormatError
			return false
		}
		have := r.Ns[0].(*mdns.SOA).Serial
		if !stream || int32(z.Serial()-have) <= 0 {
			// Over UDP the SOA alone says that there is more (RFC 1995, 2).
			m.Answer = []mdns.RR{z.soa}
			return false
		}
		if steps := z.since(have); steps != nil {
			records = steps
		}
	} else if !stream {
		m.Rcode = mdns.RcodeRefused
		return false
	}
	s.config.Metrics.transfer(mdns.TypeToString[q.Qtype])
	s.config.Log.Info("transfer", "zone", z.origin, "type", mdns.TypeToString[q.Qtype], "serial", z.Serial(),
		"records", len(records), "client", w.RemoteAddr().String())
	s.stream(w, r, records)
	return true
}

// full is a transfer of everything.
func (z *served) full() []mdns.RR {
	return slices.Concat([]mdns.RR{z.soa}, z.records, []mdns.RR{z.soa})
}

// since is a transfer of what changed after a version; nil when that is not
// known, or is more than everything.
func (z *served) since(serial uint32) []mdns.RR {
	i := slices.IndexFunc(z.history, func(d delta) bool { return d.from.Serial == serial })
	if i < 0 {
		return nil
	}
	out := []mdns.RR{z.soa}
	for _, d := range z.history[i:] {
		out = slices.Concat(out, []mdns.RR{d.from}, d.removed, []mdns.RR{d.to}, d.added)
	}
	if out = append(out, z.soa); len(out) > len(z.records)+2 {
		return nil
	}
	return out
}

// maxMessage is how many bytes of records go into one message of a transfer.
const maxMessage = 32 << 10

func (s *Server) stream(w mdns.ResponseWriter, r *mdns.Msg, records []mdns.RR) {
	t := r.IsTsig()
	for len(records) > 0 {
		size, n := 0, 0
		for n < len(records) && (n == 0 || size < maxMessage) {
			size += mdns.Len(records[n])
			n++
		}
		m := new(mdns.Msg)
		m.SetReply(r)
		m.Authoritative, m.Compress = true, true
		m.Answer, records = records[:n], records[n:]
		m.SetTsig(t.Hdr.Name, t.Algorithm, t.Fudge, time.Now().Unix())
		if err := w.WriteMsg(m); err != nil {
			s.config.Log.Warn("transfer ended early", "client", w.RemoteAddr().String(), "error", err)
			return
		}
		w.TsigTimersOnly(true)
	}
}

// tell notifies the secondaries of changes until the context ends (RFC 1996).
func (s *Server) tell(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-s.notify:
			s.tellAll(ctx)
		case <-ctx.Done():
		}
	}
}

// tellAll notifies all secondaries, until the next change.
func (s *Server) tellAll(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var workers sync.WaitGroup
	for _, z := range *s.zones.Load() {
		for _, secondary := range s.config.Secondaries {
			workers.Go(func() { s.tellOne(ctx, z.Zone, secondary) })
		}
	}
	told := make(chan struct{})
	go func() {
		workers.Wait()
		close(told)
	}()
	select {
	case <-s.notify: // an older change needs no more telling
		cancel()
		<-told
		s.again()
	case <-told:
	}
}

// maxNotify tries reach some ten minutes; then the secondary's own refresh has
// to do.
const maxNotify = 8

func (s *Server) tellOne(ctx context.Context, z *Zone, secondary string) {
	wait := time.Second
	for try := 1; ; try++ {
		m := new(mdns.Msg)
		m.SetNotify(z.origin)
		m.Answer = []mdns.RR{z.soa}
		m.SetTsig(s.config.Key.Name, s.config.Key.Algorithm, 300, time.Now().Unix())
		client := &mdns.Client{Timeout: 5 * time.Second, TsigSecret: s.secrets}
		answer, _, err := client.ExchangeContext(ctx, m, secondary)
		if err == nil && answer.Rcode == mdns.RcodeSuccess {
			s.config.Metrics.notified(secondary, true)
			return
		}
		if ctx.Err() != nil {
			return
		}
		s.config.Metrics.notified(secondary, false)
		reason := ""
		if err != nil {
			reason = err.Error()
		} else {
			reason = mdns.RcodeToString[answer.Rcode]
		}
		s.config.Log.Warn("notify", "zone", z.origin, "serial", z.Serial(), "secondary", secondary, "try", try, "answer", reason)
		if try == maxNotify {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
			wait *= 2
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}
