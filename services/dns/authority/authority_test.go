package authority_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"skep/internal/logtest"
	"skep/internal/polltest"
	"skep/networks"
	"skep/services/dns/authority"
	"skep/services/dns/dnstest"
)

const domain = "in.example.com"

// patience is with one answer.
const patience = 30 * time.Second

func record(name string, kind networks.RecordType, content string) networks.Record {
	if name == "@" {
		return networks.Record{Name: domain, Type: kind, Content: content}
	}
	return networks.Record{Name: name + "." + domain, Type: kind, Content: content}
}

var records = []networks.Record{
	record("@", networks.A, "10.0.0.10"),
	record("ns", networks.A, "10.0.0.53"),
	record("node1", networks.A, "10.0.0.11"),
	record("node1", networks.AAAA, "fd00::11"),
	record("sonarr", networks.CNAME, "node1."+domain),
	record("chain", networks.CNAME, "sonarr."+domain),
	record("outside", networks.CNAME, "www.example.net"),
	record("dangling", networks.CNAME, "nobody."+domain),
	record("loop", networks.CNAME, "loop2."+domain),
	record("loop2", networks.CNAME, "loop."+domain),
	record("*.apps", networks.CNAME, "node1."+domain),
	record("a.b.deep", networks.A, "10.0.0.12"),
	record("text", networks.TXT, "hello"),
}

