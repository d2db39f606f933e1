package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"skep/internal/swarmtest"
)

// edgeStack has a stand-in for cloudflared, a host for one client and a host
// with a certificate.
const edgeStack = `
name: edge
services:
  cloudflared:
    image: ghcr.io/skep-sh/whoami:0.1.0
    x-uses: [proxy_network]
    healthcheck: &health {test: [CMD, /whoami, -healthcheck], interval: 5s}
    mem_limit: 64m
  web:
    image: ghcr.io/skep-sh/whoami:0.1.0
    x-ingress:
      - {host: guarded, port: 8080, allow: [198.51.100.7]}
      - {host: quic, zone: secure, port: 8080}
    healthcheck: *health
    mem_limit: 64m
`

// edgeCluster adds what the stack needs to the examples' cluster file.
var edgeCluster = strings.NewReplacer(
	"zones:\n", "tunnel: {id: 6ff42ae2-765d-4adf-8112-31c55c1551ef, service: edge/cloudflared}\nzones:\n  secure: {domain: secure.test}\n",
	`tls: {internal: {mode: "off"}}`, `tls: {internal: {mode: "off"}, secure: {mode: internal}}`)

// edge is a Swarm with a generated ingress.
type edge struct {
	*swarmtest.Swarm
	t *testing.T
}

// container waits for the only container of a service.
func (e *edge) container(service string) string {
	e.t.Helper()
	var id string
	e.eventually(func() error {
		out, err := e.Docker("ps", "-q", "--no-trunc", "-f", "label=com.docker.swarm.service.name="+service)
		id = strings.TrimSpace(out)
		if err == nil && len(id) != 64 {
			err = fmt.Errorf("containers of %s: %q", service, id)
		}
		return err
	})
	return id
}

func (e *edge) eventually(f func() error) {
	e.t.Helper()
	if err := swarmtest.Poll(5*time.Minute, f); err != nil {
		logs, _ := e.Docker("service", "logs", "--raw", "--tail", "50", "ingress_caddy")
		e.t.Fatalf("%v\n%s", err, logs)
	}
}

// ingressAddress is where containers of the proxy network find the ingress.
func (e *edge) ingressAddress() string {
	e.t.Helper()
	return docker(e.t, e.Swarm, "inspect", "-f", "{{.NetworkSettings.Networks.proxy_network.IPAddress}}", e.container("ingress_caddy"))
}

// get asks as a container would, or as a neighbour of the node if there is none.
func (e *edge) get(container, address, host, path string, header http.Header) (int, string, error) {
	request, err := http.NewRequestWithContext(e.t.Context(), http.MethodGet, "http://"+host+path, nil)
	if err != nil {
		return 0, "", err
	}
	request.Header = header
	var response *http.Response
	if container == "" {
		response, err = e.Do(request)
	} else {
		transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return e.DialFrom(ctx, container, network, address)
		}}
		response, err = (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Do(request)
	}
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// The address that Cloudflare names is the client's for the tunnel alone; from
// anybody else, on the same network too, the header says nothing.
func (e *edge) clientAddress() {
	claims := func(address string) http.Header { return http.Header{"Cf-Connecting-Ip": {address}} }
	ingress := net.JoinHostPort(e.ingressAddress(), "80")
	tunnel, neighbour := e.container("edge_cloudflared"), e.container("app_web")
	ask := func(from, address string) error {
		status, body, err := e.get(from, ingress, "guarded.localhost", "/", claims(address))
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("got %d %q", status, body)
		}
		return err
	}
	e.eventually(func() error { return ask(tunnel, "198.51.100.7") })
	for name, c := range map[string]struct{ from, address string }{
		"the tunnel's other client": {tunnel, "198.51.100.8"},
		"a service on the network":  {neighbour, "198.51.100.7"},
		"a client from outside":     {"", "198.51.100.7"},
	} {
		e.eventually(func() error {
			err := ask(c.from, c.address)
			switch {
			case err == nil:
				e.t.Errorf("%s is let in where 198.51.100.7 alone is", name)
			case strings.HasPrefix(err.Error(), "got 403"):
				err = nil
			}
			return err
		})
	}
}

