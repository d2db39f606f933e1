package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

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
