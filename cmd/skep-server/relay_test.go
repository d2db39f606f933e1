//go:build stack

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"skep/internal/swarmtest"
)

// relay is where containers find the GitHub of a test, which listens on
// loopback: at a node's address, with TLS.
type relay struct {
	url         string // of the API, with a slash at the end
	certificate []byte // PEM, of who signs the relay's
	api         atomic.Pointer[url.URL]
}

func newRelay(t *testing.T, n *swarmtest.Node, archives string) *relay {
	t.Helper()
	pair, authority := certify(t, net.ParseIP(n.Address))
	r := &relay{certificate: authority}
	var listeners [2]net.Listener
	for i := range listeners {
		l, err := n.Listen(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		listeners[i] = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	}
	r.url = "https://" + listeners[0].Addr().String() + "/"
	load := "https://" + listeners[1].Addr().String()
	// Answers name the addresses that the test itself uses.
	outside := func(answer *http.Response) error {
		for _, name := range []string{"Location", "Link"} {
			if v := answer.Header.Get(name); v != "" {
				v = strings.ReplaceAll(v, r.api.Load().String(), r.url)
				answer.Header.Set(name, strings.ReplaceAll(v, "http://"+archives, load))
			}
		}
		return nil
	}
	for i, target := range []func() *url.URL{r.api.Load, func() *url.URL { return &url.URL{Scheme: "http", Host: archives} }} {
		server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: &httputil.ReverseProxy{
			Rewrite:        func(p *httputil.ProxyRequest) { p.SetURL(target()) },
			ModifyResponse: outside,
		}}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = server.Serve(listeners[i]) // it always ends with an error, after Close
		}()
		t.Cleanup(func() {
			_ = server.Shutdown(context.Background())
			<-done
		})
	}
	return r
}

// open says where the API is.
func (r *relay) open(raw string) {
	u, err := url.Parse(raw)
	if err != nil {
		panic(err)
	}
	r.api.Store(u)
}

// certify makes a certificate for an address, and who signs it.
func certify(t *testing.T, ip net.IP) (pair tls.Certificate, authority []byte) {
	t.Helper()
	var keys [2]*ecdsa.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	signer := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	root, err := x509.CreateCertificate(rand.Reader, signer, signer, &keys[0].PublicKey, keys[0])
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: signer.NotBefore, NotAfter: signer.NotAfter, IPAddresses: []net.IP{ip},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	signed, err := x509.CreateCertificate(rand.Reader, leaf, signer, &keys[1].PublicKey, keys[0])
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{signed}, PrivateKey: keys[1]}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root})
}
