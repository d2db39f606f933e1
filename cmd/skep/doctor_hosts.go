package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"skep/services/deploy"
)

// hostChecker looks at hosts as a browser does: their name, and their certificate.
type hostChecker struct {
	dial  func(ctx context.Context, network, address string) (net.Conn, error)
	roots *x509.CertPool // nil for the system's
	now   func() time.Time
}

// Limits of the checks of hosts.
const (
	hostPatience  = 5 * time.Second
	hostsAtOnce   = 8
	certificateIn = 14 * 24 * time.Hour // until its end, when it is not renewed as it should
)

// check judges all hosts; where all is well it says so once.
func (h hostChecker) check(ctx context.Context, hosts []string) []deploy.Finding {
	findings := make([]*deploy.Finding, len(hosts))
	slots := make(chan struct{}, hostsAtOnce)
	var group sync.WaitGroup
	for i, host := range hosts {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			findings[i] = h.one(ctx, host)
		})
	}
	group.Wait()
	var out []deploy.Finding
	for _, f := range findings {
		if f != nil {
			out = append(out, *f)
		}
	}
	if len(out) == 0 && len(hosts) > 0 {
		out = append(out, deploy.Finding{Check: "hosts", Verdict: deploy.Fine, Text: fmt.Sprintf("%d hosts answer, with certificates that are valid", len(hosts))})
	}
	return out
}

// one is what is wrong with a host, nil for nothing.
func (h hostChecker) one(ctx context.Context, host string) *deploy.Finding {
	ctx, cancel := context.WithTimeout(ctx, hostPatience)
	defer cancel()
	found := func(verdict deploy.Verdict, remedy, format string, args ...any) *deploy.Finding {
		return &deploy.Finding{Check: "hosts", Verdict: verdict, Text: host + " " + fmt.Sprintf(format, args...), Remedy: remedy}
	}
	conn, err := h.dial(ctx, "tcp", net.JoinHostPort(host, "443"))
	var unknown *net.DNSError
	switch {
	case errors.As(err, &unknown):
		return found(deploy.Warning, "`skep dns plan` shows which records are missing; a private zone needs its own name server", "has no address: %v", err)
	case err != nil:
		return found(deploy.Warning, "a host may be reachable from elsewhere; look at the ingress, its ports and the firewall", "does not answer: %v", err)
	}
	defer conn.Close()
	client := tls.Client(conn, &tls.Config{ServerName: host, RootCAs: h.roots, Time: h.now})
	if err := client.HandshakeContext(ctx); err != nil {
		var invalid *tls.CertificateVerificationError
		if errors.As(err, &invalid) {
			return found(deploy.Broken, "the log of the ingress says why it has no other: `skep logs` shows it", "has a certificate that is not valid: %v", invalid.Err)
		}
		return found(deploy.Warning, "look at the log of the ingress", "makes no TLS connection: %v", err)
	}
	end := client.ConnectionState().PeerCertificates[0].NotAfter
	if end.Sub(h.now()) < certificateIn {
		return found(deploy.Warning, "it should have been renewed by now; the log of the ingress says why it is not", "has a certificate until %s", end.UTC().Format(time.DateOnly))
	}
	return nil
}

// servedHosts are the hosts that the ingress serves with TLS: those that are
// plain names.
func servedHosts(s deploy.Status) []string {
	var out []string
	for _, st := range s.Stacks {
		for _, service := range st.Services {
			for _, host := range service.Hosts {
				host = strings.TrimPrefix(host, "https://")
				if strings.Contains(host, ".") && !strings.ContainsAny(host, ":/*{}()") {
					out = append(out, host)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
