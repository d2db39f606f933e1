package authority

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mdns "github.com/miekg/dns"
	"golang.org/x/net/netutil"

	"skep/networks"
)

// Key is a TSIG key for transfers and notifications.
type Key struct {
	Name      string
	Algorithm string // hmac-sha256 if empty
	Secret    string // base64
}

// Config of a server.
type Config struct {
	// Allow are the clients that get answers; others are refused.
	Allow []netip.Prefix
	// Key signs transfers; without one nobody gets a transfer.
	Key *Key
	// Secondaries are told of changes, as host:port.
	Secondaries []string
	// NameServers are the host names of the zone's servers.
	NameServers []string
	Log         *slog.Logger
	Metrics     *Metrics
	Now         func() time.Time // for serials
}

// Private are the networks whose clients get answers unless told otherwise:
// loopback, RFC 1918, RFC 4193, link-local and RFC 6598.
var Private = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"),
}

// Server serves zones. It starts with none.
type Server struct {
	config  Config
	secrets map[string]string

	mu     sync.Mutex // of writers
	zones  atomic.Pointer[[]*served]
	notify chan struct{} // something changed since the last notification
}

// served is a zone and how it came to be what it is.
type served struct {
	*Zone
	history []delta // oldest first
}

// New makes a server.
func New(c Config) (*Server, error) {
	s := &Server{config: c, notify: make(chan struct{}, 1)}
	if c.Key != nil {
		key := *c.Key
		key.Name = mdns.CanonicalName(key.Name)
		if key.Algorithm == "" {
			key.Algorithm = mdns.HmacSHA256
		}
		key.Algorithm = mdns.CanonicalName(key.Algorithm)
		if key.Name == "." || key.Secret == "" {
			return nil, errors.New("the TSIG key needs a name and a secret")
		}
		s.config.Key, s.secrets = &key, map[string]string{key.Name: key.Secret}
	}
	if len(c.Secondaries) > 0 && c.Key == nil {
		return nil, errors.New("secondaries need a TSIG key: zones are handed out signed")
	}
	s.zones.Store(&[]*served{})
	return s, nil
}

const (
	// maxHistory is how many versions back an incremental transfer reaches.
	maxHistory = 64
	// maxConnections over TCP at once.
	maxConnections = 512
	// maxUDP is what passes everywhere without fragments
	// (https://www.dnsflagday.net/2020/).
	maxUDP = 1232
)

// Update serves new records of a zone. It reports whether they differ from the
// last, which is when the serial grows and secondaries are told.
func (s *Server) Update(domain string, records []networks.Record) (bool, error) {
	return s.update(domain, records, 0)
}

// Restore serves a version as it was written down.
func (s *Server) Restore(domain string, records []networks.Record, serial uint32) error {
	_, err := s.update(domain, records, serial)
	return err
}

func (s *Server) update(domain string, records []networks.Record, serial uint32) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	zones := slices.Clone(*s.zones.Load())
	origin := mdns.CanonicalName(domain)
	i := slices.IndexFunc(zones, func(z *served) bool { return z.origin == origin })
	old := uint32(0)
	if i >= 0 {
		old = zones[i].Serial()
	}
	if serial == 0 {
		serial = NextSerial(old, s.config.Now())
	}
	next, err := NewZone(domain, s.config.NameServers, records, serial)
	if err != nil {
		return false, err
	}
	switch {
	case i < 0:
		zones = append(zones, &served{Zone: next})
		// The longest origin first: it is the zone of a name.
		slices.SortFunc(zones, func(a, b *served) int { return mdns.CountLabel(b.origin) - mdns.CountLabel(a.origin) })
	case zones[i].same(next):
		return false, nil
	default:
		history := append(slices.Clone(zones[i].history), diff(zones[i].Zone, next))
		zones[i] = &served{Zone: next, history: history[max(0, len(history)-maxHistory):]}
	}
	s.zones.Store(&zones)
	s.config.Metrics.zone(next)
	s.config.Log.Info("zone", "origin", origin, "serial", next.Serial(), "records", next.Len())
	s.again()
	return true, nil
}

