package dnstest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"skep/internal/polltest"
	"skep/internal/porttest"
	"skep/internal/processtest"
	"skep/networks"
)

// The TSIG key of the tests.
const (
	Key       = "skep-test."
	Algorithm = "hmac-sha256"
	Secret    = "c2tlcC10ZXN0LXNlY3JldC1vZi1ub2JvZHktMDEyMzQ1"
)

// patience is with servers that write to a busy disk first.
const patience = 30 * time.Second

// Server is a real DNS server that serves one zone on a port of its own.
type Server struct {
	Addr string // host:port
	Zone string // ends with a dot
	stop func()
}

// Stop ends the server before the test does.
func (s *Server) Stop() { s.stop() }

// Need finds a program, or ends the test: it skips on a laptop and fails in CI.
func Need(t testing.TB, name, deb string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path
		}
	}
	if os.Getenv("SKEP_NO_SKIP") == "1" {
		t.Fatalf("this test needs %s: apt-get install %s", name, deb)
	}
	t.Skipf("this test needs %s: apt-get install %s", name, deb)
	return ""
}

// FreePort is a port of 127.0.0.1 that is free for UDP and TCP.
func FreePort(t testing.TB) string {
	t.Helper()
	for range 20 {
		address := porttest.Address(t)
		if u, err := net.ListenPacket("udp", address); err == nil {
			u.Close()
			_, port, _ := net.SplitHostPort(address)
			return port
		}
	}
	t.Fatal("no port is free for both UDP and TCP")
	return ""
}

const emptyZone = `$ORIGIN %[1]s
$TTL 300
@ SOA ns hostmaster 1 3600 600 604800 300
@ NS ns
ns A 127.0.0.1
`

// baseSize is what an empty zone holds beside its SOA and NS records.
const baseSize = 1

// Knot runs knotd as the primary of a zone that Key may update and transfer.
func Knot(t testing.TB, zone string) *Server {
	t.Helper()
	return knot(t, zone, emptyZone, `
  - id: key
    address: 127.0.0.1
    key: `+Key+`
    action: [update, transfer]
  - id: anybody
    address: 127.0.0.1
    action: query
`, "", "acl: [key, anybody]\n    journal-content: all\n    zonefile-sync: -1")
}

// KnotSecondary runs knotd as a secondary of a primary that asks for Key.
func KnotSecondary(t testing.TB, zone, port, primary string) *Server {
	t.Helper()
	host, masterPort, err := net.SplitHostPort(primary)
	if err != nil {
		t.Fatal(err)
	}
	return knotOn(t, zone, port, "", `
  - id: notify
    address: 127.0.0.1
    key: `+Key+`
    action: notify
`, "remote:\n  - id: primary\n    address: "+host+"@"+masterPort+"\n    key: "+Key+"\n", "acl: notify\n    master: primary")
}

// KnotServing runs knotd with a whole zone file, for anybody to ask.
func KnotServing(t testing.TB, zone, content string) *Server {
	t.Helper()
	return knot(t, zone, content, "\n  - id: anybody\n    address: 127.0.0.1\n    action: query\n", "", "acl: anybody")
}

func knot(t testing.TB, zone, content, acl, remotes, options string) *Server {
	t.Helper()
	return knotOn(t, zone, FreePort(t), content, acl, remotes, options)
}

func knotOn(t testing.TB, zone, port, content, acl, remotes, options string) *Server {
	t.Helper()
	knotd := Need(t, "knotd", "knot")
	dir := t.TempDir()
	if content != "" {
		if strings.Contains(content, "%[1]s") {
			content = fmt.Sprintf(content, zone)
		}
		write(t, filepath.Join(dir, "zone"), content)
	}
	config := filepath.Join(dir, "knot.conf")
	write(t, config, fmt.Sprintf(`server:
    rundir: %[1]s
    listen: 127.0.0.1@%[2]s
    udp-workers: 2
    tcp-workers: 2
    background-workers: 2
log:
  - target: stderr
    any: warning
database:
    storage: %[1]s
    journal-db-max-size: 20M
    timer-db-max-size: 5M
    kasp-db-max-size: 5M
    catalog-db-max-size: 5M
key:
  - id: %[3]s
    algorithm: %[4]s
    secret: %[5]s
%[8]sacl:%[6]szone:
  - domain: %[7]s
    storage: %[1]s
    file: zone
    semantic-checks: off
    %[9]s
`, dir, port, Key, Algorithm, Secret, acl, zone, remotes, options))
	s := &Server{Addr: "127.0.0.1:" + port, Zone: zone}
	s.stop = run(t, exec.Command(knotd, "-c", config))
	if content != "" {
		s.wait(t)
	}
	return s
}

const bindConfig = `options {
	directory %[1]q;
	listen-on port %[2]s { 127.0.0.1; };
	listen-on-v6 { none; };
	pid-file none;
	session-keyfile none;
	managed-keys-directory %[1]q;
	recursion no;
	notify no;
	dnssec-validation no;
	allow-query { 127.0.0.1; };
};
controls { };
key %[3]q { algorithm %[4]s; secret %[5]q; };
`

