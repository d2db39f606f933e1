package ingress

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"skep/generator/stack"
	"skep/internal/polltest"
	"skep/internal/porttest"
)

// set reads labels from lines "key: value".
func set(service, lines string) stack.LabelSet {
	ref, err := stack.ParseServiceRef(service)
	if err != nil {
		panic(err)
	}
	labels := map[string]string{}
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line != "" {
			key, value, _ := strings.Cut(line, ":")
			labels[key] = strings.TrimSpace(value)
		}
	}
	return stack.LabelSet{Service: ref, Labels: labels}
}

// running is a Caddy that serves label sets on loopback.
type running struct {
	t           testing.TB
	http, https string // listen addresses
}

// run starts Caddy with the configuration that the labels give. Every service
// answers "<stack_service>:<port> <method> <uri>" and echoes its request's
// headers as Got-*; a service named "down" refuses connections.
func run(t testing.TB, sets ...stack.LabelSet) *running {
	t.Helper()
	caddyfile, refusals := Caddyfile(sets)
	if len(refusals) > 0 {
		t.Fatalf("refused: %v", refusals)
	}
	if refused := (Offline{}).Refusals(t.Context(), sets); len(refused) > 0 {
		t.Fatalf("refused offline: %v", refused)
	}
	config, _, err := Adapt(caddyfile)
	if err != nil {
		t.Fatalf("adapt: %v\n%s", err, caddyfile)
	}

	r := &running{t: t, http: porttest.Address(t), https: porttest.Address(t)}
	var tree map[string]any
	if err := json.Unmarshal(config, &tree); err != nil {
		t.Fatal(err)
	}
	silence(tree)
	tree["storage"] = map[string]any{"module": "file_system", "root": t.TempDir()}
	tree["admin"] = map[string]any{"disabled": true, "config": map[string]any{"persist": false}}
	r.relisten(tree)
	backends{t, map[string]string{}}.redirect(tree)
	local, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	var cfg caddy.Config
	if err := json.Unmarshal(local, &cfg); err != nil {
		t.Fatal(err)
	}

	caddyMu.Lock()
	t.Cleanup(caddyMu.Unlock)
	if err := caddy.Run(&cfg); err != nil {
		t.Fatalf("run: %v\n%s", err, caddyfile)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// relisten moves the servers to loopback.
func (r *running) relisten(tree map[string]any) {
	apps := tree["apps"].(map[string]any)
	app := apps["http"].(map[string]any)
	for _, s := range app["servers"].(map[string]any) {
		s := s.(map[string]any)
		if l := s["listen"].([]any)[0].(string); l == ":80" {
			s["listen"] = []string{r.http}
		} else {
			s["listen"] = []string{r.https}
		}
	}
}

// awaitCertificate waits until Caddy has issued a certificate, which it does
// after it started.
func (r *running) awaitCertificate(host string) {
	r.t.Helper()
	dialer := tls.Dialer{Config: &tls.Config{ServerName: host, InsecureSkipVerify: true}}
	polltest.Until(r.t, func() error {
		c, err := dialer.DialContext(r.t.Context(), "tcp", r.https)
		if err != nil {
			return fmt.Errorf("no certificate for %s: %w", host, err)
		}
		return c.Close()
	})
}

type backends struct {
	t    testing.TB
	real map[string]string
}

// redirect points every upstream at a backend of its own.
func (b backends) redirect(node any) {
	switch node := node.(type) {
	case []any:
		for _, child := range node {
			b.redirect(child)
		}
	case map[string]any:
		if dial, ok := node["dial"].(string); ok {
			node["dial"] = b.start(dial)
		}
		for _, child := range node {
			b.redirect(child)
		}
	}
}

func (b backends) start(name string) string {
	if address, ok := b.real[name]; ok {
		return address
	}
	if strings.Contains(name, "down") {
		b.real[name] = porttest.Address(b.t)
		return b.real[name]
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for key := range r.Header {
			w.Header().Set("Got-"+key, r.Header.Get(key))
		}
		if strings.HasPrefix(name, "authentik") {
			if r.Header.Get("Cookie") == "" {
				w.WriteHeader(http.StatusUnauthorized)
			}
			w.Header().Set("X-Authentik-Username", "bee")
		}
		w.Header().Set("X-Powered-By", "honey")
		w.Header().Set("Location", "http://inside/"+r.Host)
		io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s %s %s", name, r.Method, r.RequestURI)
	}))
	b.t.Cleanup(server.Close)
	b.real[name] = server.Listener.Addr().String()
	return b.real[name]
}

type answer struct {
	*http.Response
	text string
}

// do sends "METHOD URL" to the ingress, with headers "Name: value".
func (r *running) do(method, url string, headers ...string) answer {
	return r.send(method, url, nil, headers...)
}

func (r *running) send(method, url string, body io.Reader, headers ...string) answer {
	r.t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), method, url, body)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		request.Header.Set(name, value)
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			address := r.http
			if request.URL.Scheme == "https" {
				address = r.https
			}
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		},
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer{response, string(text)}
}

func (r *running) want(got answer, status int, text string) {
	r.t.Helper()
	if got.StatusCode != status || !strings.Contains(got.text, text) {
		r.t.Errorf("%s %s: got %d %q, want %d with %q", got.Request.Method, got.Request.URL, got.StatusCode, got.text, status, text)
	}
}

func (r *running) wantHeader(got answer, name, value string) {
	r.t.Helper()
	if v := got.Header.Get(name); v != value {
		r.t.Errorf("%s: got %s: %q, want %q", got.Request.URL, name, v, value)
	}
}
