package controller

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"skep/internal/porttest"
)

// secure makes the ingress listen for HTTPS too, with certificates of its own.
func (h *harness) secure() (address string) {
	h.t.Helper()
	address = porttest.Address(h.t)
	port := func(a string) string { return a[strings.LastIndex(a, ":")+1:] }
	h.put("ingress_caddy", "ingress", map[string]string{"skep.ingress.trusted": "true"},
		"caddy_0.http_port: "+port(h.http)+"\ncaddy_0.https_port: "+port(address)+"\ncaddy_0.skip_install_trust:\ncaddy_0.local_certs:\n"+
			"caddy_0.log.output: discard\ncaddy_0.storage: file_system "+h.t.TempDir())
	return address
}

func getTLS(transport http.RoundTripper, address, host string) (int, string, error) {
	request, err := http.NewRequest(http.MethodGet, "https://"+address+"/", nil)
	if err != nil {
		return 0, "", err
	}
	request.Host = host
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

func TestHTTPS(t *testing.T) {
	h := newHarness(t)
	address := h.secure()
	h.put("a_web", "a", nil, "caddy: a.example.com\ncaddy.respond: secret")
	h.put("b_web", "b", nil, "caddy: http://b.example.com\ncaddy.respond: plain")
	h.start()
	config := &tls.Config{ServerName: "a.example.com", InsecureSkipVerify: true}
	secure := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, ForceAttemptHTTP2: true}
	h.eventually(func() error {
		status, body, err := getTLS(secure, address, "a.example.com")
		if err == nil && (status != 200 || body != "secret") {
			err = fmt.Errorf("got %d %q", status, body)
		}
		return err
	})
	t.Run("HTTP/3", func(t *testing.T) {
		quic := &http3.Transport{TLSClientConfig: config}
		defer quic.Close()
		h.eventually(func() error {
			status, _, err := getTLS(quic, address, "a.example.com")
			if err == nil && status != 200 {
				err = fmt.Errorf("got %d", status)
			}
			return err
		})
	})
	t.Run("known hosts are redirected", func(t *testing.T) {
		_, _, header, err := h.get("a.example.com", "/x")
		if err != nil || !strings.HasPrefix(header.Get("Location"), "https://a.example.com") {
			t.Errorf("got Location %q, error %v", header.Get("Location"), err)
		}
	})
	t.Run("plain hosts are not", func(t *testing.T) { h.now("b.example.com", "/", 200, "plain") })
	t.Run("unknown hosts get a 404", func(t *testing.T) {
		h.now("unknown.example.com", "/", 404, "nothing at this address")
		status, _, err := getTLS(secure, address, "unknown.example.com")
		if err != nil || status != 404 {
			t.Errorf("got %d, error %v", status, err)
		}
	})
	t.Run("the certificate is in the status", func(t *testing.T) {
		h.eventually(func() error {
			for _, s := range h.statusOf().Sites {
				for _, c := range s.Certificates {
					if c.Host == "a.example.com" && !c.Expires.IsZero() {
						return nil
					}
				}
			}
			return fmt.Errorf("no certificate of a.example.com")
		})
	})
}

func TestClientAddressFromTheTunnelAlone(t *testing.T) {
	h := newHarness(t)
	port := h.http[strings.LastIndex(h.http, ":")+1:]
	h.put("ingress_caddy", "ingress", map[string]string{"skep.ingress.trusted": "true"},
		"caddy_0.http_port: "+port+"\ncaddy_0.auto_https: off\ncaddy_0.servers.trusted_proxies: skep_service tunnel_cloudflared 127.0.0.32/28\ncaddy_0.servers.client_ip_headers: Cf-Connecting-Ip")
	tunnel := h.service("tunnel_cloudflared", "tunnel", nil, "")
	tunnel.Tasks = []string{"127.0.0.9"}
	h.engine.Put(tunnel)
	h.put("a_web", "a", nil, "caddy: http://a.example.com\ncaddy.respond: {client_ip}")
	h.start()
	ask := func(from string) string {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialer.DialContext}}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+h.http, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "a.example.com"
		request.Header.Set("Cf-Connecting-Ip", "198.51.100.7")
		response, err := client.Do(request)
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return err.Error()
		}
		return string(body)
	}
	h.want("a.example.com", "/", 200, "127.0.0.1")
	for from, want := range map[string]string{"127.0.0.1": "127.0.0.1", "127.0.0.9": "198.51.100.7", "127.0.0.33": "198.51.100.7", "127.0.0.48": "127.0.0.48"} {
		if got := ask(from); got != want {
			t.Errorf("from %s: got %s, want %s", from, got, want)
		}
	}
	h.engine.MoveTasks("tunnel_cloudflared", "127.0.0.1")
	h.eventually(func() error {
		if got := ask("127.0.0.1"); got != "198.51.100.7" {
			return fmt.Errorf("the tunnel is not believed: %s", got)
		}
		if got := ask("127.0.0.9"); got != "127.0.0.9" {
			return fmt.Errorf("where the tunnel was is still believed: %s", got)
		}
		return nil
	})
}

func TestStatusAndMetrics(t *testing.T) {
	h := newHarness(t)
	h.put("a_web", "a", nil, "caddy: http://a.example.com\ncaddy.reverse_proxy: {{upstreams PORT}}")
	h.put("b_web", "b", nil, "caddy: http://b.example.com\ncaddy.respond: {env.<b>HOME</b>}")
	h.start()
	h.want("a.example.com", "/", 200, "127.0.0.1")
	h.refused("b_web", "env", "caddy.respond")
	s := h.statusOf() // the page had an answer just now
	if len(s.Sites) != 1 || s.Sites[0].Stack != "a" || len(s.Sites[0].Upstreams) != 1 || !s.Sites[0].Upstreams[0].Healthy || s.Docker != "connected" {
		t.Errorf("got %+v", s)
	}
	page := h.fetch("/")
	for _, want := range []string{"http://a.example.com", "127.0.0.1:" + h.backend, "caddy.respond", "&lt;b&gt;HOME"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not on the page:\n%s", want, page)
		}
	}
	metrics := h.fetch("/metrics")
	for _, want := range []string{"skep_ingress_sites 1", `skep_ingress_refused{rule="env",service="b_web",stack="b"} 1`, "skep_ingress_docker_connected 1", "caddy_http_requests_total"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("%q is not in the metrics", want)
		}
	}
}

// Whoever has a wildcard does not get the visitors of a host whose stack is
// being deployed anew.
func TestWildcardOfAnotherStack(t *testing.T) {
	h := newHarness(t)
	h.put("a_web", "a", nil, site("a.example.com", "a"))
	h.put("w_all", "w", nil, site("*.example.com", "all"))
	h.start()
	h.want("a.example.com", "/", 200, "a")
	h.want("b.example.com", "/", 200, "all")
	h.engine.Remove("a_web")
	h.want("a.example.com", "/", 503, "Back in a moment.")
	h.now("b.example.com", "/", 200, "all")
	h.put("a_web", "a", nil, site("a.example.com", "a again"))
	h.want("a.example.com", "/", 200, "a again")
}
