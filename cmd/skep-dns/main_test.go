package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	mdns "github.com/miekg/dns"

	"skep/internal/logtest"
	"skep/internal/polltest"
	"skep/internal/swarmtest"
	"skep/services/dns/dnstest"
)

const zonesFile = `cluster: homelab
zones:
  - {name: internal, domain: in.example.com, provider: skep, private: true, target: node1.in.example.com,
     records: [{name: node1.in.example.com, type: A, content: 10.0.0.11}]}
  - {name: public, domain: example.com, provider: cloudflare, target: tunnel-id.cfargotunnel.com, proxied: true, records: []}
`

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dns.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// start runs the command until stop is called, or the test ends.
func start(t *testing.T, args ...string) (log *logtest.Buffer, stop func()) {
	t.Helper()
	log = &logtest.Buffer{}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, args, strings.NewReader(""), io.Discard, log) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if code := <-ended; code != exitDone {
			t.Errorf("exit code %d\n%s", code, log)
		}
	})
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("it said:\n%s", log)
		}
	})
	return log, stop
}

func resolves(t *testing.T, server *dnstest.Server, name, want string) {
	t.Helper()
	polltest.Until(t, func() error {
		answer, err := server.Ask(name, mdns.TypeA)
		if err != nil {
			return err
		}
		got := mdns.RcodeToString[answer.Rcode]
		for _, rr := range answer.Answer {
			if a, ok := rr.(*mdns.A); ok {
				got = a.A.String()
			}
		}
		if got != want {
			return fmt.Errorf("%s is %s, want %s", name, got, want)
		}
		return nil
	})
}

// relay passes connections on to a Swarm's engine until it is cut.
type relay struct {
	addr, to string
	mu       sync.Mutex
	listener net.Listener
	conns    []net.Conn
	closed   bool
	done     sync.WaitGroup
}

func newRelay(t *testing.T, host string) *relay {
	t.Helper()
	r := &relay{addr: "127.0.0.1:" + dnstest.FreePort(t), to: strings.TrimPrefix(host, "unix://")}
	r.open(t)
	t.Cleanup(r.cut)
	return r
}

func (r *relay) open(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	r.listener = l
	r.mu.Lock()
	r.closed = false
	r.mu.Unlock()
	r.done.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", r.to)
			if err != nil {
				in.Close()
				continue
			}
			r.mu.Lock()
			closed := r.closed
			r.conns = append(r.conns, in, out)
			r.mu.Unlock()
			if closed {
				in.Close()
				out.Close()
				continue
			}
			r.done.Go(func() { io.Copy(out, in); out.Close() })
			r.done.Go(func() { io.Copy(in, out); in.Close() })
		}
	})
}

func (r *relay) cut() {
	r.listener.Close()
	r.mu.Lock()
	r.closed = true
	for _, c := range r.conns {
		c.Close()
	}
	r.conns = nil
	r.mu.Unlock()
	r.done.Wait()
}

func create(t *testing.T, s *swarmtest.Swarm, name string, labels ...string) {
	t.Helper()
	args := []string{"service", "create", "--detach", "--no-resolve-image", "--replicas", "0", "--name", name}
	for _, l := range labels {
		args = append(args, "--label", l)
	}
	if _, err := s.Docker(append(args, "example.org/app:1")...); err != nil {
		t.Fatal(err)
	}
}

// One Swarm for all, for it takes long to start.
func TestSwarm(t *testing.T) {
	swarm := swarmtest.Start(t)
	docker := newRelay(t, swarm.Host())
	t.Setenv("DOCKER_HOST", "tcp://"+docker.addr)
	t.Run("serve", func(t *testing.T) { serveSwarm(t, swarm, docker) })
	t.Run("sync", func(t *testing.T) { syncSwarm(t, swarm, docker) })
}

