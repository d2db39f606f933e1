package controller

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/quic-go/quic-go/http3"
)

// TestReloadLosesNoConnection opens connections as fast as it can while Caddy
// loads one configuration after the other.
func TestReloadLosesNoConnection(t *testing.T) {
	h := newHarness(t)
	h.settings.Handover = caddy.Duration(2 * time.Second)
	h.put("a_web", "a", nil, site("a.example.com", "a"))
	h.start()
	h.want("a.example.com", "/", 200, "a")

	var asked, lost atomic.Int64
	var clients sync.WaitGroup
	done := make(chan struct{})
	stop := sync.OnceFunc(func() { close(done); clients.Wait() })
	defer stop()
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				asked.Add(1)
				if err := h.is("a.example.com", "/", 200, "a"); err != nil && lost.Add(1) == 1 {
					t.Error(err)
				}
			}
		})
	}
	for i := range 8 {
		before := caddy.ActiveContext().Context
		h.put("b_web", "b", nil, site(fmt.Sprintf("b%d.example.com", i), "b"))
		h.want(fmt.Sprintf("b%d.example.com", i), "/", 200, "b")
		h.loaded(before)
	}
	stop()
	if lost.Load() > 0 {
		t.Errorf("%d of %d requests were lost", lost.Load(), asked.Load())
	}
}

// TestHandover holds a connection on which nothing was sent, and an idle one,
// while a new configuration takes over.
func TestHandover(t *testing.T) {
	h := newHarness(t)
	h.settings.Handover = caddy.Duration(8 * time.Second)
	h.put("a_web", "a", nil, site("a.example.com", "a"))
	h.start()
	h.want("a.example.com", "/", 200, "a")
	silent, idle := h.dial(), h.dial()
	if response := idle.ask("a.example.com"); response.StatusCode != 200 || response.Close {
		t.Errorf("before: %s, close %v", response.Status, response.Close)
	}
	h.put("b_web", "b", nil, site("b.example.com", "b"))
	h.want("b.example.com", "/", 200, "b")
	if response := h.dial().ask("a.example.com"); response.StatusCode != 200 || response.Close {
		t.Errorf("on a new connection: %s, close %v", response.Status, response.Close)
	}
	h.eventually(func() error { // the servers before are told a moment after the new ones serve
		if response := idle.ask("a.example.com"); response.StatusCode != 200 || !response.Close {
			return fmt.Errorf("idle: %s, close %v", response.Status, response.Close)
		}
		return nil
	})
	if response := silent.ask("a.example.com"); response.StatusCode != 200 || !response.Close {
		t.Errorf("silent: %s, close %v", response.Status, response.Close)
	}
}

// TestHandoverOfAllAnswers asks servers that leave for what no site answers: the
// page for unknown hosts, and the one for an upstream that is away.
func TestHandoverOfAllAnswers(t *testing.T) {
	h := newHarness(t)
	h.settings.Handover = caddy.Duration(8 * time.Second)
	away := h.service("away_web", "away", nil, "caddy: http://away.example.com\ncaddy.reverse_proxy: {{upstreams PORT}}")
	h.engine.Put(noTasks(away))
	h.start()
	answers := map[string]int{"unknown.example.com": 404, "away.example.com": 503}
	idle := map[string]*connection{}
	for host, status := range answers {
		h.eventually(func() error {
			got, _, _, err := h.get(host, "/")
			if err == nil && got != status {
				err = fmt.Errorf("%s: got %d, want %d", host, got, status)
			}
			return err
		})
		idle[host] = h.dial()
		if response := idle[host].ask(host); response.StatusCode != status || response.Close {
			t.Errorf("before, %s: %s, close %v", host, response.Status, response.Close)
		}
	}
	before := caddy.ActiveContext().Context
	h.put("b_web", "b", nil, site("b.example.com", "b"))
	h.want("b.example.com", "/", 200, "b")
	h.loaded(before)
	for host, status := range answers {
		h.eventually(func() error {
			if response := idle[host].ask(host); response.StatusCode != status || !response.Close {
				return fmt.Errorf("%s: %s, close %v", host, response.Status, response.Close)
			}
			return nil
		})
	}
}

// A delay that Caddy would wait out before anything else changes is refused like
// any other global option, and what was said before stays.
func TestWrongHandover(t *testing.T) {
	h := newHarness(t)
	_, port, _ := net.SplitHostPort(h.http)
	options := func(delay string) {
		h.put("ingress_caddy", "ingress", map[string]string{"skep.ingress.trusted": "true"}, "caddy_0.http_port: "+port+
			"\ncaddy_0.auto_https: off\ncaddy_0.log.output: discard\ncaddy_0.shutdown_delay: "+delay)
	}
	options("100ms")
	h.put("a_web", "a", nil, site("a.example.com", "a"))
	h.start()
	h.want("a.example.com", "/", 200, "a")
	for i, delay := range []string{"soon", "-5s", "61s", "1000h"} {
		options(delay)
		h.refused("ingress_caddy", "adapt", "")
		h.now("a.example.com", "/", 200, "a")
		h.put("b_web", "b", nil, site(fmt.Sprintf("b%d.example.com", i), delay))
		h.want(fmt.Sprintf("b%d.example.com", i), "/", 200, delay)
		options("100ms")
		h.eventually(func() error {
			if n := len(h.statusOf().Refused); n > 0 {
				return fmt.Errorf("%d are refused", n)
			}
			return nil
		})
	}
}

// TestHandoverOfHTTP3 asks on one QUIC connection all the while: Connection,
// which tells older clients to leave, would make an answer malformed there.
func TestHandoverOfHTTP3(t *testing.T) {
	h := newHarness(t)
	h.settings.Handover = caddy.Duration(500 * time.Millisecond)
	address := h.secure()
	h.put("a_web", "a", nil, "caddy: a.example.com\ncaddy.respond: secret")
	h.start()
	quic := &http3.Transport{TLSClientConfig: &tls.Config{ServerName: "a.example.com", InsecureSkipVerify: true}}
	defer quic.Close()
	ask := func() error {
		status, body, err := getTLS(quic, address, "a.example.com")
		if err == nil && (status != 200 || body != "secret") {
			err = fmt.Errorf("got %d %q", status, body)
		}
		return err
	}
	h.eventually(ask)
	before := caddy.ActiveContext().Context
	h.put("b_web", "b", nil, site("b.example.com", "b"))
	h.eventually(func() error {
		if err := ask(); err != nil {
			t.Fatal(err)
		}
		if caddy.ActiveContext().Context == before {
			return errors.New("Caddy loaded nothing, this proves nothing")
		}
		return nil
	})
}

// connection is one to the ingress, for one request after the other.
type connection struct {
	net.Conn
	t    testing.TB
	read *bufio.Reader
}

func (h *harness) dial() *connection {
	h.t.Helper()
	conn, err := net.Dial("tcp", h.http)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		h.t.Fatal(err)
	}
	return &connection{conn, h.t, bufio.NewReader(conn)}
}

func (c *connection) ask(host string) *http.Response {
	c.t.Helper()
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host)
	response, err := http.ReadResponse(c.read, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		c.t.Fatal(err)
	}
	return response
}