// again has the secondaries told, soon.
func (s *Server) again() {
	select {
	case s.notify <- struct{}{}:
	default:
	}
}

// Serial of a zone that is served.
func (s *Server) Serial(domain string) (uint32, bool) {
	if z := s.zone(mdns.CanonicalName(domain)); z != nil && z.origin == mdns.CanonicalName(domain) {
		return z.Serial(), true
	}
	return 0, false
}

func (s *Server) zone(name string) *served {
	for _, z := range *s.zones.Load() {
		if mdns.IsSubDomain(z.origin, name) {
			return z
		}
	}
	return nil
}

// Serve answers on both until the context ends, and then lets answers under
// way finish.
func (s *Server) Serve(ctx context.Context, packets []net.PacketConn, l net.Listener) error {
	servers := []*mdns.Server{{Listener: netutil.LimitListener(l, maxConnections), MaxTCPQueries: 256,
		ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: func() time.Duration { return 10 * time.Second }}}
	for _, p := range packets {
		servers = append(servers, &mdns.Server{PacketConn: p, UDPSize: mdns.MaxMsgSize})
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var workers sync.WaitGroup
	failures := make([]error, len(servers))
	up, down := make([]chan struct{}, len(servers)), make([]chan struct{}, len(servers))
	for i, server := range servers {
		up[i], down[i] = make(chan struct{}), make(chan struct{})
		server.Handler = s
		server.TsigSecret = s.secrets
		server.MsgAcceptFunc = accept
		server.MsgInvalidFunc = func([]byte, error) { s.config.Metrics.invalid() }
		server.NotifyStartedFunc = func() { close(up[i]) }
		workers.Go(func() {
			failures[i] = server.ActivateAndServe()
			close(down[i])
			cancel() // one alone is no server
		})
	}
	workers.Go(func() { s.tell(ctx) })
	<-ctx.Done()
	stop, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer done()
	for i, server := range servers {
		select {
		case <-up[i]: // before, it cannot be shut down
			_ = server.ShutdownContext(stop) // an error says that it has stopped already
		case <-down[i]:
		}
	}
	workers.Wait()
	return errors.Join(failures...)
}

// accept drops answers, and refuses what no question looks like.
func accept(h mdns.Header) mdns.MsgAcceptAction {
	if action := mdns.DefaultMsgAcceptFunc(h); action != mdns.MsgAccept {
		return action
	}
	if opcode := int(h.Bits>>11) & 0xF; opcode != mdns.OpcodeQuery {
		return mdns.MsgRejectNotImplemented
	}
	if h.Ancount > 0 {
		return mdns.MsgReject
	}
	return mdns.MsgAccept
}

// ServeDNS answers one question.
func (s *Server) ServeDNS(w mdns.ResponseWriter, r *mdns.Msg) {
	m := s.reply(w, r)
	if m == nil {
		return // a transfer, which has written itself
	}
	if err := w.WriteMsg(m); err != nil {
		s.config.Log.Debug("answer", "client", w.RemoteAddr().String(), "error", err)
	}
	s.config.Metrics.query(w.RemoteAddr().Network(), m.Rcode)
}

func (s *Server) reply(w mdns.ResponseWriter, r *mdns.Msg) *mdns.Msg {
	m := new(mdns.Msg)
	m.SetReply(r)
	m.Compress = true
	switch {
	case !s.allowed(w.RemoteAddr()):
		m.Rcode = mdns.RcodeRefused
		return m
	case len(r.Question) != 1: // a header alone passes, whatever it counts
		m.Rcode = mdns.RcodeFormatError
		return m
	}
	size := mdns.MinMsgSize
	if opt := r.IsEdns0(); opt != nil {
		m.SetEdns0(maxUDP, false) // options are left out: none is known
		size = min(max(int(opt.UDPSize()), mdns.MinMsgSize), maxUDP)
		if opt.Version() != 0 {
			m.Rcode = mdns.RcodeBadVers
			return m
		}
	}
	stream := w.RemoteAddr().Network() == "tcp"
	if stream {
		size = mdns.MaxMsgSize
	}
	t := r.IsTsig()
	if t != nil {
		if status := s.authentic(w); status != nil {
			return s.unauthentic(m, t, status)
		}
		size -= 256 // room for the signature
	}
	if s.resolve(w, r, m, stream) {
		return nil
	}
	m.Truncate(size)
	if t != nil {
		m.SetTsig(t.Hdr.Name, t.Algorithm, t.Fudge, time.Now().Unix())
	}
	return m
}

// resolve fills in the answer, or hands out a zone and reports so.
func (s *Server) resolve(w mdns.ResponseWriter, r, m *mdns.Msg, stream bool) (written bool) {
	q := r.Question[0]
	name := strings.ToLower(q.Name)
	z := s.zone(name)
	switch {
	case z == nil || q.Qclass != mdns.ClassINET:
		m.Rcode = mdns.RcodeRefused
	case q.Qtype == mdns.TypeAXFR || q.Qtype == mdns.TypeIXFR:
		return s.transfer(w, r, m, z, stream)
	case q.Qtype >= 128 && q.Qtype < mdns.TypeANY || q.Qtype == mdns.TypeOPT: // meta types (RFC 6895, 3.1)
		m.Rcode = mdns.RcodeNotImplemented
	default:
		a := z.lookup(name, q.Qtype)
		m.Authoritative, m.Rcode, m.Answer, m.Ns = true, a.rcode, a.answer, a.authority
		if name != q.Name {
			spell(m.Answer, name, q.Name)
		}
	}
	return false
}

// spell answers a name the way it was asked: clients compare the case that they
// have chosen at random.
func spell(answer []mdns.RR, name, asked string) {
	for i, rr := range answer {
		if rr.Header().Name == name {
			answer[i] = mdns.Copy(rr)
			answer[i].Header().Name = asked
		}
	}
}

// authentic says what is wrong with a message's signature. Without a key of its
// own the server has not looked at it.
func (s *Server) authentic(w mdns.ResponseWriter) error {
	if s.config.Key == nil {
		return mdns.ErrSecret
	}
	return w.TsigStatus()
}

// unauthentic answers a bad signature (RFC 8945, 5.2).
func (s *Server) unauthentic(m *mdns.Msg, t *mdns.TSIG, status error) *mdns.Msg {
	m.Rcode = mdns.RcodeNotAuth
	m.SetTsig(t.Hdr.Name, t.Algorithm, t.Fudge, time.Now().Unix())
	reply := m.IsTsig()
	switch {
	case errors.Is(status, mdns.ErrTime):
		reply.Error = mdns.RcodeBadTime
	case errors.Is(status, mdns.ErrSig):
		reply.Error = mdns.RcodeBadSig
	default:
		reply.Error = mdns.RcodeBadKey
	}
	return m
}

func (s *Server) allowed(a net.Addr) bool {
	ap, err := netip.ParseAddrPort(a.String())
	switch v := a.(type) {
	case *net.UDPAddr:
		ap, err = v.AddrPort(), nil
	case *net.TCPAddr:
		ap, err = v.AddrPort(), nil
	}
	if err != nil {
		return false
	}
	addr := ap.Addr().Unmap().WithZone("")
	return slices.ContainsFunc(s.config.Allow, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Listen opens UDP and TCP on an address.
func Listen(ctx context.Context, address string) ([]net.PacketConn, net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, nil, err
	}
	// The same port, whichever it became.
	p, err := config.ListenPacket(ctx, "udp", l.Addr().String())
	if err != nil {
		l.Close()
		return nil, nil, fmt.Errorf("listen on UDP: %w", err)
	}
	return []net.PacketConn{p}, l, nil
}