// start serves until the test ends.
func start(t testing.TB, c authority.Config) (*authority.Server, *dnstest.Server) {
	t.Helper()
	if c.Allow == nil {
		c.Allow = authority.Private
	}
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	c.Metrics = authority.NewMetrics(prometheus.NewRegistry())
	if c.Now == nil {
		c.Now = time.Now
	}
	s, err := authority.New(c)
	if err != nil {
		t.Fatal(err)
	}
	packets, l, err := authority.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Serve(ctx, packets, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s, &dnstest.Server{Addr: l.Addr().String(), Zone: domain + "."}
}

func serve(t testing.TB, c authority.Config, records ...networks.Record) (*authority.Server, *dnstest.Server) {
	t.Helper()
	s, at := start(t, c)
	if _, err := s.Update(domain, records); err != nil {
		t.Fatal(err)
	}
	return s, at
}

var key = &authority.Key{Name: dnstest.Key, Secret: dnstest.Secret}

// short writes an answer on one line: code, flags, answer | authority.
func short(m *mdns.Msg) string {
	out := mdns.RcodeToString[m.Rcode]
	if m.Authoritative {
		out += " aa"
	}
	if m.Truncated {
		out += " tc"
	}
	for _, rr := range m.Answer {
		out += "; " + strings.Join(strings.Fields(rr.String())[:1], "") + " " + strings.Join(strings.Fields(rr.String())[3:], " ")
	}
	for _, rr := range m.Ns {
		out += " | " + mdns.TypeToString[rr.Header().Rrtype]
	}
	return out
}

func ask(t testing.TB, at *dnstest.Server, network, name string, kind, class uint16, options ...func(*mdns.Msg)) *mdns.Msg {
	t.Helper()
	m := new(mdns.Msg)
	m.SetQuestion(mdns.Fqdn(name), kind)
	m.Question[0].Qclass = class
	for _, o := range options {
		o(m)
	}
	answer, _, err := (&mdns.Client{Net: network, Timeout: patience, TsigSecret: map[string]string{dnstest.Key: dnstest.Secret}}).Exchange(m, at.Addr)
	if err != nil && answer == nil {
		t.Fatalf("%s %s: %v", name, mdns.TypeToString[kind], err)
	}
	return answer
}

func TestAnswers(t *testing.T) {
	_, at := serve(t, authority.Config{}, records...)
	in := uint16(mdns.ClassINET)
	for _, test := range []struct {
		name        string
		kind, class uint16
		want        string
	}{
		{"node1", mdns.TypeA, in, "NOERROR aa; node1.in.example.com. A 10.0.0.11"},
		{"NODE1", mdns.TypeAAAA, in, "NOERROR aa; NODE1.in.example.com. AAAA fd00::11"},
		{"node1", mdns.TypeMX, in, "NOERROR aa | SOA"},
		{"sonarr", mdns.TypeA, in, "NOERROR aa; sonarr.in.example.com. CNAME node1.in.example.com.; node1.in.example.com. A 10.0.0.11"},
		{"sonarr", mdns.TypeCNAME, in, "NOERROR aa; sonarr.in.example.com. CNAME node1.in.example.com."},
		{"chain", mdns.TypeA, in, "NOERROR aa; chain.in.example.com. CNAME sonarr.in.example.com.; sonarr.in.example.com. CNAME node1.in.example.com.; node1.in.example.com. A 10.0.0.11"},
		{"chain", mdns.TypeTXT, in, "NOERROR aa; chain.in.example.com. CNAME sonarr.in.example.com.; sonarr.in.example.com. CNAME node1.in.example.com. | SOA"},
		{"outside", mdns.TypeA, in, "NOERROR aa; outside.in.example.com. CNAME www.example.net."},
		{"dangling", mdns.TypeA, in, "NXDOMAIN aa; dangling.in.example.com. CNAME nobody.in.example.com. | SOA"},
		{"loop", mdns.TypeA, in, "SERVFAIL aa"},
		{"x.apps", mdns.TypeA, in, "NOERROR aa; x.apps.in.example.com. CNAME node1.in.example.com.; node1.in.example.com. A 10.0.0.11"},
		{"y.x.apps", mdns.TypeCNAME, in, "NOERROR aa; y.x.apps.in.example.com. CNAME node1.in.example.com."},
		{"apps", mdns.TypeA, in, "NOERROR aa | SOA"}, // has names below it
		{"b.deep", mdns.TypeA, in, "NOERROR aa | SOA"},
		{"x.b.deep", mdns.TypeA, in, "NXDOMAIN aa | SOA"},
		{"nobody", mdns.TypeA, in, "NXDOMAIN aa | SOA"},
		{"text", mdns.TypeTXT, in, `NOERROR aa; text.in.example.com. TXT "hello"`},
		{"node1", mdns.TypeANY, in, "NOERROR aa; node1.in.example.com. A 10.0.0.11"},
		{"node1", mdns.TypeA, mdns.ClassCHAOS, "REFUSED"},
		{"node1", mdns.TypeAXFR, in, "REFUSED aa"}, // not signed
		{"node1", mdns.TypeMAILB, in, "NOTIMP"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			got := short(ask(t, at, network, test.name+"."+domain, test.kind, test.class))
			if want := strings.TrimSuffix(test.want, " aa"); got != test.want && !(test.kind == mdns.TypeAXFR && got == want) {
				t.Errorf("%s %s over %s:\ngot  %s\nwant %s", test.name, mdns.TypeToString[test.kind], network, got, test.want)
			}
		}
	}
	if got := short(ask(t, at, "udp", "example.org", mdns.TypeA, in)); got != "REFUSED" {
		t.Errorf("another zone: %s", got)
	}
	if got := short(ask(t, at, "udp", domain, mdns.TypeNS, in)); got != "NOERROR aa; in.example.com. NS ns.in.example.com." {
		t.Errorf("name servers: %s", got)
	}
}

// Real resolvers ask with EDNS, and drill with dig's options.
func TestEDNSAndTruncation(t *testing.T) {
	var many []networks.Record
	for i := range 120 {
		many = append(many, record("many", networks.A, fmt.Sprintf("10.1.0.%d", i+1)))
	}
	_, at := serve(t, authority.Config{Key: key}, many...)
	size := func(n uint16) func(*mdns.Msg) { return func(m *mdns.Msg) { m.SetEdns0(n, true) } }
	sign := func(m *mdns.Msg) { m.SetTsig(dnstest.Key, mdns.HmacSHA256, 300, time.Now().Unix()) }
	for name, test := range map[string]struct {
		network string
		options []func(*mdns.Msg)
		full    bool
		limit   int
	}{
		"plain":     {"udp", nil, false, 512},
		"EDNS":      {"udp", []func(*mdns.Msg){size(4096)}, false, 1232},
		"EDNS tiny": {"udp", []func(*mdns.Msg){size(1)}, false, 512},
		"signed":    {"udp", []func(*mdns.Msg){size(4096), sign}, false, 1232},
		"TCP":       {"tcp", nil, true, 65535},
		"TCP EDNS":  {"tcp", []func(*mdns.Msg){size(512), sign}, true, 65535},
	} {
		m := ask(t, at, test.network, "many."+domain, mdns.TypeA, mdns.ClassINET, test.options...)
		m.Compress = true
		if m.Truncated == test.full || (len(m.Answer) == len(many)) != test.full || m.Len() > test.limit {
			t.Errorf("%s: truncated %v, %d answers, %d bytes", name, m.Truncated, len(m.Answer), m.Len())
		}
		if (len(test.options) > 0) != (m.IsEdns0() != nil) {
			t.Errorf("%s: EDNS in the answer: %v", name, m.IsEdns0())
		}
	}
	version := func(m *mdns.Msg) {
		m.SetEdns0(1232, false)
		m.IsEdns0().SetVersion(1)
	}
	if m := ask(t, at, "udp", "many."+domain, mdns.TypeA, mdns.ClassINET, version); m.Rcode != mdns.RcodeBadVers || len(m.Answer) > 0 {
		t.Errorf("EDNS version 1: %s", short(m))
	}
}

func TestOnlyPrivateClients(t *testing.T) {
	_, at := serve(t, authority.Config{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Key: key}, records...)
	for _, network := range []string{"udp", "tcp"} {
		for _, kind := range []uint16{mdns.TypeA, mdns.TypeSOA, mdns.TypeANY} {
			if got := short(ask(t, at, network, "node1."+domain, kind, mdns.ClassINET)); got != "REFUSED" {
				t.Errorf("%s %s: %s", network, mdns.TypeToString[kind], got)
			}
		}
	}
	for addr, want := range map[string]bool{"8.8.8.8": false, "172.32.0.1": false, "172.31.0.1": true, "::1": true, "2001:db8::1": false, "fd12::1": true} {
		if got := slices.ContainsFunc(authority.Private, func(p netip.Prefix) bool { return p.Contains(netip.MustParseAddr(addr)) }); got != want {
			t.Errorf("%s is private: %v", addr, got)
		}
	}
}

func TestTransferNeedsTheKey(t *testing.T) {
	_, at := serve(t, authority.Config{Key: key}, records...)
	other := base64.StdEncoding.EncodeToString([]byte("not the secret of this key"))
	for name, test := range map[string]struct{ key, secret string }{
		"unsigned": {}, "another key": {"nobody.", dnstest.Secret}, "another secret": {dnstest.Key, other},
	} {
		m := new(mdns.Msg)
		m.SetAxfr(at.Zone)
		tr := &mdns.Transfer{DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience}
		if test.key != "" {
			m.SetTsig(test.key, mdns.HmacSHA256, 300, time.Now().Unix())
			tr.TsigSecret = map[string]string{test.key: test.secret}
		}
		envelopes, err := tr.In(m, at.Addr)
		if err != nil {
			t.Fatal(err)
		}
		for e := range envelopes {
			if e.Error == nil || len(e.RR) > 0 {
				t.Errorf("%s: handed out %d records", name, len(e.RR))
			}
		}
	}
	if got := len(at.Transfer(t)); got != len(records) {
		t.Errorf("with the key: %d records, want %d", got, len(records))
	}
	signed := func(m *mdns.Msg) { m.SetTsig("nobody.", mdns.HmacSHA256, 300, time.Now().Unix()) }
	m := new(mdns.Msg)
	m.SetQuestion(domain+".", mdns.TypeSOA)
	signed(m)
	answer, _, _ := (&mdns.Client{Timeout: patience, TsigSecret: map[string]string{"nobody.": dnstest.Secret}}).Exchange(m, at.Addr)
	if answer == nil || answer.Rcode != mdns.RcodeNotAuth || answer.IsTsig() == nil || answer.IsTsig().Error != mdns.RcodeBadKey {
		t.Errorf("a question signed with an unknown key: %v", answer)
	}
}

func TestSecondariesNeedAKey(t *testing.T) {
	if _, err := authority.New(authority.Config{Secondaries: []string{"127.0.0.1:1"}}); err == nil {
		t.Error("secondaries without a key")
	}
}

// Secondaries of two makes follow every change, by increments.
func TestSecondaries(t *testing.T) {
	for name, run := range map[string]func(testing.TB, string, string, string) *dnstest.Server{
		"knot": dnstest.KnotSecondary, "bind": dnstest.BINDSecondary,
	} {
		t.Run(name, func(t *testing.T) {
			port := dnstest.FreePort(t)
			log := &logtest.Buffer{}
			s, primary := serve(t, authority.Config{Key: key, Secondaries: []string{"127.0.0.1:" + port}, Log: slog.New(slog.NewTextHandler(log, nil))}, records...)
			secondary := run(t, domain+".", port, primary.Addr)
			follow := func() {
				t.Helper()
				polltest.Until(t, func() error {
					want, _ := s.Serial(domain)
					got, err := secondary.Serial()
					if err == nil && got != want {
						err = fmt.Errorf("the secondary has serial %d, the primary %d", got, want)
					}
					return err
				})
			}
			follow()
			whole := strings.Count(log.String(), "type=AXFR") // some servers ask twice before they serve
			for i := range 3 {
				changed := append(slices.Clone(records[:len(records)-1-i]), record(fmt.Sprintf("new%d", i), networks.A, "10.0.0.99"))
				if ok, err := s.Update(domain, changed); err != nil || !ok {
					t.Fatalf("update: %v %v", ok, err)
				}
				follow()
				answer, err := secondary.Ask(fmt.Sprintf("new%d.%s", i, domain), mdns.TypeA)
				if err != nil || len(answer.Answer) != 1 {
					t.Fatalf("the secondary says %v %v", answer, err)
				}
				gone := records[len(records)-1-i].Name
				answer, err = secondary.Ask(gone, mdns.TypeTXT)
				if err != nil || answer.Rcode != mdns.RcodeNameError {
					t.Errorf("the secondary still has %s: %v %v", gone, answer, err)
				}
			}
			// One that is told twice may ask twice.
			if more, steps := strings.Count(log.String(), "type=AXFR")-whole, strings.Count(log.String(), "type=IXFR"); more > 0 || steps < 3 {
				t.Errorf("of three changes %d whole transfers and %d increments", more, steps)
			}
		})
	}
}

// An incremental transfer brings an old version to the newest.
func TestIncremental(t *testing.T) {
	now := time.Unix(1700000000, 0)
	s, at := serve(t, authority.Config{Key: key, Now: func() time.Time { return now }}, records...)
	first, _ := s.Serial(domain)
	if ok, err := s.Update(domain, slices.Concat(records, records[:2])); ok || err != nil {
		t.Errorf("the same records again: %v %v", ok, err)
	}
	for i := range 3 {
		if _, err := s.Update(domain, append(slices.Clone(records), record("extra", networks.A, fmt.Sprintf("10.0.1.%d", i)))); err != nil {
			t.Fatal(err)
		}
	}
	last, _ := s.Serial(domain)
	if last != first+3 {
		t.Errorf("serial %d, want %d: time stood still", last, first+3)
	}
	ixfr := func(serial uint32) []mdns.RR {
		m := new(mdns.Msg)
		m.SetIxfr(at.Zone, serial, "ns.", "hostmaster.")
		m.SetTsig(dnstest.Key, mdns.HmacSHA256, 300, time.Now().Unix())
		conn, err := net.Dial("tcp", at.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := &mdns.Conn{Conn: conn, TsigSecret: map[string]string{dnstest.Key: dnstest.Secret}}
		if err := c.WriteMsg(m); err != nil {
			t.Fatal(err)
		}
		answer, err := c.ReadMsg()
		if answer == nil {
			t.Fatal(err)
		}
		return answer.Answer
	}
	if got := ixfr(last); len(got) != 1 {
		t.Errorf("from the newest: %d records", len(got))
	}
	if got := ixfr(last + 5); len(got) != 1 {
		t.Errorf("from the future: %d records", len(got))
	}
	var steps []string
	for _, rr := range ixfr(last - 2) {
		switch rr := rr.(type) {
		case *mdns.SOA:
			steps = append(steps, fmt.Sprintf("SOA %d", int64(rr.Serial)-int64(last)))
		case *mdns.A:
			steps = append(steps, rr.A.String())
		}
	}
	want := "SOA 0, SOA -2, 10.0.1.0, SOA -1, 10.0.1.1, SOA -1, 10.0.1.1, SOA 0, 10.0.1.2, SOA 0"
	if got := strings.Join(steps, ", "); got != want {
		t.Errorf("from two before:\ngot  %s\nwant %s", got, want)
	}
	if got := ixfr(first - 1000); len(got) != len(records)+1+1+2 {
		t.Errorf("from the unknown: %d records, want all", len(got))
	}
}

func TestNextSerial(t *testing.T) {
	at := time.Unix(1700000000, 0)
	for old, want := range map[uint32]uint32{
		0: 1700000000, 1699999999: 1700000000, 1700000000: 1700000001, 1700000005: 1700000006, 1: 1700000000,
	} {
		if got := authority.NextSerial(old, at); got != want {
			t.Errorf("after %d: %d, want %d", old, got, want)
		}
	}
}

// dig reads what the server writes.
func TestDig(t *testing.T) {
	dig, err := exec.LookPath("dig")
	if err != nil {
		dnstest.Need(t, "dig", "bind9-dnsutils")
	}
	_, at := serve(t, authority.Config{Key: key}, records...)
	host, port, _ := net.SplitHostPort(at.Addr)
	for _, args := range [][]string{
		{"+cookie", "sonarr." + domain}, {"+tcp", "+dnssec", "chain." + domain}, {"+nsid", "+subnet=10.0.0.0/8", "x.apps." + domain},
		{"-y", "hmac-sha256:" + dnstest.Key + ":" + dnstest.Secret, domain, "AXFR"},
	} {
		out, err := exec.Command(dig, append([]string{"@" + host, "-p", port, "+tries=1", "+time=30", "+norecurse"}, args...)...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "10.0.0.11") || strings.Contains(string(out), "WARNING") || strings.Contains(string(out), "malformed") {
			t.Errorf("dig %v: %v\n%s", args, err, out)
		}
	}
}
