package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"skep/services/deploy"
)

// hostLook sees what people who open a host see: where its name leads, and the
// certificate that is there.
type hostLook struct {
	lookup func(ctx context.Context, host string) ([]string, error)
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	roots  *x509.CertPool // nil for the system's
	now    func() time.Time
}

func newHostLook() hostLook {
	return hostLook{lookup: lookupAtZone, dial: (&net.Dialer{}).DialContext, now: time.Now}
}

// fill looks at the hosts of all stacks, each once.
func (h hostLook) fill(ctx context.Context, status *deploy.Status) {
	seen := map[string]*deploy.HostStatus{}
	slots := make(chan struct{}, hostsAtOnce)
	var group sync.WaitGroup
	for _, host := range servedHosts(*status) {
		state := &deploy.HostStatus{Host: host}
		seen[host] = state
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, hostPatience)
			defer cancel()
			h.one(ctx, state)
		})
	}
	group.Wait()
	for i, s := range status.Stacks {
		for _, host := range servedHosts(deploy.Status{Stacks: []deploy.StackStatus{s}}) {
			status.Stacks[i].Hosts = append(status.Stacks[i].Hosts, *seen[host])
		}
	}
}

func (h hostLook) one(ctx context.Context, s *deploy.HostStatus) {
	addresses, err := h.lookup(ctx, s.Host)
	if err != nil {
		s.DNS = err.Error()
		return
	}
	s.Addresses = addresses
	conn, err := h.dial(ctx, "tcp", net.JoinHostPort(addresses[0], "443"))
	if err != nil {
		s.Certificate = "does not answer: " + err.Error()
		return
	}
	defer conn.Close()
	// Verified by hand below: when one that is not valid ends is worth knowing too.
	client := tls.Client(conn, &tls.Config{ServerName: s.Host, InsecureSkipVerify: true})
	if err := client.HandshakeContext(ctx); err != nil {
		s.Certificate = "makes no TLS connection: " + err.Error()
		return
	}
	chain := client.ConnectionState().PeerCertificates
	s.Expires = chain[0].NotAfter.UTC()
	options := x509.VerifyOptions{DNSName: s.Host, Roots: h.roots, Intermediates: x509.NewCertPool(), CurrentTime: h.now()}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(options); err != nil {
		s.Certificate = "is not valid: " + err.Error()
	} else if s.Expires.Sub(h.now()) < certificateIn {
		s.Certificate = "should have been renewed by now"
	}
}

// lookupAtZone asks a server of the host's zone, which knows of a change before
// anybody else does, and the system's resolver where the zone cannot say: its
// servers are out of reach, or the name leads into another zone.
func lookupAtZone(ctx context.Context, host string) ([]string, error) {
	for zone := host; strings.Contains(zone, "."); _, zone, _ = strings.Cut(zone, ".") {
		servers, err := net.DefaultResolver.LookupNS(ctx, zone+".")
		if err != nil || len(servers) == 0 {
			continue
		}
		if out, err := lookupAt(ctx, net.JoinHostPort(servers[0].Host, "53"), host); err == nil {
			return out, nil
		}
		break
	}
	out, err := net.DefaultResolver.LookupHost(ctx, host)
	slices.Sort(out)
	return out, err
}

// lookupAt asks one server.
func lookupAt(ctx context.Context, server, host string) ([]string, error) {
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, server)
	}}
	out, err := resolver.LookupHost(ctx, host+".")
	if err == nil && len(out) == 0 {
		err = errors.New("no address")
	}
	slices.Sort(out)
	return out, err
}
