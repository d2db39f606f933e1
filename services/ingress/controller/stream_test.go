package controller

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"skep/services/ingress/route"
)

// stream is an upgraded connection through the ingress to the echo backend.
type stream struct {
	net.Conn
	read *bufio.Reader
}

func (h *harness) upgrade(host string) *stream {
	h.t.Helper()
	conn, err := net.Dial("tcp", h.http)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", host)
	s := &stream{conn, bufio.NewReader(conn)}
	response, err := http.ReadResponse(s.read, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		h.t.Fatalf("upgrade: %v %v", response, err)
	}
	return s
}

// echo sends a line and wants it back.
func (s *stream) echo(line string) error {
	if err := s.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(s, line); err != nil {
		return err
	}
	got, err := s.read.ReadString('\n')
	if err == nil && got != line+"\n" {
		err = fmt.Errorf("got %q, want %q", got, line)
	}
	return err
}

func TestStreamsSurvive(t *testing.T) {
	h := newHarness(t)
	h.put("a_web", "a", nil, "caddy: http://a.example.com\ncaddy.reverse_proxy: {{upstreams PORT}}")
	h.put("b_web", "b", nil, site("b.example.com", "one"))
	h.start()
	h.want("a.example.com", "/", 200, "127.0.0.1")
	s := h.upgrade("a.example.com")
	if err := s.echo("first"); err != nil {
		t.Fatal(err)
	}
	t.Run("a change of another site", func(t *testing.T) {
		h.put("b_web", "b", nil, site("b.example.com", "two"))
		h.want("b.example.com", "/", 200, "two")
		if err := s.echo("second"); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a new site, for which Caddy loads all", func(t *testing.T) {
		before := caddy.ActiveContext().Context
		h.put("c_web", "c", nil, site("c.example.com", "c"))
		h.want("c.example.com", "/", 200, "c")
		h.loaded(before)
		if err := s.echo("third"); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a change of its own site", func(t *testing.T) {
		h.put("a_web", "a", nil, site("a.example.com", "other"))
		h.want("a.example.com", "/", 200, "other")
		if err := s.echo("fourth"); err != nil {
			t.Fatal(err)
		}
	})
	if route.Sites.Draining() == 0 {
		t.Error("nothing drains while the stream is open")
	}
	s.Close()
	h.eventually(func() error {
		if n := route.Sites.Draining(); n != 0 {
			return fmt.Errorf("%d versions drain", n)
		}
		return nil
	})
}