// connected is a socket that knows its peer, for code that names it each time.
type connected struct{ net.Conn }

func (c connected) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := c.Read(b)
	return n, c.RemoteAddr(), err
}

func (c connected) WriteTo(b []byte, _ net.Addr) (int, error) { return c.Write(b) }

func (e *edge) http3() {
	const host = "quic.secure.test"
	tunnel, ingress := e.container("edge_cloudflared"), net.JoinHostPort(e.ingressAddress(), "443")
	e.eventually(func() error {
		conn, err := e.DialFrom(e.t.Context(), tunnel, "udp", ingress)
		if err != nil {
			return err
		}
		defer conn.Close()
		socket := &quic.Transport{Conn: connected{conn}}
		defer socket.Close()
		transport := &http3.Transport{
			TLSClientConfig: &tls.Config{ServerName: host, InsecureSkipVerify: true}, // of a CA that the ingress has made
			Dial: func(ctx context.Context, _ string, tlsConfig *tls.Config, config *quic.Config) (*quic.Conn, error) {
				return socket.DialEarly(ctx, conn.RemoteAddr(), tlsConfig, config)
			},
		}
		defer transport.Close()
		client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
		response, err := client.Get("https://" + host + "/over-quic")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err == nil && (response.ProtoMajor != 3 || response.StatusCode != http.StatusOK || !strings.Contains(string(body), "Request: GET /over-quic\n")) {
			err = fmt.Errorf("got %s %s %q", response.Proto, response.Status, body)
		}
		return err
	})
}

// A host stays with the stack that had it first, whoever else asks for it.
func (e *edge) hijack() {
	docker(e.t, e.Swarm, "service", "create", "--detach", "--no-resolve-image", "--name", "thief_web", "--network", "proxy_network",
		"--label", "com.docker.stack.namespace=thief",
		"--label", "caddy_0=http://app.localhost", "--label", "caddy_0.respond=stolen",
		"--label", "caddy_1=http://thief.localhost", "--label", "caddy_1.respond=own",
		"ghcr.io/skep-sh/whoami:0.1.0")
	e.answers("thief.localhost", "own")
	for range 20 {
		status, body, err := e.HTTP("app.localhost", "/x")
		if err != nil || status != http.StatusOK || !strings.Contains(body, "Request: GET /x\n") {
			e.t.Fatalf("the host of another stack answers %d %q, error %v", status, body, err)
		}
	}
	e.eventually(func() error { // it is counted when Caddy has loaded, a second after the site is served
		_, metrics, err := e.get(e.container("ingress_caddy"), "127.0.0.1:2020", "status", "/metrics", nil)
		if want := `skep_ingress_refused{rule="claim",service="thief_web",stack="thief"} 1`; err == nil && !strings.Contains(metrics, want) {
			err = fmt.Errorf("%s is not in the metrics", want)
		}
		return err
	})
}

func (e *edge) answers(host, want string) {
	e.t.Helper()
	e.eventually(func() error {
		status, body, err := e.HTTP(host, "/")
		if err == nil && (status != http.StatusOK || !strings.Contains(body, want)) {
			err = fmt.Errorf("%s: got %d %q, want %q", host, status, body, want)
		}
		return err
	})
}

// While the engine is away the last good configuration serves; once it is
// back, so are the sites, and labels count again.
func (e *edge) engineRestart() {
	if err := e.KillEngine(); err != nil {
		e.t.Fatal(err)
	}
	for range 5 {
		if status, body, err := e.HTTP("whoami.localhost", "/"); err != nil || status != http.StatusOK {
			e.t.Errorf("without the engine: %d %q, error %v", status, body, err)
		}
	}
	if err := e.Restart(); err != nil {
		e.t.Fatal(err)
	}
	e.answers("whoami.localhost", "Host: whoami.localhost\n")
	e.eventually(func() error { // a Swarm that has just started has no leader yet
		_, err := e.Docker("service", "update", "--detach", "--no-resolve-image", "--label-add", "caddy_1.respond=later", "thief_web")
		return err
	})
	e.answers("thief.localhost", "later")
}
