// Package rfc2136 keeps records of a zone by dynamic updates, signed with TSIG
// (RFC 2136, RFC 8945). It lists the zone by transfer (RFC 5936).
package rfc2136

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	mdns "github.com/miekg/dns"

	"skep/networks"
	"skep/services/dns"
	"skep/services/dns/txtmark"
)

// Config says where the primary server is and how to sign.
type Config struct {
	Server    string // host:port
	Key       string // name of the TSIG key
	Algorithm string // hmac-sha256 if empty
	Secret    string // base64
}

// defaultTTL is for records and marks that leave it to the provider, in
// seconds: a dynamic update has to say one.
const defaultTTL = 300

const timeout = 10 * time.Second

// Zone is one zone of the cluster at a server. Marks are TXT records, written
// in one transaction with the record, on the condition that the record is what
// the plan saw.
type Zone struct {
	domain    string
	server    string
	zone      string // that the server has, once it is known; ends with a dot
	key       string
	algorithm string
	secrets   map[string]string
}

var _ dns.Provider = (*Zone)(nil)

// New makes a zone. An unsigned update is never sent.
func New(domain string, c Config) (*Zone, error) {
	if _, _, err := net.SplitHostPort(c.Server); err != nil {
		return nil, fmt.Errorf("the server %q is not of the form host:port", c.Server)
	}
	if c.Key == "" {
		return nil, errors.New("the name of the TSIG key is missing: updates are always signed")
	}
	if secret, err := base64.StdEncoding.DecodeString(c.Secret); err != nil || len(secret) == 0 {
		return nil, errors.New("the secret of the TSIG key is missing or no base64") // and is not shown
	}
	algorithm := mdns.Fqdn(strings.ToLower(c.Algorithm))
	switch {
	case c.Algorithm == "":
		algorithm = mdns.HmacSHA256
	case !slices.Contains([]string{mdns.HmacSHA224, mdns.HmacSHA256, mdns.HmacSHA384, mdns.HmacSHA512}, algorithm):
		return nil, fmt.Errorf("TSIG algorithm %q: hmac-sha224, -sha256, -sha384 or -sha512 are taken", c.Algorithm)
	}
	key := mdns.CanonicalName(c.Key)
	return &Zone{domain: domain, server: c.Server, key: key, algorithm: algorithm, secrets: map[string]string{key: c.Secret}}, nil
}

// Traits: a plain DNS server.
func (*Zone) Traits() dns.Traits { return dns.Traits{} }

// exchange sends a signed message over TCP and insists on a signed answer.
func (z *Zone) exchange(ctx context.Context, m *mdns.Msg) (*mdns.Msg, error) {
	m.SetTsig(z.key, z.algorithm, 300, time.Now().Unix())
	client := &mdns.Client{Net: "tcp", Timeout: timeout, TsigSecret: z.secrets}
	answer, _, err := client.ExchangeContext(ctx, m, z.server)
	switch {
	case err != nil && answer != nil && answer.Rcode == mdns.RcodeNotAuth:
		return nil, z.notAuth(answer)
	case err != nil:
		return nil, fmt.Errorf("ask %s: %w", z.server, err)
	case answer.Rcode == mdns.RcodeNotAuth && answer.IsTsig() != nil && answer.IsTsig().Error != mdns.RcodeSuccess:
		return nil, z.notAuth(answer)
	case answer.IsTsig() == nil && answer.Rcode == mdns.RcodeSuccess:
		return nil, fmt.Errorf("ask %s: the answer is not signed", z.server)
	}
	return answer, nil
}

func (z *Zone) notAuth(answer *mdns.Msg) error {
	reason := "it does not accept the signature"
	if t := answer.IsTsig(); t != nil {
		switch t.Error {
		case mdns.RcodeBadKey:
			reason = "it does not know the key"
		case mdns.RcodeBadTime:
			reason = "its clock differs from this one"
		}
	}
	return fmt.Errorf("ask %s with TSIG key %s: %s", z.server, z.key, reason)
}

