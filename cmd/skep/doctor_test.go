package main

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"skep/generator/problem"
	"skep/secrets/onepassword"
	"skep/secrets/secretstest"
	"skep/services/deploy"
)

func TestHostsAreLookedAt(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler()) // its certificate is for example.com
	server.Config.ErrorLog = quiet
	server.StartTLS()
	defer server.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	end := server.Certificate().NotAfter
	h := hostChecker{roots: roots, now: time.Now, dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		switch address {
		case "nowhere.example.com:443":
			return nil, &net.DNSError{Err: "no such host", Name: "nowhere.example.com", IsNotFound: true}
		case "away.example.com:443":
			return nil, fmt.Errorf("connection refused")
		case "plain.example.com:443":
			return (&net.Dialer{}).DialContext(ctx, network, plain.Listener.Addr().String())
		}
		return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
	}}
	old := h
	old.now = func() time.Time { return end.Add(-time.Hour) }
	over := h
	over.now = func() time.Time { return end.Add(time.Hour) }
	strange := h
	strange.roots = x509.NewCertPool()
	for _, c := range []struct {
		checker hostChecker
		hosts   string
		verdict deploy.Verdict
		text    string
	}{
		{h, "example.com www.example.com", deploy.Fine, "2 hosts"},
		{h, "example.com other.test", deploy.Broken, "other.test has a certificate that is not valid"},
		{strange, "example.com", deploy.Broken, "not valid"},
		{over, "example.com", deploy.Broken, "not valid"},
		{old, "example.com", deploy.Warning, "until " + end.UTC().Format(time.DateOnly)},
		{h, "nowhere.example.com", deploy.Warning, "has no address"},
		{h, "away.example.com", deploy.Warning, "does not answer"},
		{h, "plain.example.com", deploy.Warning, "no TLS connection"},
	} {
		got := c.checker.check(t.Context(), strings.Fields(c.hosts))
		if len(got) != 1 || got[0].Verdict != c.verdict || !strings.Contains(got[0].Text, c.text) || (c.verdict == deploy.Fine) != (got[0].Remedy == "") {
			t.Errorf("%s: got %+v", c.hosts, got)
		}
	}
}

func TestServedHosts(t *testing.T) {
	status := deploy.Status{Stacks: []deploy.StackStatus{{Services: []deploy.ServiceStatus{
		{Hosts: []string{"b.example.com", "https://a.example.com", "http://c.example.com", "*.example.com", ":80", "b.example.com", "(snippet)"}},
	}}}}
	if got := servedHosts(status); !slices.Equal(got, []string{"a.example.com", "b.example.com"}) {
		t.Errorf("got %q", got)
	}
}

func TestStatusOfHosts(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler()) // its certificate is for example.com
	server.Config.ErrorLog = quiet
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	end := server.Certificate().NotAfter.UTC()
	h := hostLook{roots: roots, now: time.Now,
		lookup: func(_ context.Context, host string) ([]string, error) {
			switch host {
			case "none.test":
				return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
			case "away.test":
				return []string{"192.0.2.2"}, nil
			}
			return []string{"192.0.2.1"}, nil
		},
		dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if address != "192.0.2.1:443" {
				return nil, fmt.Errorf("connection refused")
			}
			return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
		}}
	status := deploy.Status{Stacks: []deploy.StackStatus{
		{Stack: "a", Services: []deploy.ServiceStatus{{Service: "a_x", Hosts: []string{"example.com", "other.test", "away.test"}}}},
		{Stack: "b", Services: []deploy.ServiceStatus{{Service: "b_x", Hosts: []string{"example.com", "none.test", "http://plain.test"}}}},
	}}
	h.fill(t.Context(), &status)
	var out strings.Builder
	if err := status.WriteText(&out, problem.Paint{}, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"example.com  192.0.2.1  certificate until " + end.Format(time.DateOnly) + "\n", "away.test    192.0.2.2", "does not answer: connection refused",
		"none.test    no address: lookup none.test: no such host", "is not valid: x509: certificate is valid for example.com",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it lacks %q:\n%s", want, &out)
		}
	}
	if n := len(status.Stacks[1].Hosts); n != 2 {
		t.Errorf("stack b has %d hosts", n)
	}
	h.now = func() time.Time { return end.Add(-time.Hour) }
	old := deploy.HostStatus{Host: "example.com"}
	if h.one(t.Context(), &old); old.Certificate != "should have been renewed by now" {
		t.Errorf("got %+v", old)
	}
}

// A token that is over is found before a rotation needs it.
func TestConnectIsLookedAt(t *testing.T) {
	claims := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"exp": %d}`, time.Now().Add(-48*time.Hour).Unix()))
	for name, c := range map[string]struct {
		token   string
		change  func(*secretstest.Connect)
		verdict deploy.Verdict
		text    string
	}{
		"all is well": {connectToken, func(c *secretstest.Connect) { c.Vault("a"); c.Vault("b") }, deploy.Fine, "its token may read 2 vaults"},
		"no token":    {"", func(*secretstest.Connect) {}, deploy.Fine, "there is no token here"},
		"expired":     {"x." + claims + ".x", func(*secretstest.Connect) {}, deploy.Warning, "the Connect token expired on "},
		"not ready":   {connectToken, func(c *secretstest.Connect) { c.NotReady("sync", "TOKEN_NEEDED") }, deploy.Warning, "sync: TOKEN_NEEDED"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(onepassword.TokenVariable, c.token)
			t.Setenv(onepassword.TokenFileVariable, "")
			server := secretstest.NewConnect(connectToken)
			c.change(server)
			f := lookAtConnect(t.Context(), secretstest.Start(t, server))
			if f.Verdict != c.verdict || !strings.Contains(f.Text, c.text) || (c.verdict == deploy.Fine) != (f.Remedy == "") {
				t.Errorf("got %+v", f)
			}
		})
	}
	t.Setenv(onepassword.TokenVariable, connectToken)
	if f := lookAtConnect(t.Context(), "http://127.0.0.1:1"); f.Verdict != deploy.Warning || !strings.Contains(f.Text, "cannot be reached") || f.Remedy == "" {
		t.Errorf("away: got %+v", f)
	}
}

// A server of the zone is asked itself.
func TestLookupAt(t *testing.T) {
	packet, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	server := &mdns.Server{PacketConn: packet, NotifyStartedFunc: func() { close(ready) }, Handler: mdns.HandlerFunc(func(w mdns.ResponseWriter, q *mdns.Msg) {
		answer := new(mdns.Msg).SetReply(q)
		answer.Authoritative = true
		switch {
		case q.Question[0].Name != "app.example.com.":
			answer.Rcode = mdns.RcodeNameError
		case q.Question[0].Qtype == mdns.TypeA:
			answer.Answer = []mdns.RR{&mdns.A{Hdr: mdns.RR_Header{Name: "app.example.com.", Rrtype: mdns.TypeA, Class: mdns.ClassINET}, A: net.IPv4(192, 0, 2, 7)}}
		}
		w.WriteMsg(answer)
	})}
	served := make(chan error, 1)
	go func() { served <- server.ActivateAndServe() }()
	<-ready
	t.Cleanup(func() {
		if err := errors.Join(server.Shutdown(), <-served); err != nil {
			t.Error(err)
		}
	})
	got, err := lookupAt(t.Context(), packet.LocalAddr().String(), "app.example.com")
	if err != nil || !slices.Equal(got, []string{"192.0.2.7"}) {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := lookupAt(t.Context(), packet.LocalAddr().String(), "none.example.com"); err == nil {
		t.Error("a name that is not there has an address")
	}
}
