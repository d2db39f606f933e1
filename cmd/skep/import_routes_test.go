package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"skep/generator/importer"
	"skep/generator/stack"
	"skep/internal/porttest"
	"skep/services/ingress"
)

// sameRoutes runs a Caddy for the labels before and then one for those after,
// and sends both the same requests: to every host, at every path that one of
// them tells apart, from inside and outside of their allow lists, logged in
// and not.
func sameRoutes(t *testing.T, before, after []stack.LabelSet, notes []importer.Note) {
	t.Helper()
	b := &backends{real: map[string]string{}, services: map[string]string{}}
	t.Cleanup(b.close)
	for _, sets := range [][]stack.LabelSet{before, after} {
		for _, s := range sets {
			name := string(s.Service.Stack) + "_" + string(s.Service.Service)
			b.services[string(s.Service.Service)], b.services["tasks."+name] = name, name
		}
	}
	was, is := adapted(t, "before", before, b), adapted(t, "after", after, b)
	probes := probesOf(was, is)
	want, got := answers(t, was, probes), answers(t, is, probes)
	failed := 0
	for i, p := range probes {
		why := got[i].unlike(want[i])
		if why != "" && got[i].status == http.StatusForbidden && refusesNow(notes, before, p.host) {
			continue
		}
		if why != "" {
			if failed++; failed <= 10 {
				t.Errorf("%s: %s\nbefore: %s\nafter:  %s", p, why, want[i], got[i])
			}
		}
	}
	if failed > 10 {
		t.Errorf("and %d more of %d requests", failed-10, len(probes))
	}
	t.Logf("%d requests to %d hosts", len(probes), len(hostsOf(probes)))
}

// refusesNow reports whether the importer has said that a refusal of the host
// works now that did nothing before.
func refusesNow(notes []importer.Note, before []stack.LabelSet, host string) bool {
	return slices.ContainsFunc(notes, func(n importer.Note) bool {
		return strings.Contains(n.Why, "after the handles") && slices.ContainsFunc(before, func(s stack.LabelSet) bool {
			return string(s.Service.Service) == n.Service && slices.ContainsFunc(slices.Collect(maps.Values(s.Labels)), func(v string) bool { return strings.Contains(v, host) })
		})
	})
}

// tree is Caddy's configuration.
type tree = map[string]any

// adapted makes of labels a configuration that runs here: plain HTTP on
// loopback, every upstream one of ours.
func adapted(t *testing.T, when string, sets []stack.LabelSet, b *backends) tree {
	t.Helper()
	caddyfile, refusals := ingress.Caddyfile(sets)
	if len(bytes.TrimSpace(caddyfile)) == 0 {
		return tree{}
	}
	for _, r := range refusals {
		t.Fatalf("%s: %s: %s: %v", when, r.Service, r.Label, r.Err)
	}
	config, _, err := ingress.Adapt(caddyfile)
	if err != nil {
		t.Fatalf("adapt %s: %v\n%s", when, err, caddyfile)
	}
	var out tree
	if err := json.Unmarshal(config, &out); err != nil {
		t.Fatal(err)
	}
	b.redirect(out)
	for _, s := range serversOf(out) {
		for _, key := range []string{"tls_connection_policies", "logs"} {
			delete(s, key)
		}
		s["automatic_https"] = tree{"disable": true}
		s["trusted_proxies"] = tree{"source": "static", "ranges": []string{"127.0.0.0/8"}}
		s["client_ip_headers"] = []string{"X-Forwarded-For"}
	}
	apps, _ := out["apps"].(tree)
	maps.DeleteFunc(apps, func(name string, _ any) bool { return name != "http" })
	out["logging"] = tree{"logs": tree{"default": tree{"writer": tree{"output": "discard"}}}}
	out["storage"] = tree{"module": "file_system", "root": t.TempDir()}
	out["admin"] = tree{"disabled": true, "config": tree{"persist": false}}
	return out
}

func serversOf(config tree) map[string]tree {
	out := map[string]tree{}
	apps, _ := config["apps"].(tree)
	app, _ := apps["http"].(tree)
	servers, _ := app["servers"].(tree)
	for _, s := range servers {
		s := s.(tree)
		out[s["listen"].([]any)[0].(string)] = s
	}
	return out
}

// backends answer for the services.
type backends struct {
	real     map[string]string // address by the name in the configuration
	services map[string]string // the Swarm's name by the service's
	servers  []*httptest.Server
}

func (b *backends) close() {
	for _, s := range b.servers {
		s.Close()
	}
}

