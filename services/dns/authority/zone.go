// Package authority serves zones to private clients and hands them to
// secondaries: an authoritative DNS server (RFC 1034, RFC 1035).
package authority

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	mdns "github.com/miekg/dns"

	"skep/networks"
)

// Zone is one version of a zone. It does not change.
type Zone struct {
	origin  string // lower case, ends with a dot
	soa     *mdns.SOA
	records []mdns.RR // all but the SOA, sorted
	names   map[string]node
}

// node is what lies at a name: records by type. A name that only has names
// below it has none (RFC 4592, 2.2.2).
type node map[uint16][]mdns.RR

// SOA's times, in seconds: refresh, retry, expire and the TTL of a negative
// answer.
const (
	refresh     = 3600
	retry       = 600
	expire      = 604800
	negativeTTL = 300
)

// NewZone makes a zone of records, which are hosts and aliases: nothing below
// the origin is delegated. Servers are the host names of its name
// servers; the first is the primary.
func NewZone(domain string, servers []string, records []networks.Record, serial uint32) (*Zone, error) {
	if len(servers) == 0 {
		servers = []string{"ns." + domain}
	}
	origin := mdns.CanonicalName(domain)
	header := func(kind uint16) mdns.RR_Header {
		return mdns.RR_Header{Name: origin, Rrtype: kind, Class: mdns.ClassINET, Ttl: negativeTTL}
	}
	z := &Zone{origin: origin, names: map[string]node{}, soa: &mdns.SOA{
		Hdr: header(mdns.TypeSOA), Ns: mdns.CanonicalName(servers[0]), Mbox: "hostmaster." + origin, Serial: serial,
		Refresh: refresh, Retry: retry, Expire: expire, Minttl: negativeTTL,
	}}
	for _, s := range servers {
		z.records = append(z.records, &mdns.NS{Hdr: header(mdns.TypeNS), Ns: mdns.CanonicalName(s)})
	}
	// The master file's rules hold here too: one CNAME a name, one TTL a set.
	text, err := networks.Zone{Name: domain, Domain: domain, Records: records}.File()
	if err != nil {
		return nil, err
	}
	parser := mdns.NewZoneParser(strings.NewReader(text), origin, "")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		kind := rr.Header().Rrtype
		if kind == mdns.TypeSOA || kind == mdns.TypeNS && rr.Header().Name == origin {
			continue // placeholders
		}
		rr.Header().Name = strings.ToLower(rr.Header().Name)
		z.records = append(z.records, rr)
	}
	if err := parser.Err(); err != nil {
		return nil, fmt.Errorf("zone %s: %w", domain, err)
	}
	slices.SortFunc(z.records, func(a, b mdns.RR) int { return cmp.Compare(a.String(), b.String()) })
	z.index()
	return z, nil
}

func (z *Zone) index() {
	z.add(z.soa)
	for _, rr := range z.records {
		z.add(rr)
	}
}

func (z *Zone) add(rr mdns.RR) {
	name := rr.Header().Name
	for at := name; at != z.origin; { // the names between have to exist
		at = parent(at)
		if _, ok := z.names[at]; !ok {
			z.names[at] = node{}
		}
	}
	if z.names[name] == nil {
		z.names[name] = node{}
	}
	kind := rr.Header().Rrtype
	z.names[name][kind] = append(z.names[name][kind], rr)
}

// parent takes the first label off. Names here hold no escaped dots: hosts do
// not, and of a question's name only a hit in the map counts.
func parent(name string) string {
	_, rest, _ := strings.Cut(name, ".")
	return rest
}

// Serial of the version.
func (z *Zone) Serial() uint32 { return z.soa.Serial }

// Len counts the records.
func (z *Zone) Len() int { return len(z.records) + 1 }

// same reports whether two versions hold the same records.
func (z *Zone) same(o *Zone) bool {
	return slices.EqualFunc(z.records, o.records, func(a, b mdns.RR) bool { return a.String() == b.String() })
}

// NextSerial follows a serial: the time in seconds, so that a server which has
// lost its state still goes forward, or the old serial and one (RFC 1982).
func NextSerial(old uint32, now time.Time) uint32 {
	at := uint32(now.Unix())
	if old != 0 && int32(at-old) <= 0 {
		at = old + 1
	}
	return max(at, 1)
}

// answer is what a zone says to a question.
type answer struct {
	rcode     int
	answer    []mdns.RR
	authority []mdns.RR
}

// maxChase is how many CNAMEs within the zone one answer follows.
const maxChase = 8

// lookup answers a question for a name in the zone (RFC 1034, 4.3.2). The name
// is in lower case.
func (z *Zone) lookup(name string, kind uint16) answer {
	var a answer
	for range maxChase {
		n, synthetic, ok := z.find(name)
		if !ok {
			a.rcode, a.authority = mdns.RcodeNameError, []mdns.RR{z.soa}
			return a
		}
		if alias := n[mdns.TypeCNAME]; alias != nil && kind != mdns.TypeCNAME && kind != mdns.TypeANY {
			a.answer = append(a.answer, rename(alias, name, synthetic)...)
			name = strings.ToLower(alias[0].(*mdns.CNAME).Target)
			if !mdns.IsSubDomain(z.origin, name) {
				return a
			}
			continue
		}
		set := n[kind]
		if kind == mdns.TypeANY {
			set = n.any()
		}
		if set == nil {
			a.authority = []mdns.RR{z.soa}
			return a
		}
		a.answer = append(a.answer, rename(set, name, synthetic)...)
		return a
	}
	return answer{rcode: mdns.RcodeServerFailure}
}

// any picks one set, the way that costs least (RFC 8482, 4.1).
func (n node) any() []mdns.RR {
	var least uint16
	for kind := range n {
		if least == 0 || kind < least {
			least = kind
		}
	}
	return n[least]
}

// find returns the node of a name, or of the wildcard that covers it.
func (z *Zone) find(name string) (n node, synthetic, ok bool) {
	if n, ok = z.names[name]; ok {
		return n, false, true
	}
	for name != z.origin && name != "" {
		name = parent(name)
		if _, ok := z.names[name]; ok { // the closest encloser (RFC 4592, 3.3.1)
			n, ok = z.names["*."+name]
			return n, true, ok
		}
	}
	return nil, false, false
}

// rename gives records the name that was asked for.
func rename(set []mdns.RR, name string, synthetic bool) []mdns.RR {
	if !synthetic {
		return set
	}
	out := make([]mdns.RR, len(set))
	for i, rr := range set {
		out[i] = mdns.Copy(rr)
		out[i].Header().Name = name
	}
	return out
}

// delta leads from one version to the next.
type delta struct {
	from, to       *mdns.SOA
	removed, added []mdns.RR
}

func diff(old, now *Zone) delta {
	d := delta{from: old.soa, to: now.soa}
	have := map[string]bool{}
	for _, rr := range old.records {
		have[rr.String()] = true
	}
	for _, rr := range now.records {
		if key := rr.String(); have[key] {
			delete(have, key)
		} else {
			d.added = append(d.added, rr)
		}
	}
	for _, rr := range old.records {
		if have[rr.String()] {
			d.removed = append(d.removed, rr)
		}
	}
	return d
}