func serveSwarm(t *testing.T, swarm *swarmtest.Swarm, docker *relay) {
	port, web, state := dnstest.FreePort(t), dnstest.FreePort(t), t.TempDir()
	args := []string{"serve", "-zones", write(t, zonesFile), "-listen", "127.0.0.1:" + port, "-http", "127.0.0.1:" + web, "-grace", "1s", "-state", state}
	_, stop := start(t, args...)
	server := &dnstest.Server{Addr: "127.0.0.1:" + port, Zone: "in.example.com."}
	resolves(t, server, "node1.in.example.com", "10.0.0.11")
	resolves(t, server, "app.in.example.com", "NXDOMAIN")
	create(t, swarm, "web_app", "caddy=app.in.example.com", "com.docker.stack.namespace=web")
	resolves(t, server, "app.in.example.com", "10.0.0.11")
	// A host that the zone cannot hold, and one that is taken, hurt nobody else.
	create(t, swarm, "evil_app", "caddy=in.example.com node1.in.example.com", "caddy_1=other.in.example.com", "com.docker.stack.namespace=evil")
	resolves(t, server, "other.in.example.com", "10.0.0.11")
	resolves(t, server, "node1.in.example.com", "10.0.0.11")

	docker.cut()
	polltest.Until(t, func() error {
		if code := run(t.Context(), []string{"healthcheck", "-http", ":" + web}, nil, io.Discard, io.Discard); code != exitDone {
			return fmt.Errorf("healthcheck: %d", code)
		}
		return nil
	})
	metrics := get(t, "http://127.0.0.1:"+web+"/metrics")
	for _, want := range []string{`skep_dns_queries_total{proto="tcp",rcode="NOERROR"}`, `skep_dns_zone_serial{zone="in.example.com."}`, "skep_dns_last_list_timestamp_seconds 1."} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	before, err := server.Serial()
	if err != nil {
		t.Fatal(err)
	}
	// It serves what it knew when it starts without the API.
	stop()
	_, stop = start(t, args...)
	resolves(t, server, "app.in.example.com", "10.0.0.11")
	if after, err := server.Serial(); err != nil || after != before {
		t.Errorf("serial %d, then %d (%v)", before, after, err)
	}
	docker.open(t)
	if _, err := swarm.Docker("service", "rm", "web_app", "evil_app"); err != nil {
		t.Fatal(err)
	}
	resolves(t, server, "app.in.example.com", "NXDOMAIN")
	resolves(t, server, "node1.in.example.com", "10.0.0.11")
	stop()
	if code := run(t.Context(), []string{"healthcheck", "-http", ":" + web}, nil, io.Discard, io.Discard); code != exitFailed {
		t.Errorf("healthcheck of nobody: %d", code)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func syncSwarm(t *testing.T, swarm *swarmtest.Swarm, docker *relay) {
	fake := dnstest.NewCloudflare(t, "example.com")
	t.Setenv("CLOUDFLARE_API_URL", fake.URL)
	t.Setenv("CLOUDFLARE_API_TOKEN", fake.Token)
	web := dnstest.FreePort(t)
	fake.AddTunnel("account", "tunnel-id", "cloudflare", `{"ingress":[{"hostname":"ssh.example.com","service":"ssh://host:22"},{"service":"http_status:404"}]}`)
	t.Setenv("CLOUDFLARE_ACCOUNT_ID", "account")
	log, stop := start(t, "sync", "-zones", write(t, zonesFile), "-http", "127.0.0.1:"+web, "-grace", "1s", "-tunnel-origin", "https://ingress_caddy")
	records := func(want ...string) {
		t.Helper()
		polltest.Until(t, func() error {
			got := fake.Comments()
			for _, name := range want {
				if !strings.HasPrefix(got[name], "skep=homelab owner=web/") {
					return fmt.Errorf("%s has the comment %q", name, got[name])
				}
			}
			if len(got) != len(want) {
				return fmt.Errorf("records %v, want %v", got, want)
			}
			return nil
		})
	}
	tunneled := func(want ...string) {
		t.Helper()
		polltest.Until(t, func() error {
			config, _ := fake.TunnelConfig("account", "tunnel-id")
			var c struct{ Ingress []map[string]any }
			if err := json.Unmarshal([]byte(config), &c); err != nil {
				return err
			}
			var got []string
			for _, r := range c.Ingress {
				got = append(got, fmt.Sprint(r["hostname"], " ", r["service"], " ", r["originRequest"]))
			}
			if !slices.Equal(got, append(want, "ssh.example.com ssh://host:22 <nil>", "<nil> http_status:404 <nil>")) {
				return fmt.Errorf("rules %q", got)
			}
			return nil
		})
	}
	ruleA := "a.example.com https://ingress_caddy map[noTLSVerify:true originServerName:a.example.com]"
	create(t, swarm, "web_a", "caddy=a.example.com a.in.example.com", "caddy.tls=internal", "com.docker.stack.namespace=web")
	records("a.example.com")
	tunneled(ruleA)
	docker.cut() // a proxy that restarts: what cannot be seen stays
	create(t, swarm, "web_b", "caddy=b.example.com", "com.docker.stack.namespace=web")
	polltest.Until(t, func() error {
		if !strings.Contains(log.String(), "lost the Docker API") {
			return fmt.Errorf("it has not noticed")
		}
		return nil
	})
	records("a.example.com")
	docker.open(t)
	records("a.example.com", "b.example.com")
	ruleB := "b.example.com https://ingress_caddy map[originServerName:b.example.com]"
	tunneled(ruleA, ruleB)
	if _, err := swarm.Docker("service", "rm", "web_a"); err != nil {
		t.Fatal(err)
	}
	records("b.example.com")
	tunneled(ruleB)
	var status map[string]struct{ Error *string }
	if err := json.Unmarshal([]byte(get(t, "http://127.0.0.1:"+web+"/status")), &status); err != nil || len(status) != 2 || status["public"].Error != nil || status["tunnel/tunnel-id"].Error != nil {
		t.Errorf("status %v: %v", status, err)
	}
	if metrics := get(t, "http://127.0.0.1:"+web+"/metrics"); !strings.Contains(metrics, `skep_dns_last_sync_timestamp_seconds{zone="tunnel/tunnel-id"}`) {
		t.Errorf("no tunnel in the metrics")
	}
	stop()
	if strings.Contains(log.String(), fake.Token) {
		t.Error("the log shows the token")
	}

	// Once, and dry: the service is gone, the plan says so, and nothing happens.
	if _, err := swarm.Docker("service", "rm", "web_b"); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if code := run(t.Context(), []string{"sync", "-once", "-dry-run", "-grace", "0", "-zones", write(t, zonesFile)}, nil, &out, log); code != exitDone || !strings.Contains(out.String(), `"action": "remove"`) {
		t.Errorf("exit code %d\n%s", code, &out)
	}
	records("b.example.com")
}

func TestRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		env  map[string]string
		code int
		says string
	}{
		"no command":      {nil, nil, exitUsage, "Usage:"},
		"another command": {[]string{"dance"}, nil, exitUsage, "Usage:"},
		"help":            {[]string{"--help"}, nil, exitDone, "Example:"},
		"no pause":        {[]string{"serve", "-resync", "0"}, nil, exitUsage, "-resync"},
		"a short pause":   {[]string{"sync", "-resync", "999ms"}, nil, exitUsage, "-resync"},
		"negative grace":  {[]string{"sync", "-grace", "-1s"}, nil, exitUsage, "-grace is"},
		"a plain origin":  {[]string{"sync", "-tunnel-origin", "http://ingress_caddy"}, nil, exitUsage, "-tunnel-origin"},
		"tunnel, once":    {[]string{"sync", "-once", "-tunnel-origin", "https://ingress_caddy"}, nil, exitUsage, "skep tunnel sync"},
		"an argument":     {[]string{"serve", "x"}, nil, exitUsage, "Usage:"},
		"no file":         {[]string{"serve", "-zones", "/nowhere"}, nil, exitFailed, "no such file"},
		"no cluster":      {[]string{"serve", "-zones", write(t, "zones: []")}, nil, exitFailed, "the cluster has no name"},
		"a misspelt key":  {[]string{"serve", "-zones", write(t, "cluster: c\nzones: []\nzone: []")}, nil, exitFailed, "zone"},
		"no zone":         {[]string{"serve", "-zones", write(t, "cluster: c\nzones: []")}, nil, exitFailed, "no zone of the file has the provider skep"},
		"no token":        {[]string{"sync", "-zones", write(t, zonesFile)}, nil, exitFailed, "CLOUDFLARE_API_TOKEN_FILE"},
		"no key":          {[]string{"serve", "-zones", write(t, zonesFile), "-secondary", "127.0.0.1:53"}, nil, exitFailed, "SKEP_DNS_TSIG_NAME is not set"},
		"no secret":       {[]string{"serve", "-zones", write(t, zonesFile)}, map[string]string{"SKEP_DNS_TSIG_NAME": "key"}, exitFailed, "SKEP_DNS_TSIG_SECRET is not set"},
		"no account":      {[]string{"sync", "-zones", write(t, zonesFile), "-tunnel-origin", "https://ingress_caddy"}, map[string]string{"CLOUDFLARE_API_TOKEN": "t"}, exitFailed, "CLOUDFLARE_ACCOUNT_ID is not set"},
		"no tunnel": {[]string{"sync", "-zones", write(t, "cluster: c\nzones: [{name: z, domain: example.com, provider: cloudflare, target: 192.0.2.1}]"), "-tunnel-origin", "https://ingress_caddy"},
			map[string]string{"CLOUDFLARE_API_TOKEN": "t", "CLOUDFLARE_ACCOUNT_ID": "a"}, exitFailed, "no zone of"},
		"a bad network":   {[]string{"serve", "-zones", write(t, zonesFile), "-allow", "everybody"}, nil, exitFailed, "-allow"},
		"a broken record": {[]string{"serve", "-zones", write(t, "cluster: c\nzones: [{name: z, domain: example.com, provider: skep, records: [{name: a.example.com, type: A, content: x}]}]")}, nil, exitFailed, "not an IPv4 address"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("DOCKER_HOST", "")
			for k, v := range test.env {
				t.Setenv(k, v)
			}
			var stderr bytes.Buffer
			if code := run(t.Context(), test.args, nil, io.Discard, &stderr); code != test.code || !strings.Contains(stderr.String(), test.says) {
				t.Errorf("exit code %d, want %d; says %s", code, test.code, &stderr)
			}
		})
	}
}
