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
