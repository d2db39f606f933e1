package authority

import (
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"skep/networks"
)

// sink is a client that takes answers.
type sink struct {
	addr   net.Addr
	status error
	wrote  []*mdns.Msg
}

func (s *sink) LocalAddr() net.Addr         { return s.addr }
func (s *sink) RemoteAddr() net.Addr        { return s.addr }
func (s *sink) WriteMsg(m *mdns.Msg) error  { s.wrote = append(s.wrote, m); return nil }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }
func (s *sink) Close() error                { return nil }
func (s *sink) TsigStatus() error           { return s.status }
func (s *sink) TsigTimersOnly(bool)         {}
func (s *sink) Hijack()                     {}

func fuzzServer(t testing.TB) *Server {
	s, err := New(Config{
		Allow: Private, Key: &Key{Name: "key", Secret: "c2VjcmV0"}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Metrics: NewMetrics(prometheus.NewRegistry()), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		records := []networks.Record{
			{Name: "a.example.com", Type: networks.A, Content: "10.0.0.1"},
			{Name: "*.w.example.com", Type: networks.CNAME, Content: "a.example.com"},
			{Name: "x.y.example.com", Type: networks.TXT, Content: "text"},
			{Name: "loop.example.com", Type: networks.CNAME, Content: "loop.example.com"},
		}
		if _, err := s.Update("example.com", records[:2+i%2]); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// Whatever a packet holds, the server does not fall over, answers it at most
// once with what fits, and hands out the zone to nobody without the key.
func FuzzPackets(f *testing.F) {
	seed := func(edit func(*mdns.Msg)) {
		m := new(mdns.Msg)
		m.SetQuestion("a.w.example.com.", mdns.TypeA)
		edit(m)
		if p, err := m.Pack(); err == nil {
			f.Add(p)
		}
	}
	seed(func(*mdns.Msg) {})
	seed(func(m *mdns.Msg) { m.SetEdns0(65535, true) })
	seed(func(m *mdns.Msg) { m.SetEdns0(0, false); m.IsEdns0().SetVersion(7) })
	seed(func(m *mdns.Msg) { m.SetAxfr("example.com.") })
	seed(func(m *mdns.Msg) { m.SetIxfr("example.com.", 1, "a.", "b.") })
	seed(func(m *mdns.Msg) { m.SetIxfr("example.com.", 1, "a.", "b."); m.Ns = nil })
	seed(func(m *mdns.Msg) { m.SetTsig("key.", mdns.HmacSHA256, 300, 1) })
	seed(func(m *mdns.Msg) { m.Question[0].Name = `\000.\255\.w.example.com.` })
	seed(func(m *mdns.Msg) { m.Question[0].Name = "." })
	seed(func(m *mdns.Msg) { m.SetUpdate("example.com.") })
	seed(func(m *mdns.Msg) { m.SetNotify("example.com.") })
	f.Add([]byte{})
	f.Add([]byte{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1}) // a name that points at itself
	s := fuzzServer(f)
	inside := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.1.2.3:5353"))
	outside := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:53"))
	stream := net.TCPAddrFromAddrPort(netip.MustParseAddrPort("[fd00::1]:5353"))
	f.Fuzz(func(t *testing.T, packet []byte) {
		for _, client := range []*sink{{addr: inside}, {addr: outside}, {addr: stream, status: mdns.ErrSig}, {addr: stream}} {
			m := new(mdns.Msg)
			if m.Unpack(packet) != nil || accept(headerOf(packet)) != mdns.MsgAccept {
				return // the library has answered it, or not
			}
			s.ServeDNS(client, m)
			transfer := len(m.Question) == 1 && (m.Question[0].Qtype == mdns.TypeAXFR || m.Question[0].Qtype == mdns.TypeIXFR)
			signed := m.IsTsig() != nil && client.status == nil
			if len(client.wrote) == 0 || len(client.wrote) > 1 && !transfer {
				t.Fatalf("%d answers", len(client.wrote))
			}
			for _, answer := range client.wrote {
				if answer.Id != m.Id || !answer.Response {
					t.Fatalf("an answer to something else: %v", answer)
				}
				if client.addr == net.Addr(outside) && (answer.Rcode != mdns.RcodeRefused || len(answer.Answer)+len(answer.Ns) > 0) {
					t.Fatalf("a stranger gets %v", answer)
				}
				if transfer && !signed && len(answer.Answer) > 0 {
					t.Fatalf("the zone for nobody: %v", answer)
				}
				if answer.IsTsig() != nil {
					continue // signing needs the request's own bytes
				}
				wire, err := answer.Pack()
				if err != nil {
					t.Fatalf("an answer that cannot be written: %v", err)
				}
				if client.addr.Network() == "udp" && len(wire) > maxUDP {
					t.Fatalf("%d bytes over UDP", len(wire))
				}
			}
		}
	})
}

func headerOf(p []byte) mdns.Header {
	at := func(i int) uint16 { return uint16(p[i])<<8 | uint16(p[i+1]) }
	return mdns.Header{Id: at(0), Bits: at(2), Qdcount: at(4), Ancount: at(6), Nscount: at(8), Arcount: at(10)}
}

// Every answer about a zone of any records can be written, and names that exist
// are answered.
func FuzzZone(f *testing.F) {
	f.Add("a", "CNAME", "b.example.com", "a.example.com.")
	f.Add("*", "A", "10.0.0.1", "x.y.example.com.")
	f.Add("a.b.c", "TXT", "te\"xt\x00", "b.c.example.com.")
	f.Fuzz(func(t *testing.T, name, kind, content, question string) {
		record := networks.Record{Name: name + ".example.com", Type: networks.RecordType(kind), Content: content}
		z, err := NewZone("example.com", nil, []networks.Record{record}, 1)
		if err != nil {
			return
		}
		for _, q := range []string{question, record.Name + "."} {
			if _, ok := mdns.IsDomainName(q); !ok || !mdns.IsSubDomain("example.com.", q) {
				continue
			}
			a := z.lookup(mdns.CanonicalName(q), mdns.StringToType[kind])
			m := &mdns.Msg{Answer: a.answer, Ns: a.authority}
			m.SetQuestion(mdns.CanonicalName(q), mdns.StringToType[kind])
			if _, err := m.Pack(); err != nil {
				t.Fatalf("%s: %v", q, err)
			}
			if q == record.Name+"." && len(a.answer) == 0 && a.rcode != mdns.RcodeServerFailure {
				t.Fatalf("%v is not found", record)
			}
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	s := fuzzServer(b)
	client := &sink{addr: net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.1.2.3:5353"))}
	for _, q := range []struct {
		name string
		kind uint16
	}{{"a.example.com.", mdns.TypeA}, {"x.w.example.com.", mdns.TypeA}, {"nobody.example.com.", mdns.TypeA}} {
		m := new(mdns.Msg)
		m.SetQuestion(q.name, q.kind)
		m.SetEdns0(1232, false)
		b.Run(q.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				client.wrote = client.wrote[:0]
				s.ServeDNS(client, m)
				if _, err := client.wrote[0].Pack(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