// BIND runs named as the primary of a zone that Key may update and transfer.
func BIND(t testing.TB, zone string) *Server {
	t.Helper()
	return bind(t, zone, FreePort(t), fmt.Sprintf(emptyZone, zone),
		fmt.Sprintf("type primary; file %q; allow-update { key %q; }; allow-transfer { key %q; };", "zone", Key, Key))
}

// BINDSecondary runs named as a secondary of a primary that asks for Key.
func BINDSecondary(t testing.TB, zone, port, primary string) *Server {
	t.Helper()
	host, masterPort, err := net.SplitHostPort(primary)
	if err != nil {
		t.Fatal(err)
	}
	return bind(t, zone, port, "", fmt.Sprintf(
		"type secondary; file %q; primaries { %s port %s key %q; }; allow-notify { key %q; }; request-ixfr yes;", "zone", host, masterPort, Key, Key))
}

func bind(t testing.TB, zone, port, content, options string) *Server {
	t.Helper()
	named := Need(t, "named", "bind9")
	dir := t.TempDir()
	if content != "" {
		write(t, filepath.Join(dir, "zone"), content)
	}
	config := filepath.Join(dir, "named.conf")
	write(t, config, fmt.Sprintf(bindConfig, dir, port, Key, Algorithm, Secret)+fmt.Sprintf("zone %q { %s };\n", zone, options))
	s := &Server{Addr: "127.0.0.1:" + port, Zone: zone}
	s.stop = run(t, exec.Command(named, "-g", "-c", config, "-n", "2"))
	if content != "" {
		s.wait(t)
	}
	return s
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run starts a process that ends with the test.
func run(t testing.TB, cmd *exec.Cmd) func() {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	server, err := processtest.Start(cmd, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	stop := func() {
		if err := server.End(syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() {
		stop()
		if content, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(cmd.Path), content[max(0, len(content)-4000):])
		}
		log.Close()
	})
	return stop
}

// wait until the server answers for its zone.
func (s *Server) wait(t testing.TB) {
	t.Helper()
	polltest.Until(t, func() error {
		_, err := s.Serial()
		return err
	})
}

// Serial is the serial of the zone's SOA record.
func (s *Server) Serial() (uint32, error) {
	answer, err := s.Ask(s.Zone, mdns.TypeSOA)
	if err != nil {
		return 0, err
	}
	for _, rr := range answer.Answer {
		if soa, ok := rr.(*mdns.SOA); ok {
			return soa.Serial, nil
		}
	}
	return 0, fmt.Errorf("%s has no SOA of %s: %s", s.Addr, s.Zone, mdns.RcodeToString[answer.Rcode])
}

// Ask sends a question over TCP.
func (s *Server) Ask(name string, kind uint16) (*mdns.Msg, error) {
	m := new(mdns.Msg)
	m.SetQuestion(mdns.Fqdn(name), kind)
	answer, _, err := (&mdns.Client{Net: "tcp", Timeout: patience}).Exchange(m, s.Addr)
	return answer, err
}

// Transfer reads the whole zone, but for SOA and NS at its top and ns's address.
func (s *Server) Transfer(t testing.TB) []mdns.RR {
	t.Helper()
	m := new(mdns.Msg)
	m.SetAxfr(s.Zone)
	m.SetTsig(Key, mdns.Fqdn(Algorithm), 300, time.Now().Unix())
	transfer := &mdns.Transfer{DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience, TsigSecret: map[string]string{Key: Secret}}
	envelopes, err := transfer.In(m, s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	var out []mdns.RR
	for e := range envelopes {
		if e.Error != nil {
			err = e.Error
		}
		for _, rr := range e.RR {
			kind := rr.Header().Rrtype
			if kind != mdns.TypeSOA && kind != mdns.TypeNS {
				out = append(out, rr)
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Size is how many records a person or a cluster has put into the zone.
func (s *Server) Size(t testing.TB) int { return len(s.Transfer(t)) - baseSize }

// Insert puts a record into the zone as a person does with nsupdate.
func (s *Server) Insert(t testing.TB, r networks.Record) {
	t.Helper()
	content := r.Content
	switch r.Type {
	case networks.CNAME:
		content += "."
	case networks.TXT:
		content = fmt.Sprintf("%q", content)
	}
	rr, err := mdns.NewRR(fmt.Sprintf("%s. 300 IN %s %s", r.Name, r.Type, content))
	if err != nil {
		t.Fatal(err)
	}
	m := new(mdns.Msg)
	m.SetUpdate(s.Zone)
	m.Insert([]mdns.RR{rr})
	m.SetTsig(Key, mdns.Fqdn(Algorithm), 300, time.Now().Unix())
	answer, _, err := (&mdns.Client{Net: "tcp", Timeout: patience, TsigSecret: map[string]string{Key: Secret}}).Exchange(m, s.Addr)
	if err != nil || answer.Rcode != mdns.RcodeSuccess {
		t.Fatalf("insert %s: %v %v", rr, err, answer)
	}
}