// find learns which zone of the server holds the domain.
func (z *Zone) find(ctx context.Context) error {
	if z.zone != "" {
		return nil
	}
	m := new(mdns.Msg)
	m.SetQuestion(mdns.Fqdn(z.domain), mdns.TypeSOA)
	m.RecursionDesired = false
	answer, err := z.exchange(ctx, m)
	if err != nil {
		return err
	}
	for _, rr := range slices.Concat(answer.Answer, answer.Ns) {
		if soa, ok := rr.(*mdns.SOA); ok && answer.Authoritative && mdns.IsSubDomain(soa.Hdr.Name, mdns.Fqdn(z.domain)) {
			z.zone = strings.ToLower(soa.Hdr.Name)
			return nil
		}
	}
	return fmt.Errorf("%s is not authoritative for %s (%s)", z.server, z.domain, mdns.RcodeToString[answer.Rcode])
}

// List transfers the zone.
func (z *Zone) List(ctx context.Context) ([]dns.Live, error) {
	if err := z.find(ctx); err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{Timeout: timeout}).DialContext(ctx, "tcp", z.server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	m := new(mdns.Msg)
	m.SetAxfr(z.zone)
	m.SetTsig(z.key, z.algorithm, 300, time.Now().Unix())
	transfer := &mdns.Transfer{Conn: &mdns.Conn{Conn: conn}, ReadTimeout: timeout, WriteTimeout: timeout, TsigSecret: z.secrets}
	envelopes, err := transfer.In(m, z.server)
	if err != nil {
		return nil, fmt.Errorf("transfer %s: %w", z.zone, err)
	}
	var records []dns.Live
	for e := range envelopes { // to its end, so that its goroutine ends too
		if e.Error != nil {
			err = e.Error
		}
		for _, rr := range e.RR {
			if l, ok := live(rr); ok {
				records = append(records, l)
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("transfer %s from %s with TSIG key %s: %w", z.zone, z.server, z.key, err)
	}
	return txtmark.Claim(records), nil
}

// live reads a record; what signs a zone stands in nobody's way.
func live(rr mdns.RR) (dns.Live, bool) {
	h := rr.Header()
	l := dns.Live{Record: networks.Record{
		Name: networkName(h.Name), Type: networks.RecordType(mdns.TypeToString[h.Rrtype]), TTL: h.Ttl,
	}}
	switch rr := rr.(type) {
	case *mdns.SOA, *mdns.RRSIG, *mdns.NSEC, *mdns.NSEC3, *mdns.NSEC3PARAM, *mdns.DNSKEY, *mdns.CDS, *mdns.CDNSKEY:
		return dns.Live{}, false
	case *mdns.A:
		l.Content = rr.A.String()
	case *mdns.AAAA:
		l.Content = rr.AAAA.String()
	case *mdns.CNAME:
		l.Content = networkName(rr.Target)
	case *mdns.TXT:
		l.Content = strings.Join(rr.Txt, "")
	default:
		l.Content = strings.TrimPrefix(rr.String(), h.String())
	}
	return l, true
}

func networkName(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }

func (z *Zone) rr(r networks.Record) (mdns.RR, error) {
	h := mdns.RR_Header{Name: mdns.Fqdn(r.Name), Class: mdns.ClassINET, Ttl: r.TTL, Rrtype: mdns.StringToType[string(r.Type)]}
	if h.Ttl == 0 {
		h.Ttl = defaultTTL
	}
	switch r.Type {
	case networks.A:
		return &mdns.A{Hdr: h, A: net.ParseIP(r.Content)}, nil
	case networks.AAAA:
		return &mdns.AAAA{Hdr: h, AAAA: net.ParseIP(r.Content)}, nil
	case networks.CNAME:
		return &mdns.CNAME{Hdr: h, Target: mdns.Fqdn(r.Content)}, nil
	case networks.TXT:
		return &mdns.TXT{Hdr: h, Txt: chunks(r.Content)}, nil
	}
	return nil, fmt.Errorf("no records of type %s are written", r.Type)
}

// chunks cuts text into character strings (RFC 1035, 3.3).
func chunks(s string) []string {
	var out []string
	for len(s) > 255 {
		out, s = append(out, s[:255]), s[255:]
	}
	return append(out, s)
}