// redirect walks a configuration: upstreams become ours, and addresses that
// are matched are those that the client says it has.
func (b *backends) redirect(node any) {
	switch node := node.(type) {
	case []any:
		for _, child := range node {
			b.redirect(child)
		}
	case tree:
		if node["handler"] == "reverse_proxy" {
			prefix := ""
			if transport, ok := node["transport"].(tree); ok {
				if _, secure := transport["tls"]; secure {
					prefix = "https+"
				}
				if _, versions := transport["versions"]; versions {
					prefix += "h2c+"
				}
				delete(transport, "tls")
				delete(transport, "versions")
			}
			upstreams, _ := node["upstreams"].([]any)
			for _, u := range upstreams {
				u := u.(tree)
				u["dial"] = b.start(prefix, u["dial"].(string))
			}
			delete(node, "health_checks")
		}
		if ranges, ok := node["remote_ip"]; ok {
			node["client_ip"] = ranges
			delete(node, "remote_ip")
		}
		for _, child := range node {
			b.redirect(child)
		}
	}
}

func (b *backends) start(prefix, dial string) string {
	host, port, _ := strings.Cut(dial, ":")
	if full, ok := b.services[host]; ok {
		host = full
	}
	name := prefix + host + ":" + port
	if address, ok := b.real[name]; ok {
		return address
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if strings.HasPrefix(r.RequestURI, "/outpost.goauthentik.io/auth") {
			if r.Header.Get("Cookie") == "" {
				w.Header().Set("Location", loginPage)
				w.WriteHeader(http.StatusFound)
				return
			}
			w.Header().Set("X-Authentik-Username", "bee")
			return
		}
		w.Header().Set("X-Powered-By", "honey")
		for name, values := range r.Header {
			if !strings.HasPrefix(name, "X-Forwarded-") && name != "Accept-Encoding" && name != "Via" {
				w.Header().Set("Got-"+name, strings.Join(values, ","))
			}
		}
		fmt.Fprintf(w, "%s %s %s %s", name, r.Method, r.Host, r.RequestURI)
	}))
	b.servers = append(b.servers, s)
	b.real[name] = s.Listener.Addr().String()
	return b.real[name]
}

const loginPage = "https://login.example.com/"

// answer is what a client sees.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) String() string { return fmt.Sprintf("%d %q %v", a.status, a.body, a.header) }

// unlike says how the answer differs from what it was. Headers may come on
// top: the security headers of the ingress, more of what a login tells.
func (a answer) unlike(was answer) string {
	switch {
	case was.status == http.StatusOK && was.body == "" && a.status == http.StatusNotFound:
		return "" // Caddy's empty page where nobody answers is an error now
	case a.status == http.StatusForbidden && (was.status == 0 || was.status == http.StatusFound && was.header.Get("Location") == loginPage):
		return "" // who was cut off, or sent to the login first, is told
	case a.status != was.status:
		return "the status differs"
	case a.body != was.body && was.status == http.StatusOK:
		return "somebody else answers"
	}
	for name := range was.header {
		if a.header.Get(name) != was.header.Get(name) && !slices.Contains([]string{"Date", "Server", "Content-Length"}, name) {
			return "header " + name + " differs"
		}
	}
	return ""
}

// caddies keeps to one Caddy a process.
var caddies sync.Mutex

// answers runs a configuration and asks it.
func answers(t *testing.T, config tree, probes []probe) []answer {
	t.Helper()
	out := make([]answer, len(probes))
	if len(serversOf(config)) == 0 {
		return out
	}
	caddies.Lock()
	defer caddies.Unlock()
	addresses := map[string]string{}
	for listen, s := range serversOf(config) {
		addresses[listen] = porttest.Address(t)
		s["listen"] = []string{addresses[listen]}
	}
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	var cfg caddy.Config
	if err := json.Unmarshal(raw, &cfg); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Run(&cfg); err != nil {
		t.Fatalf("run: %v\n%s", err, raw)
	}
	defer func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	}()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	for i, p := range probes {
		if address, ok := addresses[p.listen]; ok {
			out[i] = ask(t, client, address, p)
		}
	}
	return out
}

func ask(t *testing.T, client *http.Client, address string, p probe) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+p.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = p.host
	maps.Copy(request.Header, p.header)
	request.Header.Set("X-Forwarded-For", p.client)
	if p.loggedIn {
		request.Header.Set("Cookie", "authentik_proxy=1")
	}
	response, err := client.Do(request)
	if errors.Is(err, io.EOF) {
		return answer{} // `abort`
	}
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(body)}
}
